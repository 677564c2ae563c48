"""Further networks of nodes: bridges, cables, addresses and who lives where."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_interface

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.state import Address, Bridge, Neighbour, Veth

LONG = "a-network-with-a-long-name"
LAB = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec:
  nodes:
  - {name: a, interfaces: [{name: eth1, network: storage, address: 10.9.0.1/24}]}
  - name: b
    interfaces:
    - {name: eth1, network: storage, address: 10.9.0.2/24}
    - {name: a-long-name-15b, network: a-network-with-a-long-name}
  - {name: c, interfaces: [{name: eth1, network: other, address: 10.9.0.3/24}]}
  - {name: d, interfaces: [{name: eth5, network: storage, address: 10.8.0.4/24}]}
"""


def test_a_switch_a_network_and_a_cable_an_interface(resolved: Callable[..., Cluster]) -> None:
    objects = build(resolved(LAB)).objects
    switches = [item for item in objects if isinstance(item, Bridge) and item.netns == "fabric"]
    assert [(item.name, item.index) for item in switches] == [
        ("br0", 20), (names.switch(LONG), 30), ("br-other", 31), ("br-storage", 32),
    ]  # fmt: skip
    cables = [
        (item.master, item.name, item.index, item.peer_netns, item.peer_name, item.peer_index)
        for item in objects
        if isinstance(item, Veth) and item.netns == "fabric" and item.peer_name != "eth0"
    ]
    assert cables == [
        ("br-storage", "n1-eth1", 1_000_001, "a", "eth1", 40),
        ("br-storage", "n2-eth1", 1_000_002, "b", "eth1", 40),
        (names.switch(LONG), names.switch_port(2, "a-long-name-15b"), 2_000_002, "b", "a-long-name-15b", 41),
        ("br-other", "n3-eth1", 1_000_003, "c", "eth1", 40),
        ("br-storage", "n4-eth5", 1_000_004, "d", "eth5", 40),
    ]  # fmt: skip
    macs = [mac for item in objects if isinstance(item, Veth) for mac in (item.mac, item.peer_mac)]
    assert len(macs) == len(set(macs))
    assert all(len(item.name) <= 15 for item in objects if isinstance(item, Bridge | Veth))


def test_neighbours_are_those_of_the_same_network_and_range(resolved: Callable[..., Cluster]) -> None:
    objects = build(resolved(LAB)).objects
    links = {(item.peer_netns, item.peer_name): item.peer_mac for item in objects if isinstance(item, Veth)}
    found = [item for item in objects if isinstance(item, Neighbour) and item.link != "eth0" and item.link != "cni0"]
    found = [item for item in found if item.netns in "abcd"]
    assert found == [
        Neighbour("a", "eth1", ip_address("10.9.0.2"), links["b", "eth1"]),
        Neighbour("b", "eth1", ip_address("10.9.0.1"), links["a", "eth1"]),
    ]
    assert Address("d", "eth5", ip_interface("10.8.0.4/24")) in objects


def test_without_interfaces_there_is_nothing(resolved: Callable[..., Cluster]) -> None:
    objects = build(resolved("apiVersion: k8snetlab.dev/v1\nkind: Lab\n")).objects
    assert [item.name for item in objects if isinstance(item, Bridge) and item.netns == "fabric"] == ["br0"]
