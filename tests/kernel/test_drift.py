"""A lab that somebody has changed by hand: the change is seen, and applying the difference mends it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.kernel import processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.observe import observe
from k8snetlab.plan.state import (
    Address,
    Bridge,
    FdbEntry,
    IptablesChain,
    KernelObject,
    Neighbour,
    Netns,
    Route,
    Sysctl,
    Veth,
    Vxlan,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]

BRIDGE = Bridge("node1", "cni0", 3, "0a:58:0a:f4:00:01", 1450)
UPLINK = Veth("fabric", "n1", 101, "0e:58:ac:12:00:02", 1500, "node1", "eth0", 2, "0a:58:ac:12:00:02", 1500)
PODS = tuple(
    Veth(
        "node1", f"veth{slot}", 100 + slot, f"0e:58:0a:f4:00:0{slot}", 1450,
        f"default_p{slot}", "eth0", 2, f"0a:58:0a:f4:00:0{slot}", 1450, "cni0", True,
    )
    for slot in (2, 3)
)  # fmt: skip
PLAN: tuple[KernelObject, ...] = (
    *(Netns(name) for name in ("fabric", "node1", "default_p2", "default_p3")),
    Sysctl("node1", "net.ipv4.ip_forward", "1"),
    Sysctl("node1", "net.ipv4.conf.cni0.rp_filter", "0"),
    BRIDGE,
    UPLINK,
    *PODS,
    Vxlan("node1", "flannel.1", 4, "0a:58:0a:f4:00:00", 1450, 1, ip_address("172.18.0.2"), "eth0", 8472),
    Address("node1", "eth0", ip_interface("172.18.0.2/16")),
    Address("node1", "cni0", ip_interface("10.244.0.1/24")),
    Address("node1", "cni0", ip_interface("fd00:10:244::1/64")),
    Address("node1", "flannel.1", ip_interface("10.244.0.0/32")),
    Route("node1", ip_network("0.0.0.0/0"), ip_address("172.18.0.1"), "eth0"),
    Route("node1", ip_network("10.244.1.0/24"), ip_address("10.244.1.0"), "flannel.1", onlink=True),
    Neighbour("node1", "flannel.1", ip_address("10.244.1.0"), "0a:58:0a:f4:01:00"),
    FdbEntry("node1", "flannel.1", "0a:58:0a:f4:01:00", ip_address("172.18.0.3")),
    *(Address(f"default_p{slot}", "eth0", ip_interface(f"10.244.0.{slot}/24")) for slot in (2, 3)),
    *(Address(f"default_p{slot}", "eth0", ip_interface(f"fd00:10:244::{slot}/64")) for slot in (2, 3)),
    *(Route(f"default_p{slot}", ip_network("0.0.0.0/0"), ip_address("10.244.0.1"), "eth0") for slot in (2, 3)),
    *(Route(f"default_p{slot}", ip_network("::/0"), ip_address("fd00:10:244::1"), "eth0") for slot in (2, 3)),
    *(Neighbour("node1", "cni0", ip_address(f"10.244.0.{s}"), f"0a:58:0a:f4:00:0{s}") for s in (2, 3)),
    IptablesChain("node1", 4, "nat", "PREROUTING", "ACCEPT", ("-j KUBE-SERVICES",)),
    IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-d 10.96.0.1/32 -j RETURN",)),
)


def mend(planned: Iterable[KernelObject] = PLAN) -> tuple[frozenset[KernelObject], frozenset[KernelObject]]:
    """What was missing and what was extra, both of which are no more."""
    planned = tuple(planned)
    wanted, seen = frozenset(planned), observe(planned)
    missing = tuple(item for item in planned if item not in seen)
    extra = tuple(seen - wanted)
    apply(missing, extra, planned)
    assert observe(planned) == wanted
    return frozenset(missing), frozenset(extra)


def by_hand(script: str) -> None:
    done = processes.run(["sh", "-ec", script])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("script", "missing", "extra"),
    [
        pytest.param("ip -n node1 link set cni0 mtu 1400", {BRIDGE}, {replace(BRIDGE, mtu=1400)}, id="bridge-mtu"),
        pytest.param(
            "ip -n default_p2 link set eth0 address 0a:00:00:00:00:99",
            {PODS[0]},
            {replace(PODS[0], peer_mac="0a:00:00:00:00:99")},
            id="pod-mac",
        ),
        pytest.param(
            "bridge -n node1 link set dev veth2 hairpin off", {PODS[0]}, {replace(PODS[0], hairpin=False)}, id="hairpin"
        ),
        pytest.param(
            "ip -n node1 link set veth3 nomaster",
            {PODS[1]},
            {replace(PODS[1], master="", hairpin=False)},
            id="port-out-of-bridge",
        ),
        pytest.param(
            "sysctl() { ip netns exec node1 sh -c \"echo 0 >/proc/sys/net/ipv4/ip_forward\"; }; sysctl",
            {Sysctl("node1", "net.ipv4.ip_forward", "1")},
            {Sysctl("node1", "net.ipv4.ip_forward", "0")},
            id="sysctl",
        ),
        pytest.param(
            "ip -n node1 addr add 192.0.2.1/24 dev cni0",
            set(),
            {Address("node1", "cni0", ip_interface("192.0.2.1/24"))},
            id="address-more",
        ),
        pytest.param(
            "ip -n node1 route add 192.0.2.0/24 via 172.18.0.9; ip -n node1 route del default",
            {Route("node1", ip_network("0.0.0.0/0"), ip_address("172.18.0.1"), "eth0")},
            {Route("node1", ip_network("192.0.2.0/24"), ip_address("172.18.0.9"), "eth0")},
            id="routes",
        ),
        pytest.param(
            "ip -n node1 neigh change 10.244.0.2 lladdr 0a:00:00:00:00:99 dev cni0 nud permanent",
            {Neighbour("node1", "cni0", ip_address("10.244.0.2"), "0a:58:0a:f4:00:02")},
            {Neighbour("node1", "cni0", ip_address("10.244.0.2"), "0a:00:00:00:00:99")},
            id="neighbour",
        ),
        pytest.param(
            "bridge -n node1 fdb replace 0a:58:0a:f4:01:00 dst 172.18.0.9 dev flannel.1",
            {FdbEntry("node1", "flannel.1", "0a:58:0a:f4:01:00", ip_address("172.18.0.3"))},
            {FdbEntry("node1", "flannel.1", "0a:58:0a:f4:01:00", ip_address("172.18.0.9"))},
            id="forwarding-entry",
        ),
        pytest.param(
            "ip netns exec node1 iptables -t nat -A KUBE-SERVICES -s 192.0.2.1 -j RETURN",
            {IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-d 10.96.0.1/32 -j RETURN",))},
            {
                IptablesChain(
                    "node1", 4, "nat", "KUBE-SERVICES", "",
                    ("-d 10.96.0.1/32 -j RETURN", "-s 192.0.2.1/32 -j RETURN"),
                )
            },
            id="rule",
        ),
        pytest.param(
            "ip netns exec default_p2 iptables -A INPUT -p icmp -j DROP;"
            "ip netns exec default_p3 ip6tables -P INPUT DROP",
            set(),
            {
                IptablesChain("default_p2", 4, "filter", "INPUT", "ACCEPT", ("-p icmp -j DROP",)),
                IptablesChain("default_p3", 6, "filter", "INPUT", "DROP", ()),
            },
            id="rules-where-none-are-planned",
        ),
        pytest.param(
            "ip -n default_p2 link set lo down", {Netns("default_p2")}, {Netns("default_p2", up=False)}, id="loopback"
        ),
        pytest.param("ip netns add other", set(), {Netns("other", up=False)}, id="namespace"),
    ],
)  # fmt: skip
def test_seen_to_the_letter_and_mended(script: str, missing: set[KernelObject], extra: set[KernelObject]) -> None:
    apply(PLAN)
    by_hand(script)
    assert mend() == (frozenset(missing), frozenset(extra))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("ip -n node1 link del veth2", id="pod-cable-cut"),
        pytest.param("ip -n default_p3 link set eth0 down", id="pod-link-down"),
        pytest.param("ip -n node1 link set cni0 down", id="bridge-down"),
        pytest.param("ip -n node1 link del cni0", id="bridge-gone"),
        pytest.param("ip -n node1 link del eth0", id="uplink-gone-and-the-tunnel-with-it"),
        pytest.param("ip -n node1 link del flannel.1", id="tunnel-gone"),
        pytest.param("ip -n node1 link set flannel.1 down", id="tunnel-down"),
        pytest.param("ip netns del default_p2", id="pod-gone"),
        pytest.param("ip netns del node1", id="node-gone"),
        pytest.param("ip -n node1 addr flush dev cni0", id="addresses-gone"),
        pytest.param(
            "ip -n node1 addr del 10.244.0.1/24 dev cni0; ip -n node1 addr add 10.244.0.1/16 dev cni0", id="other-mask"
        ),
        pytest.param("ip -n node1 neigh flush dev cni0 nud permanent", id="neighbours-gone"),
        pytest.param("ip netns exec node1 iptables -t nat -F; ip netns exec node1 iptables -t nat -X", id="rules-gone"),
        pytest.param("ip -n node1 link set veth2 down; ip -n node1 link set veth2 name other", id="link-renamed"),
        pytest.param(
            "ip -n default_p2 link set eth0 down address 0a:00:00:00:00:99;"
            "ip -n node1 link set veth2 mtu 1400 nomaster",
            id="several-of-one-link",
        ),
    ],
)  # fmt: skip
def test_mended(script: str) -> None:
    apply(PLAN)
    by_hand(script)
    missing, extra = mend()
    assert missing or extra
    assert mend() == (frozenset(), frozenset())


def test_a_link_made_anew_gets_back_what_was_on_it() -> None:
    """The index differs: the kernel cannot change it, and of the rest of the plan nothing is missing beforehand."""
    apply(PLAN)
    other = replace(PODS[0], index=150)
    planned = tuple(other if item == PODS[0] else item for item in PLAN)
    assert mend(planned) == (frozenset({other}), frozenset({PODS[0]}))
    rebuilt = replace(UPLINK, peer_index=9)
    planned = tuple(rebuilt if item == UPLINK else item for item in planned)
    assert mend(planned) == (frozenset({rebuilt}), frozenset({UPLINK}))
    moved = replace(BRIDGE, index=77)
    planned = tuple(moved if item == BRIDGE else item for item in planned)
    assert mend(planned) == (frozenset({moved}), frozenset({BRIDGE}))


def test_a_pod_that_moves_takes_its_namespace_along() -> None:
    planned = (*PLAN, Netns("node2"), Bridge("node2", "cni0", 3, "0a:58:0a:f4:01:01", 1450))
    apply(planned)
    moved = replace(PODS[0], netns="node2")
    after = tuple(moved if item == PODS[0] else item for item in planned)
    assert mend(after) == (frozenset({moved}), frozenset({PODS[0]}))


def test_a_pod_replaced_under_the_same_names_at_once() -> None:
    """The namespace goes, its cable must be gone from the node before the new one comes."""
    apply(PLAN)
    for _ in range(20):
        gone = tuple(item for item in PLAN if "default_p2" in (getattr(item, "netns", ""), getattr(item, "name", "")))
        gone += (PODS[0],)
        rest = tuple(item for item in PLAN if item not in gone)
        apply((), gone, rest)
        apply(gone, (), PLAN)
    assert mend() == (frozenset(), frozenset())


def test_many_links_go_in_one_step() -> None:
    """One by one each waits for an RCU grace period, 15 ms: a hundred of them for 1.5 s."""
    pods = [
        Veth(
            "n", f"v{i}", 100 + i, f"0e:00:00:00:00:{i:02x}", 1500, f"p{i}", "eth0", 2, f"0a:00:00:00:00:{i:02x}", 1500
        )
        for i in range(100)
    ]
    names = [Netns(f"p{i}") for i in range(100)]
    apply((Netns("n"), *names, *pods))
    began = time.monotonic()
    apply((), pods, (Netns("n"), *names))
    assert time.monotonic() - began < 0.75
    assert observe(()) == frozenset((Netns("n"), *names))


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(
            Route("default_p2", ip_network("192.0.2.0/24"), ip_address("203.0.113.9"), "eth0"),
            "Nexthop has invalid gateway",
            id="unreachable-gateway",
        ),
        pytest.param(
            Route("default_p2", ip_network("0.0.0.0/0"), ip_address("10.244.0.3"), "eth0"),
            "File exists",
            id="route-twice",
        ),
        pytest.param(Address("default_p2", "eth7", ip_interface("192.0.2.1/24")), "no such link", id="no-such-link"),
        pytest.param(Bridge("node1", "a/b", 60, "0e:00:00:00:00:09", 1500), "Invalid argument", id="link-name"),
        pytest.param(Bridge("node1", "x" * 16, 60, "0e:00:00:00:00:09", 1500), "", id="link-name-long"),
        pytest.param(Bridge("node1", "br9", 3, "0e:00:00:00:00:09", 1500), "", id="index-taken"),
        pytest.param(Sysctl("default_p2", "net.ipv4.no_such_key", "1"), "no such key", id="sysctl-unknown"),
        pytest.param(Sysctl("default_p2", "net.ipv4.ip_forward", "often"), "Invalid argument", id="sysctl-value"),
        pytest.param(Address("nowhere", "eth0", ip_interface("192.0.2.1/24")), "No such file", id="no-such-namespace"),
        pytest.param(
            IptablesChain("default_p2", 4, "filter", "INPUT", "ACCEPT", ("-p tcp -j ACCEPT", "-j NO-SUCH-CHAIN")),
            "Chain 'NO-SUCH-CHAIN' does not exist",
            id="rule",
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_the_object_and_spares_the_rest(item: KernelObject, reason: str) -> None:
    apply(PLAN)
    other = Address("default_p2", "eth0", ip_interface("192.0.2.77/32"))
    with pytest.raises(KernelError) as caught:
        apply((other, item) if isinstance(item, Route) else (item,), (), PLAN)
    assert reason in caught.value.reason
    if not isinstance(item, Address | Bridge):
        assert caught.value.netns == "default_p2"
    if isinstance(item, IptablesChain):
        assert caught.value.subject == "-t filter -A INPUT -j NO-SUCH-CHAIN"
    assert caught.value.subject
    seen = observe(PLAN)
    assert frozenset(PLAN) <= seen
    assert (other in seen) == isinstance(item, Route)
