from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster.addresses import address
from k8snetlab.cluster.host_local import FIRST_SLOT, SlotRange
from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


def pod(name: str, spec: str = "") -> str:
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
        f"spec: {{{spec}nodeName: node1, containers: [{{name: c, image: x}}]}}\n"
    )


def last_octets(cluster: Cluster) -> dict[str, int]:
    return {pod.name: pod.ips[0].packed[-1] for pod in cluster.pods}


def test_in_order_after_the_gateway(build: Build) -> None:
    assert last_octets(build(pod("a") + pod("b") + pod("c"))) == {"a": 2, "b": 3, "c": 4}


def test_a_freed_address_is_not_used_again_at_once(build: Build) -> None:
    before = build(pod("a") + pod("b") + pod("c"))
    after = build(pod("a") + pod("d"), previous=before)
    assert last_octets(after) == {"a": 2, "d": 5}


def test_after_the_last_address_comes_the_first_free_one(build: Build) -> None:
    lab = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {name: l}\nspec: {nodes: 1, nodeCIDRMaskSize: 29}\n"
    before = build(lab + "".join(pod(name) for name in "abcde"))  # .2 to .6: full
    after = build(lab + "".join(pod(name) for name in "abdef"), previous=before)
    assert last_octets(after) == {"a": 2, "b": 3, "d": 5, "e": 6, "f": 4}


def test_a_host_network_pod_has_its_nodes_addresses(build: Build) -> None:
    cluster = build(pod("a", "hostNetwork: true, ") + pod("b"))
    assert (cluster.pods[0].ips, cluster.pods[0].slot) == (cluster.nodes[0].addresses, 0)
    assert last_octets(cluster)["b"] == 2


def test_dual_stack_has_the_same_offset_in_both_ranges(build: Build) -> None:
    assert [str(ip) for ip in build(pod("a") + pod("b"), ip_family="dual").pods[1].ips] == [
        "10.244.0.3",
        "fd00:10:244::3",
    ]


def test_exhausted(problems: Callable[..., list[str]], workload: Yaml) -> None:
    (found,) = problems(workload("web", 255), nodes=1)
    assert "no address left for 2 pods on node1: its pod range 10.244.0.0/24 holds 253" in found
    assert "use more nodes" in found


@pytest.mark.parametrize(
    ("subnet", "offset", "expected"),
    [
        pytest.param("10.244.3.0/24", 7, "10.244.3.7", id="v4"),
        pytest.param("fd00:10:244:3::/64", 256, "fd00:10:244:3::100", id="v6"),
    ],
)
def test_address(subnet: str, offset: int, expected: str) -> None:
    assert str(address(ip_network(subnet), offset)) == expected


@given(
    size=st.integers(min_value=FIRST_SLOT, max_value=40),
    held=st.sets(st.integers(min_value=FIRST_SLOT, max_value=45)),
    last=st.integers(min_value=FIRST_SLOT - 1, max_value=45),
    wanted=st.integers(min_value=0, max_value=50),
)
def test_never_twice_never_outside_and_everything_is_used(size: int, held: set[int], last: int, wanted: int) -> None:
    slots = SlotRange(size, last=last)
    kept = {slot for slot in held if slots.keep(slot)}
    assert kept == {slot for slot in held if slot < size}
    handed = [slots.next() for _ in range(wanted)]
    given_out = [slot for slot in handed if slot is not None]
    assert len(set(given_out)) == len(given_out)
    assert not set(given_out) & kept
    assert all(FIRST_SLOT <= slot < size for slot in given_out)
    assert len(given_out) == min(wanted, size - FIRST_SLOT - len(kept))


@given(replicas=st.lists(st.integers(min_value=0, max_value=6), min_size=2, max_size=5))
def test_what_is_there_keeps_its_address_through_any_history(replicas: list[int]) -> None:
    from k8snetlab.cluster.resolve import resolve
    from k8snetlab.manifests.load import load_text

    text = (
        "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec: {replicas: %d, selector: {matchLabels: "
        "{app: db}}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x}]}}}\n"
    )
    before: Cluster | None = None
    for count in replicas:
        after = resolve(load_text((text % count).encode(), "t.yaml"), previous=before)
        addresses = [pod.ips for pod in after.pods]
        assert len(set(addresses)) == len(addresses) == count
        assert all(pod.ips[0] in cidr for pod in after.pods for cidr in after.node(pod.node).pod_cidrs)  # type: ignore[union-attr]
        for pod in before.pods if before else ():
            kept = after.pod(pod.key)
            assert kept is None or (kept.node, kept.ips) == (pod.node, pod.ips)
        before = after
