"""How the world outside finds the addresses of load balancers and external IPs.

In mode l2 an address lies in the node network, so the router asks for it by ARP or neighbour solicitation, and the
announcing node answers with its own MAC; the address is on no interface. For mode bgp see `bgp`. To external IPs the
router has routes.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Interface, ip_network
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.announcers import announced, routed
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.bgp import bgp
from k8snetlab.plan.families import of_family
from k8snetlab.plan.state import Address, Announcement, KernelObject, Route, Sysctl

ROUTER_LINK_LOCAL: Final = IPv6Interface("fe80::1/64")


def announcements(cluster: Cluster) -> Iterator[KernelObject]:
    """What makes them reachable through the router, in the order of the Services."""
    everyone = announced(cluster)
    if cluster.config.load_balancer_mode == "bgp":
        yield from bgp(cluster, everyone)
    found = everyone if cluster.config.load_balancer_mode == "l2" else {}
    if found:
        # A router that has just learned an address ignores for a second (locktime) who else claims it: a failover
        # within that second would be missed until the entry grows old.
        yield Sysctl(names.ROUTER, f"net.ipv4.neigh.{names.UPLINK}.locktime", "0")
    if any(address.version == 6 for address in found):
        # For what it forwards a router solicits neighbours from its link-local address only (ndisc_send_ns).
        yield Address(names.ROUTER, names.UPLINK, ROUTER_LINK_LOCAL)
    if found and cluster.config.proxy_mode == "ipvs":
        # kube-proxy's --ipvs-strict-arp, which MetalLB asks for: on kube-ipvs0 every node has every address, and the
        # kernel would answer ARP for it on all of them.
        for node in cluster.nodes:
            yield Sysctl(node.name, "net.ipv4.conf.all.arp_ignore", "1")
            yield Sysctl(node.name, "net.ipv4.conf.all.arp_announce", "2")
    for address, nodes in found.items():
        for node in nodes:
            yield Announcement(node.name, names.UPLINK, address)
    for address, node in routed(cluster).items():
        via = of_family(node.addresses, 4 if address.version == 4 else 6)
        if via is not None:
            yield Route(names.ROUTER, ip_network(address), via, names.UPLINK)
