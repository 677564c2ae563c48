"""Addresses by blocks and from a ring: who gets which, what stays, what is lent, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster.ip_usage import usage
from k8snetlab.cluster.model import Cluster, IPPool, Node
from k8snetlab.cluster.remarks import remarks
from k8snetlab.cluster.ring import Ring

Build = Callable[..., Cluster]
Problems = Callable[..., list[str]]
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: %s}
spec: {cidr: %s, %s}
---
"""


def lab(spec: str) -> str:
    return f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {{name: l}}\nspec: {{{spec}}}\n---\n"


def pod(name: str, node: str = "node1", annotations: str = "") -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\n"
        f"spec: {{nodeName: {node}, containers: [{{name: c, image: x}}]}}\n---\n"
    )


def ips(cluster: Cluster) -> dict[str, str]:
    return {each.name: str(each.ips[0]) for each in cluster.pods}


def ranges(cluster: Cluster) -> dict[str, str]:
    return {str(each.cidr): each.node for each in cluster.ip_ranges}


def test_every_node_has_a_block_and_its_pods_addresses_of_it(build: Build) -> None:
    cluster = build(lab("nodes: 2, network: calico, backend: none") + pod("a") + pod("b") + pod("c", "node2"))
    assert ranges(cluster) == {"10.244.0.0/26": "node1", "10.244.0.64/26": "node2"}
    assert ips(cluster) == {"a": "10.244.0.0", "b": "10.244.0.1", "c": "10.244.0.64"}
    assert [node.network_addresses for node in cluster.nodes] == [(), ()]
    assert [node.pod_cidrs for node in cluster.nodes] == [(), ()]


def test_the_end_of_a_tunnel_takes_the_first_address(build: Build) -> None:
    cluster = build(lab("nodes: 2, network: calico, ipFamily: dual") + pod("a"))
    ends = [tuple(map(str, node.network_addresses)) for node in cluster.nodes]
    assert ends == [("10.244.0.0", "fd00:10:244::"), ("10.244.0.64", "fd00:10:244::40")]
    assert [str(ip) for ip in cluster.pods[0].ips] == ["10.244.0.1", "fd00:10:244::1"]


SMALL = lab("nodes: 2, network: calico, backend: none") + POOL % ("p", "10.9.0.0/28", "blockSize: 30")


def test_a_node_takes_more_blocks_and_then_borrows(build: Build) -> None:
    names = [f"p{n:02}" for n in range(13)]
    cluster = build(SMALL + "".join(pod(name) for name in names))
    assert ranges(cluster) == {
        "10.9.0.0/30": "node1", "10.9.0.4/30": "node2", "10.9.0.8/30": "node1", "10.9.0.12/30": "node1",
    }  # fmt: skip
    assert ips(cluster)["p12"] == "10.9.0.4"
    lent = next(each for each in cluster.ip_ranges if each.node == "node2")
    assert (usage(cluster, lent).used, usage(cluster, lent).borrowed, usage(cluster, lent).free) == (1, 1, 3)


def test_a_full_pool_is_a_problem_with_file_and_line(problems: Problems) -> None:
    (found,) = problems(SMALL + "".join(pod(f"p{n:02}") for n in range(18)))
    assert found.startswith("t.yaml:")
    assert "no IPv4 address left for 2 pods on node1, which may use pool p 10.9.0.0/28" in found


def test_what_is_there_stays_and_what_is_free_is_used_again(build: Build) -> None:
    before = build(SMALL + pod("a") + pod("b") + pod("c", "node2"))
    after = build(SMALL + pod("b") + pod("c", "node2") + pod("d"), previous=before)
    assert ips(after) == {"b": "10.9.0.1", "c": "10.9.0.4", "d": "10.9.0.0"}
    assert after.ip_ranges == before.ip_ranges


def test_a_block_of_a_node_that_is_gone_stays_while_pods_are_in_it(build: Build) -> None:
    full = build(SMALL + "".join(pod(f"p{n:02}") for n in range(13)))
    alone = build(SMALL.replace("nodes: 2", "nodes: 1") + "".join(pod(f"p{n:02}") for n in range(13)), previous=full)
    assert ips(alone) == ips(full)
    assert ranges(alone)["10.9.0.4/30"] == ""
    less = build(SMALL.replace("nodes: 2", "nodes: 1") + pod("p00"), previous=alone)
    assert "10.9.0.4/30" not in ranges(less)


def test_pools_by_node_and_by_annotation(build: Build) -> None:
    nodes = "nodes: [{name: node1, labels: {zone: left}}, {name: node2, labels: {zone: right}}]"
    cluster = build(
        lab(f"{nodes}, network: calico, backend: none")
        + POOL % ("left", "192.168.0.0/26", "nodeSelector: zone == 'left'")
        + POOL % ("right", "192.168.1.0/26", "nodeSelector: zone == 'right'")
        + POOL % ("closed", "192.168.2.0/26", "disabled: true")
        + POOL % ("special", "192.168.3.0/26", "assignmentMode: Manual")
        + pod("a")
        + pod("b", "node2")
        + pod("c", "node2", """cni.projectcalico.org/ipv4pools: '["192.168.3.0/26"]'""")
        + pod("d", "node2", """cni.projectcalico.org/ipAddrs: '["192.168.1.9"]'""")
        + pod("e", "node1", """k8snetlab.dev/ip-addresses: '["192.168.0.9"]'""")
    )
    assert ips(cluster) == {
        "a": "192.168.0.0", "b": "192.168.1.0", "c": "192.168.3.0", "d": "192.168.1.9", "e": "192.168.0.9",
    }  # fmt: skip
    assert str(cluster.config.pod_subnets[0]) == "192.168.0.0/22"  # what holds all pools


REFUSED = [
    pytest.param("""cni.projectcalico.org/ipAddrs: '["10.9.0.77"]'""", "10.9.0.77 is in no pool of the lab", id="pool"),
    pytest.param("""cni.projectcalico.org/ipAddrs: '["10.9.0.0"]'""", "10.9.0.0 is already taken", id="taken"),
    pytest.param("""cni.projectcalico.org/ipAddrs: 10.9.0.1""", "is not a JSON list", id="no-list"),
    pytest.param("""cni.projectcalico.org/ipAddrs: '["10.9.0.300"]'""", "is not an IP address", id="no-address"),
    pytest.param("""cni.projectcalico.org/ipAddrs: '["fd00::1"]'""", "is IPv6, which the lab has not", id="family"),
    pytest.param("""cni.projectcalico.org/ipAddrs: '[]'""", "names no address", id="empty"),
    pytest.param("""cni.projectcalico.org/ipv4pools: nope""", "is not a JSON list", id="pools"),
]


@pytest.mark.parametrize(("annotation", "message"), REFUSED)
def test_what_a_pod_cannot_have(annotation: str, message: str, problems: Problems) -> None:
    first = pod("a", annotations="""cni.projectcalico.org/ipAddrs: '["10.9.0.0"]'""")
    found = problems(SMALL + first + pod("b", annotations=annotation))
    assert any(
        "Pod default/b: metadata.annotations[cni.projectcalico.org/" in each and message in each for each in found
    )


def test_pools_must_lie_in_the_pod_subnet_and_apart(problems: Problems) -> None:
    found = problems(
        lab("network: calico, podSubnet: 10.9.0.0/16")
        + POOL % ("a", "10.9.0.0/24", "")
        + POOL % ("b", "10.9.0.128/25", "")
        + POOL % ("c", "10.8.0.0/24", "")
        + pod("x")
    )
    assert [each.partition(": ")[2] for each in found] == [
        "IPPool b: spec.cidr: 10.9.0.128/25 overlaps 10.9.0.0/24 of IPPool a",
        "IPPool c: spec.cidr: 10.8.0.0/24 is not inside the lab's podSubnet 10.9.0.0/16",
    ]


def test_reserved_addresses_are_passed_over(build: Build) -> None:
    reservation = (
        "apiVersion: crd.projectcalico.org/v1\nkind: IPReservation\nmetadata: {name: r}\n"
        "spec: {reservedCIDRs: [10.9.0.0/31]}\n---\n"
    )
    own = "nodes: 2, network: calico, backend: none, ipam: {reserved: ['10.9.0.2']}"
    cluster = build(SMALL.replace("nodes: 2, network: calico, backend: none", own) + reservation + pod("a") + pod("b"))
    assert ips(cluster) == {"a": "10.9.0.3", "b": "10.9.0.8"}
    assert usage(cluster, cluster.ip_ranges[0]).reserved == 3


def test_reserved_and_static_with_host_local(build: Build, problems: Problems) -> None:
    own = lab("nodes: 2, ipam: {reserved: [10.244.0.2-10.244.0.4, 10.244.0.6]}")
    wanting = """k8snetlab.dev/ip-addresses: '["%s"]'"""
    cluster = build(own + pod("a") + pod("b") + pod("c", annotations=wanting % "10.244.0.7") + pod("d"))
    assert ips(cluster) == {"a": "10.244.0.5", "b": "10.244.0.8", "c": "10.244.0.7", "d": "10.244.0.9"}
    after = build(own + pod("a") + pod("b") + pod("c", annotations=wanting % "10.244.0.3"), previous=cluster)
    assert ips(after)["c"] == "10.244.0.3"  # asked for, reserved or not
    refused = [
        ("10.244.1.9", "10.244.1.9 is not in the pod range of node1, 10.244.0.0/24"),
        ("10.244.0.1", "10.244.0.1 belongs to node1 itself"),
        ("10.244.0.7", "10.244.0.7 is held by another pod"),
    ]
    for address, message in refused:
        found = problems(own + pod("a", annotations=wanting % "10.244.0.7") + pod("b", annotations=wanting % address))
        assert found[0].endswith(message)


def test_the_ring_is_halved_again_and_again(build: Build) -> None:
    cluster = build(lab("nodes: 3, network: weave") + pod("a") + pod("b", "node2"))
    assert ranges(cluster) == {"10.32.0.0/13": "node1", "10.40.0.0/14": "node2", "10.44.0.0/14": "node3"}
    assert [str(node.network_addresses[0]) for node in cluster.nodes] == ["10.32.0.1", "10.40.0.0", "10.44.0.0"]
    assert ips(cluster) == {"a": "10.32.0.2", "b": "10.40.0.1"}


def test_a_newcomer_is_given_half_of_the_largest_range_and_nothing_moves(build: Build) -> None:
    text = "network: weave, podSubnet: 10.32.0.0/24"
    before = build(lab(f"nodes: 2, {text}") + pod("a"))
    after = build(lab(f"nodes: 3, {text}") + pod("a") + pod("b", "node3"), previous=before)
    assert ranges(after) == {"10.32.0.0/26": "node1", "10.32.0.64/26": "node3", "10.32.0.128/25": "node2"}
    assert ips(after) == {"a": "10.32.0.2", "b": "10.32.0.65"}
    gone = build(lab(f"nodes: 2, {text}") + pod("a"), previous=after)
    assert ranges(gone)["10.32.0.64/26"] == "node1"  # the first node inherits


@given(pods=st.integers(min_value=0, max_value=40), nodes=st.integers(min_value=1, max_value=5))
def test_the_ring_gives_everything_and_nothing_twice(pods: int, nodes: int) -> None:
    subnet = ip_network("10.32.0.0/27")
    members = [Node(name=f"n{n}", index=n, addresses=(), pod_cidrs=(), labels={}) for n in range(1, nodes + 1)]
    ring = Ring([IPPool(name="p", cidr=subnet, blocks=27)], [])
    ring.share_out(members)
    got = [ring.next(members[number % 2 % nodes]) for number in range(pods)]
    given_out = [ip for ip in got if ip is not None]
    assert len(set(given_out)) == len(given_out) == min(pods, 30)
    assert all(ip in subnet and ip not in (subnet[0], subnet[-1]) for ip in given_out)
    assert sum(each.cidr.num_addresses for each in ring.ranges()) == 32


def test_an_address_of_another_network_is_not_kept(build: Build) -> None:
    before = build(pod("a"))
    after = build(lab("network: weave") + pod("a"), previous=before)
    assert ips(after) == {"a": "10.32.0.2"}
    assert after.pods[0].ips != before.pods[0].ips
    assert ip_address("10.244.0.2") in before.pods[0].ips


def test_what_is_written_and_has_no_effect_is_said(build: Build) -> None:
    pool = POOL % ("p", "10.9.0.0/24", "ipipMode: Always, namespaceSelector: kubernetes.io/metadata.name == 'a'")
    said = remarks(build(lab("network: calico") + pool + pod("a")))
    assert [each.partition(": ")[0] for each in said] == ["IPPool p", "IPPool p"]
    assert "ipipMode Always" in said[0]
    assert "t.yaml:" in said[1]
    assert build(pool + pod("a")).ignored == {"IPPool": 1}  # without Calico nobody reads it
    (weave,) = remarks(build(pod("a"), network="weave", ip_family="dual"))
    assert weave.startswith("Weave Net itself has no IPv6")
