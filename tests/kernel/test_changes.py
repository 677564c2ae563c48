"""From a difference to what must be done: no kernel is needed to say it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from k8snetlab.kernel.changes import changes
from k8snetlab.kernel.describe import describe
from k8snetlab.kernel.sysctl import of_link, path
from k8snetlab.plan.state import (
    Address,
    Bridge,
    FdbEntry,
    IptablesChain,
    KernelObject,
    Neighbour,
    Netns,
    PodServer,
    Route,
    Sysctl,
    Veth,
    Vxlan,
)

BRIDGE = Bridge("n", "cni0", 3, "0a:00:00:00:00:01", 1500)
POD = Veth("n", "veth0", 100, "0e:00:00:00:00:02", 1500, "p", "eth0", 2, "0a:00:00:00:00:02", 1500, "cni0", True)
TUNNEL = Vxlan("n", "flannel.1", 4, "0a:00:00:00:00:03", 1450, 1, ip_address("172.18.0.2"), "eth0", 8472)
GATEWAY = Address("n", "cni0", ip_interface("10.244.0.1/24"))
ADDRESS = Address("p", "eth0", ip_interface("10.244.0.2/24"))
DEFAULT = Route("p", ip_network("0.0.0.0/0"), ip_address("169.254.1.1"), "eth0")
ON_LINK = Route("p", ip_network("169.254.1.1/32"), None, "eth0")
NEIGHBOUR = Neighbour("n", "cni0", ip_address("10.244.0.2"), "0a:00:00:00:00:02")
ENTRY = FdbEntry("n", "flannel.1", "0a:00:00:00:00:09", ip_address("172.18.0.3"))
CHAIN = IptablesChain("n", 4, "nat", "A", "", ("-j RETURN",))


def test_a_fresh_lab_is_all_making() -> None:
    todo = changes((Netns("n"), Netns("p"), BRIDGE, POD, DEFAULT, ON_LINK, ADDRESS, NEIGHBOUR, CHAIN))
    assert todo.created == ["n", "p"]
    assert todo.links == [BRIDGE, POD]
    assert todo.added["p"] == [ADDRESS, ON_LINK, DEFAULT], "a gateway is reached by the route before"
    assert todo.chains == {("n", 4, "nft"): ([CHAIN], [])}
    assert [*todo.removed, *todo.taken, *todo.unlinked, *todo.updated, *todo.restored] == []


def test_what_the_lab_serves_is_passed_over() -> None:
    assert changes((PodServer("p", "default/web", "n", "web", ()),)) == changes(())


@pytest.mark.parametrize(
    ("key", "late"),
    [
        pytest.param("net.ipv4.ip_forward", False, id="namespace"),
        pytest.param("net.ipv6.conf.default.accept_dad", False, id="default"),
        pytest.param("net.ipv4.conf.all.rp_filter", False, id="all"),
        pytest.param("net.bridge.bridge-nf-call-iptables", False, id="bridge"),
        pytest.param("net.ipv4.conf.lo.route_localnet", False, id="loopback"),
        pytest.param("net.ipv4.conf.eth0.rp_filter", True, id="link"),
        pytest.param("net.ipv4.neigh.cali0.proxy_delay", True, id="link-neighbours"),
        pytest.param("net.ipv6.conf.eth0/100.forwarding", True, id="link-with-dot"),
    ],
)
def test_sysctls_before_links_and_after(key: str, late: bool) -> None:
    item = Sysctl("n", key, "1")
    todo = changes((item,))
    assert (todo.late if late else todo.early) == {"n": [item]}
    assert not (todo.early if late else todo.late)


def test_the_file_of_a_key_whose_link_has_a_dot() -> None:
    assert path("net.ipv4.conf.eth0/100.rp_filter") == "sys/net/ipv4/conf/eth0.100/rp_filter"
    assert of_link("net.ipv4.conf.eth0/100.rp_filter") == "eth0.100"


@pytest.mark.parametrize(
    "change",
    [
        {"mac": "0e:00:00:00:00:99"}, {"mtu": 1400}, {"peer_mac": "0a:00:00:00:00:99"}, {"peer_mtu": 1400},
        {"master": "", "hairpin": False}, {"hairpin": False}, {"up": False},
    ],
    ids=str,
)  # fmt: skip
def test_changed_in_place(change: dict[str, object]) -> None:
    old = replace(POD, **change)  # type: ignore[arg-type]
    todo = changes((POD,), (old,), (BRIDGE, POD, ADDRESS))
    assert todo.updated == [(old, POD)]
    assert [*todo.links, *todo.unlinked] == []


@pytest.mark.parametrize(
    "change", [{"index": 101}, {"peer_index": 3}, {"peer_name": "eth1"}, {"peer_netns": "q"}], ids=str
)
def test_made_anew_with_all_that_is_on_it(change: dict[str, object]) -> None:
    old = replace(POD, **change)  # type: ignore[arg-type]
    sysctl = Sysctl("n", "net.ipv4.conf.veth0.rp_filter", "0")
    todo = changes((POD,), (old,), (BRIDGE, POD, GATEWAY, NEIGHBOUR, ADDRESS, DEFAULT, sysctl))
    assert (todo.links, todo.unlinked, todo.updated) == ([POD], [old], [])
    assert GATEWAY in todo.restored["n"]
    assert todo.late == {"n": [sysctl]}


def test_a_bridge_made_anew_gets_its_ports_back() -> None:
    old = replace(BRIDGE, index=9)
    todo = changes((BRIDGE,), (old,), (BRIDGE, POD, GATEWAY, NEIGHBOUR))
    assert todo.updated == [(replace(POD, master="", hairpin=False), POD)]
    assert todo.restored["n"] == [GATEWAY, NEIGHBOUR]


def test_a_tunnel_dies_with_the_link_it_stands_on() -> None:
    uplink = Veth("fabric", "n1", 101, "0e:00:00:00:00:08", 1500, "n", "eth0", 2, "0a:00:00:00:00:08", 1500)
    old = replace(uplink, index=102)
    todo = changes((uplink,), (old,), (uplink, TUNNEL, ENTRY))
    assert todo.links == [uplink, TUNNEL]
    assert todo.restored["n"] == [ENTRY]


def test_what_goes_with_its_namespace_is_not_taken_away_by_itself() -> None:
    chain = replace(CHAIN, netns="p")
    todo = changes((), (Netns("p"), POD, ADDRESS, DEFAULT, chain, NEIGHBOUR), (Netns("n"), BRIDGE))
    assert todo.removed == ["p"]
    assert todo.unlinked == [POD], "its other end must be gone from the node at once"
    assert todo.taken == {"n": [NEIGHBOUR]}
    assert todo.chains == {}


def test_a_pair_whose_namespaces_both_go_goes_with_them() -> None:
    todo = changes((), (Netns("n"), Netns("p"), POD, BRIDGE))
    assert (todo.removed, todo.unlinked) == (["n", "p"], [])


def test_routes_go_before_addresses() -> None:
    todo = changes((), (ADDRESS, DEFAULT, ON_LINK), ())
    assert todo.taken["p"] == [DEFAULT, ON_LINK, ADDRESS]


def test_an_address_that_goes_may_take_planned_ones_along() -> None:
    other = Address("p", "eth0", ip_interface("10.244.0.9/24"))
    todo = changes((), (other,), (ADDRESS, ON_LINK, DEFAULT, GATEWAY))
    assert todo.restored == {"p": [ADDRESS, ON_LINK, DEFAULT]}


def test_a_chain_that_changed_is_written_not_deleted() -> None:
    old, other = replace(CHAIN, rules=()), replace(CHAIN, name="OLD")
    todo = changes((CHAIN,), (old, other), (CHAIN,))
    assert todo.chains == {("n", 4, "nft"): ([CHAIN], [other])}


def test_a_namespace_whose_loopback_is_down_is_not_made_again() -> None:
    todo = changes((Netns("p"),), (Netns("p", up=False), Netns("q", up=False)), (Netns("p"),))
    assert (todo.created, todo.raised, todo.removed) == ([], ["p"], ["q"])


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Netns("n"), "network namespace n"),
        (BRIDGE, "bridge cni0"),
        (POD, "veth veth0 (peer eth0 in p)"),
        (TUNNEL, "vxlan flannel.1"),
        (ADDRESS, "address 10.244.0.2/24 dev eth0"),
        (DEFAULT, "route 0.0.0.0/0 via 169.254.1.1 dev eth0"),
        (Route("n", ip_network("10.0.0.0/8"), kind="blackhole"), "route blackhole 10.0.0.0/8"),
        (replace(DEFAULT, onlink=True, source=ip_address("10.0.0.1")),
         "route 0.0.0.0/0 via 169.254.1.1 dev eth0 src 10.0.0.1 onlink"),
        (NEIGHBOUR, "neighbour 10.244.0.2 lladdr 0a:00:00:00:00:02 dev cni0"),
        (ENTRY, "forwarding entry 0a:00:00:00:00:09 dst 172.18.0.3 dev flannel.1"),
        (Sysctl("n", "net.ipv4.ip_forward", "1"), "sysctl net.ipv4.ip_forward=1"),
        (CHAIN, "chain nat A (IPv4)"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else None,
)  # fmt: skip
def test_in_words(item: KernelObject, text: str) -> None:
    assert describe(item) == text
