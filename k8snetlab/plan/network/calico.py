"""Calico: no bridge. Every pod hangs on its node by a cable of its own, and everything between pods is routed.

A pod has a single address (/32) and one way out, 169.254.1.1, which exists nowhere: the node's end of the cable says
that it is that, by proxy ARP, with the MAC that all such ends have. The node has a route to each of its pods, a
blackhole for its blocks, so that nobody sends packets for unused addresses in circles, and routes to the blocks of the
other nodes: in VXLAN (Felix), learned by BGP (bird), or plain ones (`none`). Sources: Calico, felix/dataplane/linux
(endpoint_mgr, vxlan_mgr), cni-plugin/pkg/dataplane/linux and reference/faq ("Why does my container have a route to
169.254.1.1?").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.hostports import port_mappings
from k8snetlab.cluster.model import Cluster, IPPool, Node, Pod
from k8snetlab.cluster.mtu import mtus
from k8snetlab.plan.families import DEFAULT_ROUTE, of_family
from k8snetlab.plan.hostports import let_loopback_out
from k8snetlab.plan.network import calico_bgp
from k8snetlab.plan.network.calico_rules import pool_sets, write_nat
from k8snetlab.plan.network.pods import pod_namespace, pods_of_nodes, shaping
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import (
    Address,
    Family,
    FdbEntry,
    IPAddress,
    IPNetwork,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Route,
    Sysctl,
    Veth,
    Vxlan,
)
from k8snetlab.plan.world import FIRST_PORT_INDEX, UPLINK_INDEX

CABLE_MAC: Final = "ee:ee:ee:ee:ee:ee"
GATEWAYS: Final[dict[Family, IPAddress]] = {
    4: ip_address("169.254.1.1"),
    6: ip_address("fe80::ecee:eeff:feee:eeee"),  # the link-local address that MAC makes
}
VNI: Final = 4096
PORT: Final = 4789
DEVICES: Final[dict[Family, tuple[str, int]]] = {4: ("vxlan.calico", 22), 6: ("vxlan-v6.calico", 23)}


class CalicoNetwork:
    """The planner of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._pools = {pool.name: pool for pool in cluster.ip_pools}
        tunnelled = sorted({pool.cidr.version for pool in cluster.ip_pools if pool.encapsulated})
        families: list[Family] = [4 if version == 4 else 6 for version in tunnelled]
        self.pod_mtu = mtus(cluster).pods
        self._tunnelled = families
        self._pods = pods_of_nodes(cluster)
        self._ways = _ways(cluster)

    def node(self, node: Node) -> Iterator[KernelObject]:
        yield from pool_sets(self.cluster, node)
        for family in self._tunnelled:
            yield from self._tunnel(node, family)
        for pool, cidr, owner in self._ways:
            yield from self._way(node, self._pools[pool], cidr, owner)
        if self.cluster.config.backend == "bgp":
            yield calico_bgp.config_file(self.cluster, node)
        for pod in self._pods.get(node.name, ()):
            yield from self._pod(node, pod)

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        tunnel = DEVICES[family][0] if family in self._tunnelled and of_family(node.network_addresses, family) else ""
        write_nat(family, ruleset, tunnel)

    def _tunnel(self, node: Node, family: Family) -> Iterator[KernelObject]:
        """The node's end of the tunnel, and where the others' ends are."""
        device, index = DEVICES[family]
        own, local = of_family(node.network_addresses, family), of_family(node.addresses, family)
        if own is None or local is None:
            return
        yield Vxlan(node.name, device, index, names.mac_of(own), self.pod_mtu, VNI, local, names.UPLINK, PORT)
        yield Address(node.name, device, ip_interface((own, own.max_prefixlen)))
        for other in self.cluster.nodes:
            end, address = of_family(other.network_addresses, family), of_family(other.addresses, family)
            if other is not node and end is not None and address is not None:
                yield Neighbour(node.name, device, end, names.mac_of(end))
                yield FdbEntry(node.name, device, names.mac_of(end), address)

    def _way(self, node: Node, pool: IPPool, cidr: IPNetwork, owner: Node) -> Iterator[KernelObject]:
        """How a node reaches a block, or a borrowed address; bird makes what BGP carries, blackholes included."""
        family: Family = 4 if cidr.version == 4 else 6
        by_bird = self.cluster.config.backend == "bgp" and not pool.encapsulated
        if owner is node:
            if cidr.prefixlen < cidr.max_prefixlen:
                yield LearnedRoute(node.name, cidr, ()) if by_bird else Route(node.name, cidr, kind="blackhole")
        elif pool.encapsulated:
            end = of_family(owner.network_addresses, family)
            yield Route(node.name, cidr, end, DEVICES[family][0], onlink=True)
        elif (hop := of_family(owner.addresses, family)) is not None:
            if not by_bird:
                yield Route(node.name, cidr, hop, names.UPLINK)
            elif node.ready and owner.ready:  # else one of the two is cut off and nothing is heard of it
                yield LearnedRoute(node.name, cidr, (hop,))

    def _pod(self, node: Node, pod: Pod) -> Iterator[KernelObject]:
        netns = names.pod_netns(pod.namespace, pod.name)
        cable = names.calico_link(pod.namespace, pod.name)
        mac = names.mac_of(pod.ips[0])
        yield from pod_namespace(pod)
        yield Veth(
            node.name, cable, FIRST_PORT_INDEX + pod.slot, CABLE_MAC, self.pod_mtu,
            netns, names.UPLINK, UPLINK_INDEX, mac, self.pod_mtu,
        )  # fmt: skip
        if 4 in self.cluster.config.families:
            yield Sysctl(node.name, f"net.ipv4.conf.{cable}.proxy_arp", "1")
            if port_mappings(pod):
                yield let_loopback_out(node.name, cable)
        yield from shaping(pod, node, cable)
        for ip in pod.ips:
            family: Family = 4 if ip.version == 4 else 6
            gateway = GATEWAYS[family]
            if family == 6:
                yield Address(node.name, cable, ip_interface((gateway, 64)))
            yield Route(node.name, ip_network(ip), link=cable)
            yield Neighbour(node.name, cable, ip, mac)
            yield Address(netns, names.UPLINK, ip_interface((ip, ip.max_prefixlen)))
            yield Neighbour(netns, names.UPLINK, gateway, CABLE_MAC)
            if family == 4:
                yield Route(netns, ip_network(gateway), link=names.UPLINK)
            yield Route(netns, DEFAULT_ROUTE[family], gateway, names.UPLINK)


def _ways(cluster: Cluster) -> list[tuple[str, IPNetwork, Node]]:
    """Pool, destination and the node it is on: every block, and every address that a pod elsewhere has borrowed."""
    nodes = {node.name: node for node in cluster.nodes}
    ways = [(each.pool, each.cidr, nodes[each.node]) for each in cluster.ip_ranges if each.node]
    return ways + [
        (pool, ip_network(ip), nodes[node]) for node, found in borrowed(cluster).items() for pool, ip, _ in found
    ]


def borrowed(cluster: Cluster) -> dict[str, list[tuple[str, IPAddress, str]]]:
    """Node → pool, address and link of its pods, and of its tunnel's end, that are in no block of its own."""
    own: defaultdict[str, set[IPNetwork]] = defaultdict(set)
    for each in cluster.ip_ranges:
        own[each.node].add(each.cidr)
    holders = [
        (node.name, ip, DEVICES[4 if ip.version == 4 else 6][0])
        for node in cluster.nodes
        for ip in node.network_addresses
    ]
    holders += [
        (pod.node, ip, names.calico_link(pod.namespace, pod.name))
        for pod in cluster.pods
        if not pod.host_network
        for ip in pod.ips
    ]
    found: defaultdict[str, list[tuple[str, IPAddress, str]]] = defaultdict(list)
    for node, ip, link in holders:
        if any(ip in cidr for cidr in own[node]):
            continue
        pool = next((pool.name for pool in cluster.ip_pools if ip in pool.cidr), None)
        if pool is not None:
            found[node].append((pool, ip, link))
    return found
