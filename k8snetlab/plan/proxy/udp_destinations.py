"""Which UDP flows a node may keep: kube-proxy's conntrack cleanup, the same in every mode.

A flow to a Service keeps the endpoint that its first packet was given. One whose endpoint serves no more is forgotten,
whatever the policies and topology hints say, and so is one from before the first endpoint came (conformance 1.13
#1-#5; kubernetes pkg/proxy/conntrack/cleanup.go, CleanStaleEntries).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from k8snetlab.cluster.model import Cluster, Node, Service, ServicePort
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy.iptables import LOOPBACK
from k8snetlab.plan.state import Family, IPAddress, UdpDestination

Where = tuple[IPAddress, int]


def udp_destinations(cluster: Cluster, node: Node, family: Family) -> Iterator[UdpDestination]:
    """The addresses and node ports of all UDP Service ports on a node, in one family.

    Node ports at the node's own addresses only: to another node's they are a flow that passes, and not translated here.
    """
    own = (LOOPBACK[family], *node_addresses(cluster, node, family))
    servers: defaultdict[Where, set[IPAddress]] = defaultdict(set)
    for service in cluster.services:
        if service.proxied():
            for port in service.ports:
                if port.protocol == "UDP":
                    for where in _reached(service, port, family, own):
                        servers[where] |= _serving(port, family)
    for (address, number), found in servers.items():
        yield UdpDestination(node.name, family, address, number, tuple(sorted(found, key=int)))


def _reached(service: Service, port: ServicePort, family: Family, own: Sequence[IPAddress]) -> Iterator[Where]:
    for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips):
        if address.version == family:
            yield address, port.port
    if port.node_port:
        yield from ((address, port.node_port) for address in own)


def _serving(port: ServicePort, family: Family) -> set[IPAddress]:
    """Ready ones count even if they do not serve: publishNotReadyAddresses gives them traffic."""
    return {each.ip for each in port.endpoints if each.ip.version == family and (each.serving or each.ready)}
