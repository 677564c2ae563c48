"""Every kind of kernel object: made by us, read by us and by others, taken away again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from pyroute2 import IPRoute

from k8snetlab.kernel import netns, processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.observe import observe
from k8snetlab.plan.state import (
    Address,
    Bridge,
    FdbEntry,
    IptablesChain,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Netns,
    PodServer,
    Route,
    Sysctl,
    TokenBucket,
    Veth,
    Vxlan,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]

POD_MAC, GATEWAY_MAC = "0a:58:0a:f4:00:02", "0a:58:0a:f4:00:01"
NODE = (Netns("node1"), Bridge("node1", "cni0", 3, GATEWAY_MAC, 1450))
POD = (
    Netns("default_web"),
    Veth("node1", "veth1234", 102, "0e:58:0a:f4:00:02", 1450, "default_web", "eth0", 2, POD_MAC, 1450, "cni0", True),
)
ADDRESSES = (
    Address("node1", "cni0", ip_interface("10.244.0.1/24")),
    Address("default_web", "eth0", ip_interface("10.244.0.2/24")),
    Address("node1", "cni0", ip_interface("fd00:10:244::1/64")),
    Address("default_web", "eth0", ip_interface("fd00:10:244::2/64")),
)
UNDERLAY = Veth("fabric", "n1", 101, "0e:00:00:00:00:01", 1500, "node1", "eth0", 2, "0a:00:00:00:00:01", 1500)
BASE: tuple[KernelObject, ...] = (Netns("fabric"), *NODE, *POD, UNDERLAY, *ADDRESSES)


def see(planned: Iterable[KernelObject]) -> frozenset[KernelObject]:
    return observe(tuple(planned))


CASES: dict[str, tuple[KernelObject, ...]] = {
    "netns": (Netns("empty"),),
    "bridge-jumbo": (Bridge("node1", "br9", 9, "0e:00:00:00:00:09", 9000),),
    "bridge-odd-name": (Bridge("node1", "a.b-c_d", 9, "0e:00:00:00:00:09", 1280),),
    "veth-no-master-two-mtus": (
        Netns("p"),
        Veth("node1", "v", 200, "0e:00:00:00:00:07", 1500, "p", "eth0", 2, "0a:00:00:00:00:07", 1400),
    ),
    "veth-other-end-first": (
        Netns("p"),
        Veth("p", "eth0", 2, "0e:00:00:00:00:07", 1500, "node1", "v", 200, "0a:00:00:00:00:07", 1500),
    ),
    "veth-in-one-namespace": (
        Veth("node1", "v0", 200, "0e:00:00:00:00:07", 1450, "node1", "v1", 201, "0a:00:00:00:00:07", 1450, "cni0"),
    ),
    "veth-port-without-hairpin": (
        Netns("p"),
        Veth("node1", "v0", 200, "0e:00:00:00:00:07", 1450, "p", "eth0", 2, "0a:00:00:00:00:07", 1450, "cni0"),
    ),
    "vxlan-ipv4": (
        Vxlan("node1", "flannel.1", 4, "0a:58:0a:f4:00:00", 1450, 1, ip_address("172.18.0.2"), "eth0", 8472),
        Address("node1", "flannel.1", ip_interface("10.244.0.0/32")),
        Neighbour("node1", "flannel.1", ip_address("10.244.1.0"), "0a:58:0a:f4:01:00"),
        FdbEntry("node1", "flannel.1", "0a:58:0a:f4:01:00", ip_address("172.18.0.3")),
        FdbEntry("node1", "flannel.1", "00:00:00:00:00:00", ip_address("172.18.0.4")),
        FdbEntry("node1", "flannel.1", "00:00:00:00:00:00", ip_address("172.18.0.5")),
        Route("node1", ip_network("10.244.1.0/24"), ip_address("10.244.1.0"), "flannel.1", onlink=True),
    ),
    "vxlan-ipv6": (
        Vxlan("node1", "flannel-v6.1", 5, "0a:58:0a:f4:00:00", 1430, 7, ip_address("fd00::2"), "eth0", 4789),
        Address("node1", "flannel-v6.1", ip_interface("fd00:10:244::/128")),
        Neighbour("node1", "flannel-v6.1", ip_address("fd00:10:244:1::"), "0a:58:0a:f4:01:00"),
        FdbEntry("node1", "flannel-v6.1", "0a:58:0a:f4:01:00", ip_address("fd00::3")),
        Route("node1", ip_network("fd00:10:244:1::/64"), ip_address("fd00:10:244:1::"), "flannel-v6.1", onlink=True),
    ),
    "vxlan-port-that-learns": (
        Vxlan(
            "node1",
            "vxlan-6784",
            6,
            "1e:58:ac:12:00:02",
            1450,
            1,
            ip_address("172.18.0.2"),
            "eth0",
            6784,
            master="cni0",
            learning=True,
        ),
        FdbEntry("node1", "vxlan-6784", "00:00:00:00:00:00", ip_address("172.18.0.3")),
        FdbEntry("node1", "vxlan-6784", "00:00:00:00:00:00", ip_address("172.18.0.4")),
    ),
    "token-bucket": (
        TokenBucket("node1", "veth1234", 8_000_000),
        TokenBucket("default_web", "eth0", 80_000_000_000),
    ),
    "address-on-loopback": (Address("node1", "lo", ip_interface("10.96.0.10/32")),),
    "address-secondary": (Address("node1", "cni0", ip_interface("10.244.0.99/24")),),
    "address-link-local": (Address("node1", "eth0", ip_interface("fe80::1/64")),),
    "route-default": (
        Route("default_web", ip_network("0.0.0.0/0"), ip_address("10.244.0.1"), "eth0"),
        Route("default_web", ip_network("::/0"), ip_address("fd00:10:244::1"), "eth0"),
    ),
    "route-to-a-link": (
        Route("default_web", ip_network("169.254.1.1/32"), None, "eth0"),
        Route("default_web", ip_network("0.0.0.0/0"), ip_address("169.254.1.1"), "eth0"),
        Route("default_web", ip_network("fd00:1::/64"), None, "eth0"),
    ),
    "route-source": (Route("node1", ip_network("10.96.0.0/12"), None, "cni0", source=ip_address("10.244.0.1")),),
    "route-refusing": (
        Route("node1", ip_network("10.244.8.0/24"), kind="blackhole"),
        Route("node1", ip_network("10.244.9.0/24"), kind="unreachable"),
        Route("node1", ip_network("fd00:8::/64"), kind="blackhole"),
        Route("node1", ip_network("fd00:9::/64"), kind="unreachable"),
    ),
    "route-local": (
        Route("node1", ip_network("10.96.0.0/12"), None, "lo", kind="local"),
        Route("node1", ip_network("fd00:96::/112"), None, "lo", kind="local"),
    ),
    "neighbour": (
        Neighbour("default_web", "eth0", ip_address("10.244.0.1"), GATEWAY_MAC),
        Neighbour("node1", "cni0", ip_address("fd00:10:244::2"), POD_MAC),
    ),
    "iptables": (
        IptablesChain("node1", 4, "nat", "PREROUTING", "ACCEPT", ("-j KUBE-SERVICES",)),
        IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-m addrtype --dst-type LOCAL -j RETURN",)),
        IptablesChain("node1", 6, "filter", "FORWARD", "DROP", ()),
    ),
}


@pytest.mark.parametrize("items", [pytest.param(items, id=name) for name, items in CASES.items()])
def test_made_seen_and_taken_away(items: tuple[KernelObject, ...]) -> None:
    apply(BASE)
    assert see(BASE) == frozenset(BASE)
    planned = (*BASE, *items)
    apply(items, planned=planned)
    assert see(planned) == frozenset(planned)
    apply((), items, BASE)
    assert see(BASE) == frozenset(BASE)


def test_all_at_once_and_twice() -> None:
    alike = ("veth", "bridge", "route-default")  # each by itself: they share names with others
    items = (item for name, case in CASES.items() if not name.startswith(alike) for item in case)
    planned = tuple(dict.fromkeys((*BASE, *items)))
    apply(planned)
    assert see(planned) == frozenset(planned)
    apply((), planned, ())
    assert see(()) == frozenset()
    apply(planned)
    assert see(planned) == frozenset(planned)


SYSCTLS = (
    Sysctl("node1", "net.ipv4.ip_forward", "1"),
    Sysctl("node1", "net.ipv4.conf.all.rp_filter", "0"),
    Sysctl("node1", "net.ipv6.conf.all.forwarding", "1"),
    Sysctl("node1", "net.bridge.bridge-nf-call-iptables", "0"),
    Sysctl("node1", "net.ipv4.conf.cni0.route_localnet", "1"),
    Sysctl("node1", "net.ipv4.conf.eth0/100.proxy_arp", "1"),
    Sysctl("default_web", "net.ipv4.ping_group_range", "0 2147483647"),
    Sysctl("default_web", "net.ipv6.conf.eth0.accept_ra", "0"),
)


def test_sysctls_of_namespaces_and_of_links() -> None:
    planned = (*BASE, Bridge("node1", "eth0.100", 50, "0e:00:00:00:00:50", 1500), *SYSCTLS)
    apply(planned)
    assert see(planned) == frozenset(planned)
    assert processes.run(["cat", "/proc/sys/net/ipv4/conf/eth0.100/proxy_arp"], "node1").stdout == b"1\n"
    assert processes.run(["cat", "/proc/sys/net/ipv4/ip_forward"], "default_web").stdout == b"0\n"


def test_what_a_routing_daemon_learned_is_seen() -> None:
    apply(BASE)
    hop = ip_address("10.244.0.9")
    for words in ("10.244.1.0/24 via 10.244.0.9", "blackhole 10.244.2.0/26", "blackhole fd00:2::/122"):
        family = "-6" if ":" in words else "-4"
        processes.run(["ip", family, "route", "add", *words.split(), "proto", "bird"], "node1")
    learned = (
        LearnedRoute("node1", ip_network("10.244.1.0/24"), (hop,)),
        LearnedRoute("node1", ip_network("10.244.2.0/26"), ()),
        LearnedRoute("node1", ip_network("fd00:2::/122"), ()),
    )
    assert see(BASE) == frozenset((*BASE, *learned))


def test_every_pod_has_the_same_indexes_on_every_node() -> None:
    """Index and name of both ends repeat, so only the namespaces' numbers say who belongs to whom."""
    planned: list[KernelObject] = [Netns(f"node{n}") for n in range(4)]
    for n in range(4):
        for p in range(3):
            pod = f"default_p{n}-{p}"
            mac = f"00:00:00:00:{p:02x}"  # equal on all nodes: a guess by MAC is no proof
            planned += [
                Netns(pod),
                Veth(f"node{n}", f"v{p}", 100 + p, f"0e:{mac}", 1500, pod, "eth0", 2, f"0a:{mac}", 1500),
            ]
    apply(planned)
    assert see(planned) == frozenset(planned)


def test_what_is_not_the_kernels_is_passed_over() -> None:
    apply((Netns("n"), PodServer("n", "default/web", "node1", "web", (("TCP", 80),))))
    assert see(()) == {Netns("n")}


def test_pyroute2_reads_the_same() -> None:
    planned = (*BASE, *CASES["route-to-a-link"])
    apply(planned)
    with netns.inside("default_web"), IPRoute() as route:
        (link,) = route.get_links(2)
        assert link.get_attr("IFLA_IFNAME") == "eth0"
        assert link.get_attr("IFLA_ADDRESS") == POD_MAC
        assert link.get_attr("IFLA_MTU") == 1450
        assert link.get_attr("IFLA_LINK") == 102
        assert link["flags"] & 1
        assert (link.get_attr("IFLA_NUM_TX_QUEUES"), link.get_attr("IFLA_NUM_RX_QUEUES")) == (1, 1)
        addresses = {(a.get_attr("IFA_ADDRESS"), a["prefixlen"]) for a in route.get_addr(index=2)}
        assert addresses == {("10.244.0.2", 24), ("fd00:10:244::2", 64)}
        assert route.get_links(1)[0]["flags"] & 1
        routes = {
            (r.get_attr("RTA_DST"), r["dst_len"], r.get_attr("RTA_GATEWAY"), r["scope"])
            for r in route.get_routes(family=socket.AF_INET, table=254)
            if r["proto"] != 2
        }
        assert (None, 0, "169.254.1.1", 0) in routes
        assert ("169.254.1.1", 32, None, 253) in routes


def test_iproute2_reads_the_same() -> None:
    vxlan = CASES["vxlan-ipv4"]
    apply((*BASE, *vxlan))
    done = processes.run(["ip", "-j", "-d", "link"], "node1")
    links = {link["ifname"]: link for link in json.loads(done.stdout)}
    port = links["veth1234"]
    assert (port["master"], port["ifindex"], port["mtu"]) == ("cni0", 102, 1450)
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert {link["inet6_addr_gen_mode"] for name, link in links.items() if name != "lo"} == {"none"}
    tunnel = links["flannel.1"]["linkinfo"]["info_data"]
    assert (tunnel["id"], tunnel["link"], tunnel["local"], tunnel["port"]) == (1, "eth0", "172.18.0.2", 8472)
    assert tunnel["learning"] is False
    forwarding = processes.run(["bridge", "fdb", "show", "dev", "flannel.1"], "node1").stdout.decode().splitlines()
    assert "0a:58:0a:f4:01:00 dst 172.18.0.3 self permanent" in [line.strip() for line in forwarding]
    assert sum("00:00:00:00:00:00 dst" in line for line in forwarding) == 2


def test_we_read_what_ip_has_made() -> None:
    script = """
    ip netns add a; ip netns add b
    ip -n a link set lo up
    ip -n a link add br0 address 0e:00:00:00:00:01 type bridge
    ip -n a link add veth0 address 0e:00:00:00:00:02 type veth peer name eth0 address 0a:00:00:00:00:02 netns b
    ip -n a link set veth0 mtu 1400 master br0 up; ip -n a link set br0 up; bridge -n a link set dev veth0 hairpin on
    ip -n b link set eth0 up; ip -n b addr add 10.0.0.2/24 dev eth0; ip -n b route add default via 10.0.0.1
    ip -n b neigh add 10.0.0.1 lladdr 0e:00:00:00:00:01 dev eth0
    ip -n b -6 addr add fd00::2/64 dev eth0 nodad; ip -n b route add blackhole 10.9.0.0/16
    """
    done = processes.run(["sh", "-ec", script])
    assert done.returncode == 0, done.stderr
    seen = see(())
    (veth,) = (item for item in seen if isinstance(item, Veth))
    (bridge,) = (item for item in seen if isinstance(item, Bridge))
    assert (veth.netns, veth.name, veth.mtu, veth.master, veth.hairpin) == ("a", "veth0", 1400, "br0", True)
    assert (veth.peer_netns, veth.peer_name, veth.peer_mac, veth.up) == ("b", "eth0", "0a:00:00:00:00:02", True)
    assert (bridge.netns, bridge.mac, bridge.up) == ("a", "0e:00:00:00:00:01", True)
    link_local = {item for item in seen if isinstance(item, Address) and item.interface.is_link_local}
    assert not link_local, "what the kernel gives a link by itself is not listed"
    assert seen - {veth, bridge} == {
        Netns("a"),
        Netns("b", up=False),
        Address("b", "eth0", ip_interface("10.0.0.2/24")),
        Address("b", "eth0", ip_interface("fd00::2/64")),
        Route("b", ip_network("0.0.0.0/0"), ip_address("10.0.0.1"), "eth0"),
        Route("b", ip_network("10.9.0.0/16"), kind="blackhole"),
        Neighbour("b", "eth0", ip_address("10.0.0.1"), "0e:00:00:00:00:01"),
    }
