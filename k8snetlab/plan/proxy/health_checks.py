"""The health check of a load balancer for each Service with externalTrafficPolicy Local: has this node an endpoint?

Served by kube-proxy on every node at the Service's healthCheckNodePort. It counts the addresses of endpoints that are
local and *ready*: one that is terminating may still get traffic, but a balancer must not choose its node any more
(conformance 1.8 #8, 1.10 #8; kubernetes pkg/proxy/endpointsmap LocalReadyEndpoints).
"""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, Node, Service
from k8snetlab.plan.state import HealthCheck


def health_checks(cluster: Cluster) -> Iterator[HealthCheck]:
    """One on each node for each Service that has the port."""
    for service in cluster.services:
        if service.health_check_node_port and service.proxied():
            for node in cluster.nodes:
                yield HealthCheck(
                    node.name, service.key, service.health_check_node_port, _local_endpoints(service, node)
                )


def _local_endpoints(service: Service, node: Node) -> int:
    family = service.cluster_ips[0].version
    endpoints = (endpoint for port in service.ports for endpoint in port.endpoints)
    return len({each.ip for each in endpoints if each.ready and each.node == node.name and each.ip.version == family})
