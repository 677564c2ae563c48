"""Which nodes take in what comes for an address of a load balancer, or for an external IP: decided as MetalLB does.

Elections are without state: every node computes the same answer from the same cluster, so nobody has to be asked
(MetalLB, speaker/layer2_controller.go and speaker/bgp_controller.go; conformance LB 17-20).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Endpoint, IPAddress, Node, Service

# KEP-1143: a node that load balancers leave out. MetalLB's speaker does not announce from it.
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def announced(cluster: Cluster) -> Mapping[IPAddress, tuple[Node, ...]]:
    """The nodes that say an address of a load balancer is theirs: one in mode l2, all that may in mode bgp.

    An address that nobody may announce is not there: without endpoints, or outside the pools (somebody else's).
    """
    found: dict[IPAddress, tuple[Node, ...]] = {}
    for service in cluster.services:
        if not _ours(service):
            continue
        for address in service.load_balancer_ips:
            if address not in found and any(address in pool for pool in cluster.config.load_balancer_pools):
                nodes = _candidates(cluster, service, address)
                if nodes:
                    found[address] = nodes[:1] if cluster.config.load_balancer_mode == "l2" else nodes
    return found


def routed(cluster: Cluster) -> Mapping[IPAddress, Node]:
    """Where the router sends what comes for a Service's externalIPs: nobody announces these, an administrator routes
    them (Kubernetes, "External IPs"). With policy Local it must be a node that has an endpoint.

    No route for an external IP that some machine has as its own, nor for one that belongs to the networks outside.
    """
    found: dict[IPAddress, Node] = {}
    for service in cluster.services:
        for address in service.external_ips if service.proxied() else ():
            if address.version in cluster.config.families and address not in found and not _taken(cluster, address):
                nodes = _candidates(cluster, service, address) or _ranked(_up(cluster) or cluster.nodes, address)
                found[address] = nodes[0]
    return found


def _taken(cluster: Cluster, address: IPAddress) -> bool:
    of_nodes = any(address in node.addresses for node in cluster.nodes)
    outside = any(address in network for networks in names.OUTSIDE_NETWORKS.values() for network in networks)
    return of_nodes or outside or any(address in service.load_balancer_ips for service in cluster.services)


def _ours(service: Service) -> bool:
    return service.proxied() and service.spec.type == "LoadBalancer" and service.spec.load_balancer_class is None


def _candidates(cluster: Cluster, service: Service, address: IPAddress) -> tuple[Node, ...]:
    """Every node that may, the winner first: those with an endpoint of the Service when its policy is Local, else any,
    as long as there is some endpoint that can serve."""
    serving = {endpoint.node for endpoint in _endpoints(service, address) if endpoint.serving}
    if not serving:
        return ()
    nodes = [node for node in _up(cluster) if EXCLUDED not in node.labels]
    if service.external_local:
        nodes = [node for node in nodes if node.name in serving]
    return _ranked(nodes, address)


def _up(cluster: Cluster) -> list[Node]:
    return [node for node in cluster.nodes if node.ready]


def _endpoints(service: Service, address: IPAddress) -> Iterator[Endpoint]:
    for port in service.ports:
        for endpoint in port.endpoints:
            if endpoint.ip.version == address.version:
                yield endpoint


def _ranked(nodes: Sequence[Node], address: IPAddress) -> tuple[Node, ...]:
    """By the hash of node and address, so that addresses spread over the nodes and a loser's end moves none."""
    return tuple(sorted(nodes, key=lambda node: sha256(f"{node.name}#{address}".encode()).digest()))
