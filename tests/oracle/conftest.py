"""Clusters for the oracle: manifests as text in, a resolved cluster out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.load import load, load_text

UPSTREAM = Path(__file__).parent / "netpol"
TABLE = re.compile(r"# (?P<protocol>TCP|UDP|SCTP)/(?P<port>\d+) \[(?P<number>\d+)\](?P<blocked>.*)")
PODS = tuple(f"{namespace}/{name}" for namespace in "xyz" for name in "abc")
Table = tuple[str, int, frozenset[tuple[str, str]]]  # protocol, port, who is blocked to whom
SCENARIOS = Path(__file__).parents[2] / "scenarios"
Build = Callable[..., Cluster]


@pytest.fixture(name="build", scope="session")
def build_fixture() -> Build:
    """`build(yaml, nodes=…)`: the keywords are command line options; `with_addons` adds the cluster's own DNS."""

    def build(text: str, *, with_addons: bool = False, **options: Any) -> Cluster:
        manifests = load_text(dedent(text).encode(), "t.yaml")
        return resolve(manifests, Overrides(**options), with_addons=with_addons)

    return build


@pytest.fixture(scope="session")
def shop() -> Cluster:
    with Path("/dev/null").open("rb") as nothing:
        return resolve(load([str(SCENARIOS / "shop")], nothing), Overrides())


@pytest.fixture(scope="session")
def tables() -> Callable[[str], list[Table]]:
    """The truth tables of a case in `netpol`: the file begins with them.

    `# PROTOCOL/PORT [n] SOURCES > DESTINATIONS; …`: every source listed is blocked to every destination, everything
    else is allowed, `*` is everybody and n the number of blocked pairs of the 72.
    """
    return lambda case: list(read_tables((UPSTREAM / f"{case}.yaml").read_text()))


def read_tables(text: str) -> Iterator[Table]:
    for line in text.splitlines():
        if match := TABLE.fullmatch(line):
            blocked = frozenset(pair for part in match["blocked"].split(";") if part.strip() for pair in pairs(part))
            assert len(blocked) == int(match["number"]), line
            yield match["protocol"], int(match["port"]), blocked


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
