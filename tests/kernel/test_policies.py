"""What the policy engines plan, through the kernel and back, and from one engine to the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.observe import observe
from k8snetlab.manifests.api.lab import PolicyEngine
from k8snetlab.manifests.load import load
from k8snetlab.plan.build import build
from k8snetlab.plan.state import DnsName, DnsServer, KernelObject, Netns, PodServer, Process

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]
MANIFESTS = Path(__file__).parents[1] / "plan" / "golden" / "policies.yaml"


def plan(cluster: Cluster, engine: PolicyEngine) -> tuple[KernelObject, ...]:
    config = replace(cluster.config, policy_engine=engine)
    objects = build(replace(cluster, config=config)).objects
    return tuple(item for item in objects if not isinstance(item, PodServer | DnsServer | DnsName | Process))


def turn(planned: Iterable[KernelObject]) -> None:
    """Make the kernel equal to a plan, as `up` does, and look whether it is."""
    planned = tuple(planned)
    found = observe(planned)
    apply([item for item in planned if item not in found], [item for item in found if item not in planned], planned)
    assert set(observe(planned)) ^ set(planned) <= set(loopbacks(planned))


def loopbacks(planned: Iterable[KernelObject]) -> Iterator[KernelObject]:
    return (item for item in planned if isinstance(item, Netns) and not item.up)


def test_there_and_back_in_both_engines() -> None:
    cluster = resolve(load([str(MANIFESTS)]))
    without = replace(cluster, network_policies=(), admin_policies=())
    steps: tuple[tuple[Cluster, PolicyEngine], ...] = (
        (cluster, "iptables"),
        (replace(cluster, network_policies=cluster.network_policies[:1]), "iptables"),
        (cluster, "nftables"),
        (replace(cluster, admin_policies=()), "nftables"),
        (without, "nftables"),
        (cluster, "iptables"),
        (without, "iptables"),
    )
    for state, engine in steps:
        turn(plan(state, engine))
