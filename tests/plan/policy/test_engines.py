"""Both engines: what they plan for one cluster, golden, and that nothing is planned where nothing is to enforce."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.manifests.api.lab import PolicyEngine
from k8snetlab.plan.build import build
from k8snetlab.plan.state import IpSet, IpSetEntry, IptablesChain, KernelObject, NftChain, NftElement, NftSet, NftTable
from k8snetlab.plan.text import describe

ENGINES: tuple[PolicyEngine, ...] = ("iptables", "nftables")
OBJECTS = IpSet | IpSetEntry | IptablesChain | NftTable | NftSet | NftChain | NftElement


def with_engine(cluster: Cluster, engine: PolicyEngine, **changes: object) -> Cluster:
    return replace(cluster, config=replace(cluster.config, policy_engine=engine), **changes)  # type: ignore[arg-type]


def enforcing(cluster: Cluster, engine: PolicyEngine) -> Iterator[KernelObject]:
    """What the engine adds to a plan, in its order."""
    without = set(build(with_engine(cluster, "none")).objects)
    return (item for item in build(with_engine(cluster, engine)).objects if item not in without)


@pytest.mark.parametrize("engine", ENGINES)
def test_golden(engine: PolicyEngine, golden_cluster: Callable[[str], Cluster], is_golden: Callable[..., None]) -> None:
    added = list(enforcing(golden_cluster("policies"), engine))
    assert all(isinstance(item, OBJECTS) for item in added)
    is_golden(f"policies-{engine}.txt", "".join(f"{describe(item)}\n" for item in added))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_policies_no_rules(engine: PolicyEngine, golden_cluster: Callable[[str], Cluster]) -> None:
    cluster = replace(golden_cluster("policies"), network_policies=(), admin_policies=())
    assert build(with_engine(cluster, engine)).objects == build(with_engine(cluster, "none")).objects


@pytest.mark.parametrize("engine", ENGINES)
def test_a_changed_label_changes_set_entries_alone(
    engine: PolicyEngine, golden_cluster: Callable[[str], Cluster]
) -> None:
    """Seen from the nodes that do not gain or lose a pod under some policies."""
    cluster = golden_cluster("policies")
    pods = tuple(
        replace(pod, labels={"app": "web"}) if pod.key == "shop/free" else pod for pod in cluster.pods
    )  # on node2
    before = set(build(with_engine(cluster, engine)).objects)
    after = set(build(with_engine(replace(cluster, pods=pods), engine)).objects)
    there = [item for item in before ^ after if isinstance(item, OBJECTS) and item.netns == "node1"]
    assert there
    assert all(isinstance(item, IpSetEntry | NftElement) for item in there)


def test_drops_are_logged_before_they_happen(golden_cluster: Callable[[str], Cluster]) -> None:
    for item in enforcing(golden_cluster("policies"), "iptables"):
        rules = item.rules if isinstance(item, IptablesChain) else ()
        for log, drop in zip(("", *rules), rules, strict=False):
            assert drop != "-j DROP" or log.startswith('-j NFLOG --nflog-prefix "drop ')
    for item in enforcing(golden_cluster("policies"), "nftables"):
        for rule in item.rules if isinstance(item, NftChain) else ():
            assert " drop" not in rule.split('comment "')[0] or "log prefix" in rule
