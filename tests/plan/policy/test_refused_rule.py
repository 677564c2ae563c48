"""From a refused line, as each tool words it, back to the policy and the line that its rule is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.policy.refused_rule import refused_policy
from k8snetlab.plan.state import IptablesChain

SENSITIVE = "ClusterNetworkPolicy sensitive"


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        pytest.param(
            '-t filter -A KUBE-NWPLCY-X -m comment --comment "shop/db ingress[1]" -j MARK --set-xmark 0x1/0x1',
            ("NetworkPolicy shop/db ingress[1]", 56), id="iptables",
        ),
        pytest.param(
            'ip saddr @pods-X tcp dport 80 counter return comment "shop/db egress[0]"',
            ("NetworkPolicy shop/db egress[0]", 59), id="nft",
        ),
        pytest.param(
            'counter return comment "cluster/sensitive ingress[2]"', (f"{SENSITIVE} ingress[2]", 78), id="admin",
        ),
        pytest.param('-A X -m comment --comment "shop/nobody ingress[0]" -j DROP', None, id="no such policy"),
        pytest.param('-A X -m comment --comment "shop/db:http cluster IP" -j X', None, id="a Service's"),
        pytest.param("add PODS-X 10.244.0.2", None, id="no rule"),
    ],
)  # fmt: skip
def test_whose_it_is(golden_cluster: Callable[[str], Cluster], refused: str, expected: tuple[str, int] | None) -> None:
    found = refused_policy(golden_cluster("policies"), refused)
    assert (found and (found[0], found[1].line if found[1] else 0)) == expected


def test_every_planned_rule_is_somebodys(golden_cluster: Callable[[str], Cluster]) -> None:
    cluster = golden_cluster("policies")
    rules = [rule for item in build(cluster).objects if isinstance(item, IptablesChain) for rule in commented(item)]
    assert len(rules) > 10
    assert [rule for rule in rules if refused_policy(cluster, rule) is None] == []


def commented(chain: IptablesChain) -> Iterator[str]:
    return (rule for rule in chain.rules if "gress[" in rule)
