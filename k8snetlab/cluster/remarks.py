"""What a user should know about a cluster before trusting it: what is not enforced or served, and likely mistakes."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.config import NETWORKS_WITHOUT_POLICY
from k8snetlab.cluster.listeners import RUNS_FOR_REAL
from k8snetlab.cluster.model import Cluster, Service
from k8snetlab.cluster.services import CLUSTER_DNS


def remarks(cluster: Cluster) -> tuple[str, ...]:
    """One line each, the gravest first. A policy that is accepted and not enforced must never pass in silence."""
    return (
        *_not_enforced(cluster),
        *_not_served(cluster),
        *_not_resolved(cluster),
        *_network(cluster),
        *_empty_services(cluster),
    )


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
    if cluster.ingresses or cluster.gateways or cluster.http_routes:
        from k8snetlab.cluster.gateway_remarks import gateway_remarks

        yield from gateway_remarks(cluster)


def _network(cluster: Cluster) -> Iterator[str]:
    for pool in cluster.ip_pools:
        for what in pool.unheeded:
            yield f"IPPool {pool.name}: {what} has no effect{f' ({pool.source})' if pool.source else ''}"
    if cluster.config.network == "weave" and 6 in cluster.config.families:
        yield "Weave Net itself has no IPv6: what the lab shows is how its one flat Ethernet would carry it"


def _not_resolved(cluster: Cluster) -> Iterator[str]:
    """What names do not lead to, and why."""
    server = cluster.service(CLUSTER_DNS)
    if cluster.config.dns == "none" and server is None:
        yield "no name is resolved: the Lab says dns: none"
    elif server is not None and not server.addon and not _runs_a_program(cluster, server):
        yield (
            f"no name is resolved: {CLUSTER_DNS} is the manifests' own, and what stands in for its containers speaks "
            "no DNS; leave it out and the lab runs one"
        )
    aliases = [service.key for service in cluster.services if service.spec.type == "ExternalName"]
    if aliases and cluster.config.dns == "knot" and server is not None and server.addon:
        yield (
            f"Knot answers {', '.join(aliases[:5])} with the name alone and follows no alias out of the cluster: "
            "programs get no address for it"
        )


def _runs_a_program(cluster: Cluster, service: Service) -> bool:
    keys = {endpoint.pod for port in service.ports for endpoint in port.endpoints}
    pods = (pod for key in keys if key and (pod := cluster.pod(key)))
    return any(container.image.startswith(RUNS_FOR_REAL) for pod in pods for container in pod.containers)


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
