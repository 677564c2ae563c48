"""The cases of Kubernetes' own NetworkPolicy suite (sig-network Netpol): each a file of policies with its truth table.

A file of `netpol` begins with its tables, `# PROTOCOL/PORT [n] SOURCES > DESTINATIONS; …`: every source listed is
blocked to every destination, everything else is allowed, `*` is everybody and n the number of blocked pairs of the 72.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import cast

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.manifests.edit import merge
from k8snetlab.manifests.load import load
from k8snetlab.oracle.parties import pod_party
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.statutes import PolicyProtocol, read_statutes

FOLDER = Path(__file__).parent / "netpol"
CASES = sorted(path.stem for path in FOLDER.glob("[0-9]*.yaml"))
TABLE = re.compile(r"# (?P<protocol>TCP|UDP|SCTP)/(?P<port>\d+) \[(?P<number>\d+)\](?P<blocked>.*)")
PODS = tuple(f"{namespace}/{name}" for namespace in "xyz" for name in "abc")
Pairs = frozenset[tuple[str, str]]


def tables(case: str) -> Iterator[tuple[PolicyProtocol, int, Pairs]]:
    for line in (FOLDER / f"{case}.yaml").read_text().splitlines():
        if match := TABLE.fullmatch(line):
            blocked = frozenset(pair for part in match["blocked"].split(";") if part.strip() for pair in pairs(part))
            assert len(blocked) == int(match["number"]), line
            yield cast(PolicyProtocol, match["protocol"]), int(match["port"]), blocked


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """`x/a y/* > z/b`: each source with each destination but itself."""
    sources, _, destinations = text.partition(">")
    for source in pods(sources):
        for destination in pods(destinations):
            if source != destination:
                yield source, destination


def pods(text: str) -> list[str]:
    words = [re.compile(re.escape(word).replace(r"\*", ".*")) for word in text.split()]
    return [pod for pod in PODS if any(word.fullmatch(pod) for word in words)]


def cluster(case: str) -> Cluster:
    return resolve(merge(load([str(FOLDER / "model.yaml")]), load([str(FOLDER / f"{case}.yaml")])))


def blocked(state: Cluster, protocol: PolicyProtocol, port: int) -> Pairs:
    statutes = read_statutes(state)
    parties = {pod.key: party for pod in state.pods if (party := pod_party(pod, 4))}
    return frozenset(
        (source, destination)
        for source, destination in permutations(parties, 2)
        if not judge(statutes, parties[source], parties[destination], protocol, port).allowed
    )


@pytest.mark.parametrize("case", CASES)
def test_truth_table(case: str) -> None:
    state = cluster(case)
    wanted = list(tables(case))
    assert wanted
    for protocol, port, pairs_wanted in wanted:
        assert blocked(state, protocol, port) == pairs_wanted, f"{protocol}/{port}"


def test_all_of_the_suite_is_here() -> None:
    """43, 46 and 45, 47, 48 are other protocols of 01, 13 and 44."""
    numbers = {int(case[:2]) for case in CASES}
    assert numbers == set(range(1, 49)) - {43, 45, 46, 47, 48}
    assert sum(1 for case in CASES for _ in tables(case)) >= 65
