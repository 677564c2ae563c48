"""Everything that is neither node nor pod: the node network, the router, the external client and the internet.

    client 203.0.113.10 --- router --- fabric (one bridge) --- nodes
    internet 198.51.100.10 ---'

The router forwards and never translates, and has no route to pods or to ClusterIPs: a packet that leaves a node with a
pod's own address gets no answer, as on a real network. Interface indexes are fixed, so nobody has to look one up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.mtu import ETHERNET, Mtus
from k8snetlab.plan.families import DEFAULT_ROUTE, gateway, interface, of_family
from k8snetlab.plan.state import (
    Address,
    Bridge,
    IPAddress,
    KernelObject,
    Neighbour,
    Netns,
    PodServer,
    Route,
    Sysctl,
    Veth,
)

# Where tunnel modules are loaded, every new namespace begins with tunl0, gre0, sit0 and the like, from index 2 on
# (net.core.fb_tunnels_only_for_init_net); there are about ten kinds of them.
UPLINK_INDEX: Final = 20
FABRIC_BRIDGE_INDEX: Final = 20
ROUTER_PORT_INDEX: Final = 21
FIRST_PORT_INDEX: Final = 100  # the fabric's port of node i is 100 + i; a node's port of the pod in slot s is 100 + s
ROUTER_LINKS: Final = {names.CLIENT: ("client0", 21), names.INTERNET: ("internet0", 22)}


def world(cluster: Cluster, sizes: Mtus) -> Iterator[KernelObject]:
    """The fabric and all that hangs on it but the nodes."""
    yield from _fabric(sizes.cables)
    yield from _router(cluster, sizes)
    for name in (names.CLIENT, names.INTERNET):
        yield from _outside_host(cluster, name)
    yield PodServer(names.INTERNET, f"external/{names.INTERNET}", "", names.INTERNET, names.INTERNET_LISTENERS)


def router_address(cluster: Cluster, family: int) -> IPAddress:
    """The nodes' default gateway."""
    return gateway(next(subnet for subnet in cluster.config.node_subnets if subnet.version == family))


def router_mac(cluster: Cluster) -> str:
    """The MAC of the router's eth0, from its address of the primary family."""
    return names.mac_of(router_address(cluster, cluster.config.families[0]))


def uplink_mac(cluster: Cluster, node: Node) -> str:
    """The MAC of a node's eth0, from its address of the primary family."""
    return names.mac_of(of_family(node.addresses, cluster.config.families[0]) or node.addresses[0])


def _fabric(mtu: int) -> Iterator[KernelObject]:
    yield Netns(names.FABRIC)
    # A switch does not look into IP packets: without this every frame between nodes would pass netfilter once more.
    yield Sysctl(names.FABRIC, "net.bridge.bridge-nf-call-iptables", "0")
    yield Sysctl(names.FABRIC, "net.bridge.bridge-nf-call-ip6tables", "0")
    yield Sysctl(names.FABRIC, "net.bridge.bridge-nf-call-arptables", "0")
    yield Bridge(names.FABRIC, names.FABRIC_BRIDGE, FABRIC_BRIDGE_INDEX, "0e:58:00:00:00:01", mtu)


def _router(cluster: Cluster, sizes: Mtus) -> Iterator[KernelObject]:
    mac = router_mac(cluster)
    yield Netns(names.ROUTER)
    yield from forwarding(cluster, names.ROUTER)
    yield Veth(
        names.FABRIC, names.ROUTER, ROUTER_PORT_INDEX, names.port_mac(mac), sizes.cables,
        names.ROUTER, names.UPLINK, UPLINK_INDEX, mac, sizes.nodes, master=names.FABRIC_BRIDGE,
    )  # fmt: skip
    for family in cluster.config.families:
        subnet = of_family(cluster.config.node_subnets, family)
        if subnet is not None:
            yield Address(names.ROUTER, names.UPLINK, interface(gateway(subnet), subnet))
            # Private addresses that nobody here has end in silence, as they do where an uplink filters them (BCP 38).
            # Without a route the router would say unreachable, but once a second and sender only (ip_error).
            yield Route(names.ROUTER, DEFAULT_ROUTE[family], kind="blackhole")
    for node in cluster.nodes:
        for address in node.addresses:
            yield Neighbour(names.ROUTER, names.UPLINK, address, uplink_mac(cluster, node))


def _outside_host(cluster: Cluster, name: str) -> Iterator[KernelObject]:
    """One external host on a cable of its own to the router, which is its default gateway."""
    link, index = ROUTER_LINKS[name]
    primary = cluster.config.families[0]
    router_mac = names.mac_of(gateway(names.outside_network(name, primary)))
    host_mac = names.mac_of(names.outside_address(name, primary))
    yield Netns(name)
    yield Veth(
        names.ROUTER, link, index, router_mac, ETHERNET,
        name, names.UPLINK, UPLINK_INDEX, host_mac, ETHERNET,
    )  # fmt: skip
    for family in cluster.config.families:
        network = names.outside_network(name, family)
        address = names.outside_address(name, family)
        yield Address(names.ROUTER, link, interface(gateway(network), network))
        yield Address(name, names.UPLINK, interface(address, network))
        yield Route(name, DEFAULT_ROUTE[family], gateway(network), names.UPLINK)
        yield Neighbour(names.ROUTER, link, address, host_mac)
        yield Neighbour(name, names.UPLINK, gateway(network), router_mac)


def forwarding(cluster: Cluster, netns: str) -> Iterator[Sysctl]:
    """What makes a namespace a router. Every value is said, since what a new namespace inherits differs by host."""
    if 4 in cluster.config.families:
        yield Sysctl(netns, "net.ipv4.ip_forward", "1")  # kubeadm's preflight asks for it, the bridge plugin sets it
        # Replies may come back by another device (VXLAN, local endpoints): strict reverse path filtering drops them.
        yield Sysctl(netns, "net.ipv4.conf.all.rp_filter", "0")
        yield Sysctl(netns, "net.ipv4.conf.default.rp_filter", "0")
        # REJECT answers by ICMP; at the default limit of one a second to a peer, later refusals would read as timeouts.
        yield Sysctl(netns, "net.ipv4.icmp_ratelimit", "0")
    if 6 in cluster.config.families:
        yield Sysctl(netns, "net.ipv6.conf.all.accept_dad", "0")  # an address can be used at once, not after 1-2 s
        yield Sysctl(netns, "net.ipv6.conf.default.accept_dad", "0")
        yield Sysctl(netns, "net.ipv6.conf.all.forwarding", "1")
        yield Sysctl(netns, "net.ipv6.icmp.ratelimit", "0")
