"""Every kind of kernel object as a line and as JSON."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from k8snetlab.plan.state import (
    Address,
    Bridge,
    FdbEntry,
    IptablesChain,
    KernelObject,
    Neighbour,
    Netns,
    PodServer,
    Process,
    Route,
    Sysctl,
    Veth,
    Vxlan,
)
from k8snetlab.plan.text import describe, to_json

MAC, OTHER = "0a:58:0a:f4:00:02", "0e:58:0a:f4:00:02"
LINES: tuple[tuple[KernelObject, str], ...] = (
    (Netns("node1"), "node1: network namespace"),
    (Bridge("node1", "cni0", 3, MAC, 1500), f"node1: bridge cni0 index 3 address {MAC} mtu 1500"),
    (
        Veth("node1", "veth1", 102, OTHER, 1450, "d_a", "eth0", 2, MAC, 1450, "cni0", True),
        f"node1: veth veth1 index 102 address {OTHER} mtu 1450 master cni0 hairpin on peer eth0 in d_a index 2"
        f" address {MAC} mtu 1450",
    ),
    (
        Vxlan("node1", "flannel.1", 4, MAC, 1450, 1, ip_address("172.18.0.2"), "eth0", 8472),
        f"node1: vxlan flannel.1 index 4 address {MAC} mtu 1450 id 1 local 172.18.0.2 dev eth0 dstport 8472",
    ),
    (Address("d_a", "eth0", ip_interface("10.244.0.2/24")), "d_a: address 10.244.0.2/24 dev eth0"),
    (
        Route("node1", ip_network("10.244.1.0/24"), ip_address("10.244.1.0"), "flannel.1", onlink=True),
        "node1: route 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink",
    ),
    (
        Route("node1", ip_network("10.9.0.0/16"), link="eth0", source=ip_address("172.18.0.2")),
        "node1: route 10.9.0.0/16 dev eth0 src 172.18.0.2",
    ),
    (Route("router", ip_network("10.96.0.0/12"), kind="unreachable"), "router: route unreachable 10.96.0.0/12"),
    (Neighbour("d_a", "eth0", ip_address("10.244.0.1"), MAC), f"d_a: neighbour 10.244.0.1 lladdr {MAC} dev eth0"),
    (FdbEntry("node1", "flannel.1", MAC, ip_address("172.18.0.3")), f"node1: fdb {MAC} dst 172.18.0.3 dev flannel.1"),
    (Sysctl("node1", "net.ipv4.ip_forward", "1"), "node1: sysctl net.ipv4.ip_forward = 1"),
    (
        IptablesChain("node1", 6, "nat", "POSTROUTING", "ACCEPT", ("-j A", "-j B")),
        "node1: ip6tables nat chain POSTROUTING policy ACCEPT\n    -j A\n    -j B",
    ),
    (IptablesChain("node1", 4, "nat", "A", "", ()), "node1: iptables nat chain A"),
    (
        PodServer("d_a", "d/a", "node1", "a", (("TCP", 80), ("UDP", 53))),
        "d_a: server of d/a listens on TCP/80 UDP/53",
    ),
    (Process("node1", "dns", ("/bin/x", "-v")), "node1: process dns /bin/x -v"),
)


@pytest.mark.parametrize(("obj", "line"), [pytest.param(*case, id=case[1][:40]) for case in LINES])
def test_describe(obj: KernelObject, line: str) -> None:
    assert describe(obj) == line


@pytest.mark.parametrize("obj", [case[0] for case in LINES], ids=lambda obj: type(obj).__name__)
def test_json_holds_every_field(obj: KernelObject) -> None:
    document = json.loads(json.dumps(to_json(obj)))
    assert document["type"] == type(obj).__name__
    assert list(document)[1:] == list(type(obj).__dataclass_fields__)


def test_json_of_a_route() -> None:
    route = Route("node1", ip_network("10.244.1.0/24"), ip_address("172.18.0.3"), "eth0")
    assert to_json(route) == {
        "type": "Route",
        "netns": "node1",
        "destination": "10.244.1.0/24",
        "via": "172.18.0.3",
        "link": "eth0",
        "onlink": False,
        "source": None,
        "kind": "unicast",
    }
