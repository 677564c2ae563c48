"""Who looks up the host of an Ingress or HTTPRoute from outside gets a load balancer's address: external-dns."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, IPAddress
from k8snetlab.cluster.routing.gateways import attach
from k8snetlab.cluster.routing.ingress import served_ingresses
from k8snetlab.cluster.routing.table import INGRESS_SERVICE, gateway_service


def public_names(cluster: Cluster) -> dict[str, tuple[IPAddress, ...]]:
    """Each host with the addresses of the first Ingress or Gateway that serves it; wildcards as they are written."""
    found: dict[str, tuple[IPAddress, ...]] = {}
    for service, host in _hosts(cluster):
        balancer = cluster.service(service)
        if host and balancer is not None and balancer.load_balancer_ips:
            found.setdefault(host.lower(), balancer.load_balancer_ips)
    return found


def _hosts(cluster: Cluster) -> Iterator[tuple[str, str]]:
    for ingress in served_ingresses(cluster):
        yield from ((INGRESS_SERVICE, rule.host) for rule in ingress.spec.rules)
    for state in attach(cluster).gateways:
        for listener in state.listeners:
            if listener.served:
                service = gateway_service(state.key)
                yield from ((service, host) for attached in listener.routes for host in attached.hosts)
