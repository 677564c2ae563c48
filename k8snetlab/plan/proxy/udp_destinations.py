"""Which UDP flows a node may keep: kube-proxy's conntrack cleanup, the same in every mode.

A flow to a Service keeps the endpoint that its first packet was given. One whose endpoint serves no more is forgotten,
whatever the policies and topology hints say, and so is one from before the first endpoint came (conformance 1.13
#1-#5; kubernetes pkg/proxy/conntrack/cleanup.go, CleanStaleEntries).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, Service, ServicePort
from k8snetlab.plan.state import Family, IPAddress, UdpDestination

Where = tuple[IPAddress | None, int]  # an address, None for any of the node's, and a port


def udp_destinations(cluster: Cluster, netns: str, family: Family) -> Iterator[UdpDestination]:
    """The addresses and node ports of all UDP Service ports in a family; `netns` is a node's."""
    servers: defaultdict[Where, set[IPAddress]] = defaultdict(set)
    for service in cluster.services:
        if service.proxied():
            for port in service.ports:
                if port.protocol == "UDP":
                    for where in _reached(service, port, family):
                        servers[where] |= _serving(port, family)
    for (address, number), found in servers.items():
        yield UdpDestination(netns, family, address, number, tuple(sorted(found, key=int)))


def _reached(service: Service, port: ServicePort, family: Family) -> Iterator[Where]:
    for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips):
        if address.version == family:
            yield address, port.port
    if port.node_port:
        yield None, port.node_port


def _serving(port: ServicePort, family: Family) -> set[IPAddress]:
    """Ready ones count even if they do not serve: publishNotReadyAddresses gives them traffic."""
    return {each.ip for each in port.endpoints if each.ip.version == family and (each.serving or each.ready)}
