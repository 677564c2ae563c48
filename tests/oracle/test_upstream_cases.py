"""The cases of Kubernetes' own NetworkPolicy suite (sig-network Netpol): each a file of policies with its truth table.

The oracle is asked here; `test_upstream_packets` sends packets. `conftest` reads the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.manifests.edit import merge
from k8snetlab.manifests.load import load
from k8snetlab.oracle.parties import pod_party
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.policy_rules import PolicyProtocol, read_policies

FOLDER = Path(__file__).parent / "netpol"
CASES = sorted(path.stem for path in FOLDER.glob("[0-9]*.yaml"))
Pairs = frozenset[tuple[str, str]]
Tables = Callable[[str], list[tuple[PolicyProtocol, int, Pairs]]]


def cluster(case: str) -> Cluster:
    return resolve(merge(load([str(FOLDER / "model.yaml")]), load([str(FOLDER / f"{case}.yaml")])))


def blocked(state: Cluster, protocol: PolicyProtocol, port: int) -> Pairs:
    policies = read_policies(state)
    parties = {pod.key: party for pod in state.pods if (party := pod_party(pod, 4))}
    return frozenset(
        (source, destination)
        for source, destination in permutations(parties, 2)
        if not judge(policies, parties[source], parties[destination], protocol, port).allowed
    )


@pytest.mark.parametrize("case", CASES)
def test_truth_table(case: str, tables: Tables) -> None:
    state = cluster(case)
    wanted = tables(case)
    assert wanted
    for protocol, port, pairs_wanted in wanted:
        assert blocked(state, protocol, port) == pairs_wanted, f"{protocol}/{port}"


def test_all_of_the_suite_is_here(tables: Tables) -> None:
    """43, 46 and 45, 47, 48 are other protocols of 01, 13 and 44."""
    numbers = {int(case[:2]) for case in CASES}
    assert numbers == set(range(1, 49)) - {43, 45, 46, 47, 48}
    assert sum(len(tables(case)) for case in CASES) >= 65
