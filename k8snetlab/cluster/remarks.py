"""What a user should know about a cluster before trusting it: what is not enforced or served, and likely mistakes."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.config import NETWORKS_WITHOUT_POLICY
from k8snetlab.cluster.model import Cluster, Service


def remarks(cluster: Cluster) -> tuple[str, ...]:
    """One line each, the gravest first. A policy that is accepted and not enforced must never pass in silence."""
    return (*_not_enforced(cluster), *_not_served(cluster), *_network(cluster), *_empty_services(cluster))


def _not_enforced(cluster: Cluster) -> Iterator[str]:
    for policies, one, many in (
        (cluster.network_policies, "NetworkPolicy", "NetworkPolicies"),
        (cluster.admin_policies, "admin policy", "admin policies"),
    ):
        if policies and cluster.config.policy_engine == "none":
            why = (
                f"network {cluster.config.network} has no policy engine"
                if cluster.config.network in NETWORKS_WITHOUT_POLICY
                else "policyEngine is none"
            )
            yield f"{_count(len(policies), one, many)} NOT enforced: {why}, all traffic is allowed"


def _not_served(cluster: Cluster) -> Iterator[str]:
    if cluster.ingresses:
        yield f"{_count(len(cluster.ingresses), 'Ingress', 'Ingresses')} not served: there is no ingress controller"


def _network(cluster: Cluster) -> Iterator[str]:
    for pool in cluster.ip_pools:
        for what in pool.unheeded:
            yield f"IPPool {pool.name}: {what} has no effect{f' ({pool.source})' if pool.source else ''}"
    if cluster.config.network == "weave" and 6 in cluster.config.families:
        yield "Weave Net itself has no IPv6: what the lab shows is how its one flat Ethernet would carry it"


def _empty_services(cluster: Cluster) -> Iterator[str]:
    for service in cluster.services:
        if service.spec.selector and service.spec.type != "ExternalName" and not _selects(cluster, service):
            where = f" ({service.source})" if service.source else ""
            yield f"Service {service.key} selects no pod{where}"


def _selects(cluster: Cluster, service: Service) -> bool:
    wanted = (service.spec.selector or {}).items()
    return any(pod.namespace == service.namespace and wanted <= pod.labels.items() for pod in cluster.pods)


def _count(number: int, one: str, many: str) -> str:
    return f"1 {one} is" if number == 1 else f"{number} {many} are"
