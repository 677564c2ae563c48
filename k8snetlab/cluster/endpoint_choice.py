"""Which endpoints may a node use for a Service port? The one answer that every data plane renders.

After Kubernetes' pkg/proxy/topology.go, CategorizeEndpoints (conformance 1.7, 1.8 and 1.12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from k8snetlab.cluster.model import Endpoint, Family, Node, Service, ServicePort
from k8snetlab.dataclass import dataclass

TopologyMode = Literal["", "node", "zone"]


@dataclass(frozen=True, slots=True)
class Categories:
    """`cluster` serves Cluster policy, `local` Local policy, `reachable` is every endpoint of either, in address order.

    `any_endpoints` says whether there is any usable endpoint anywhere: it tells "drop" (Local policy, none here, some
    elsewhere) from "reject" (none at all).
    """

    cluster: tuple[Endpoint, ...] = ()
    local: tuple[Endpoint, ...] = ()
    reachable: tuple[Endpoint, ...] = ()
    any_endpoints: bool = False


def categorize(service: Service, port: ServicePort, node: Node, family: Family) -> Categories:
    """The endpoints of one family that `node` uses for `port`.

    1. Cluster endpoints are needed unless the Service is internal only with internalTrafficPolicy Local: external
       traffic of pods and nodes is short-circuited to all endpoints even with externalTrafficPolicy Local. They are the
       ready endpoints that the topology hints allow for this node; with none ready *anywhere*, the endpoints that are
       serving and terminating, whatever the hints.
    2. Local endpoints are needed with internalTrafficPolicy Local, or externalTrafficPolicy Local on a Service that is
       reachable from outside. They are the ready endpoints on this node, whatever the hints; with none ready *here*,
       those here that are serving and terminating. An endpoint without a node is never local.
    3. An endpoint that is serving but neither ready nor terminating, or terminating and not serving, is never used.
    """
    endpoints = [endpoint for endpoint in port.endpoints if endpoint.ip.version == family]
    external = externally_accessible(service, port, family)
    uses_cluster = not service.internal_local or external
    uses_local = service.internal_local or (service.external_local and external)
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    falling = [endpoint for endpoint in endpoints if not endpoint.ready and endpoint.serving and endpoint.terminating]
    cluster: Sequence[Endpoint] = ()
    if uses_cluster:
        cluster = available(ready, node) if ready else falling
    local: Sequence[Endpoint] = ()
    if uses_local:
        local = [endpoint for endpoint in ready if endpoint.node == node.name]
        local = local or [endpoint for endpoint in falling if endpoint.node == node.name]
    used = {(endpoint.ip, endpoint.port) for endpoint in (*cluster, *local)}
    return Categories(
        cluster=tuple(cluster),
        local=tuple(local),
        reachable=tuple(endpoint for endpoint in endpoints if (endpoint.ip, endpoint.port) in used),
        any_endpoints=bool(ready or falling),
    )


def externally_accessible(service: Service, port: ServicePort, family: Family) -> bool:
    """By nodePort, or by an external or load balancer address of the family (ServicePort.ExternallyAccessible)."""
    addresses = (*service.external_ips, *service.load_balancer_ips)
    return port.node_port != 0 or any(address.version == family for address in addresses)


def available(ready: Sequence[Endpoint], node: Node) -> Sequence[Endpoint]:
    """The ready endpoints that topology hints leave to this node: all of them when there is no usable hint."""
    match topology_mode(ready, node):
        case "node":
            return [endpoint for endpoint in ready if node.name in endpoint.nodes]
        case "zone":
            return [endpoint for endpoint in ready if node.zone in endpoint.zones]
        case _:
            return ready


def topology_mode(ready: Sequence[Endpoint], node: Node) -> TopologyMode:
    """Hints count only when *every* ready endpoint has one and at least one names this node, else its zone."""
    if all(endpoint.nodes for endpoint in ready) and any(node.name in endpoint.nodes for endpoint in ready):
        return "node"
    if not node.zone:
        return ""
    if all(endpoint.zones for endpoint in ready) and any(node.zone in endpoint.zones for endpoint in ready):
        return "zone"
    return ""
