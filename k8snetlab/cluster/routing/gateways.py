"""Which listeners of which Gateways are served, and which HTTPRoutes attach to them, with the conditions that say so.

Source: Gateway API v1, the types' own documentation (Listener, AllowedRoutes, ParentReference, RouteParentStatus).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field

from k8snetlab.cluster.creation_order import creation_key
from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.classes import gateway_choice
from k8snetlab.cluster.routing.grants import permitted
from k8snetlab.cluster.routing.hosts import intersection
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.gateway import GATEWAY_GROUP, Gateway, HTTPRoute, Listener, ParentReference, RouteGroupKind
from k8snetlab.manifests.selectors import matches

HTTP_ROUTE = RouteGroupKind(kind="HTTPRoute")
PROTOCOLS = ("HTTP", "HTTPS")


@dataclass(frozen=True, slots=True)
class Condition:
    """As in a status: `status` False needs a reason that says why."""

    type: str
    status: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """A route on a listener, with the hosts that both are for; an empty one stands for every host."""

    route: HTTPRoute
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListenerState:
    """A listener with its conditions and routes, the oldest first."""

    listener: Listener
    conditions: tuple[Condition, ...]
    routes: tuple[Attached, ...] = ()

    @property
    def served(self) -> bool:
        return all(each.status for each in self.conditions if each.type in ("Accepted", "ResolvedRefs"))


@dataclass(frozen=True, slots=True)
class Parent:
    """What became of one parentRef of a route."""

    ref: ParentReference
    gateway: str  # ns/name
    accepted: Condition


@dataclass(frozen=True, slots=True)
class GatewayState:
    gateway: Gateway
    listeners: tuple[ListenerState, ...]

    @property
    def key(self) -> str:
        return f"{self.gateway.metadata.namespace}/{self.gateway.metadata.name}"


@dataclass(frozen=True, slots=True)
class Attachments:
    """The Gateways that are served, and for each route (`ns/name`) what became of its parentRefs to them."""

    gateways: tuple[GatewayState, ...] = ()
    parents: Mapping[str, tuple[Parent, ...]] = field(default_factory=dict)


def served_gateways(cluster: Cluster) -> list[Gateway]:
    return [each for each in cluster.gateways if gateway_choice(each, cluster.gateway_classes).served]


def attach(cluster: Cluster) -> Attachments:
    """Attach every route to the listeners that it asks for and that let it."""
    gateways = {f"{each.metadata.namespace}/{each.metadata.name}": each for each in served_gateways(cluster)}
    conditions = {
        key: [_conditions(cluster, gateway, each) for each in gateway.spec.listeners]
        for key, gateway in gateways.items()
    }
    attached: dict[tuple[str, str], list[Attached]] = defaultdict(list)
    parents: dict[str, list[Parent]] = defaultdict(list)
    for route in sorted(cluster.http_routes, key=lambda each: route_age(cluster, each)):
        for ref in route.spec.parent_refs:
            key = f"{ref.namespace or route.metadata.namespace}/{ref.name}"
            if (ref.group, ref.kind) != (GATEWAY_GROUP, "Gateway") or key not in gateways:
                continue
            accepted, found = _attach_one(cluster, route, ref, gateways[key])
            for listener, hosts in found:
                attached[key, listener.name].append(Attached(route, hosts))
            route_key = f"{route.metadata.namespace}/{route.metadata.name}"
            parents[route_key].append(Parent(ref, key, accepted))
    states = tuple(
        GatewayState(
            gateway,
            tuple(
                ListenerState(listener, found, _merged(attached[key, listener.name]))
                for listener, found in zip(gateway.spec.listeners, conditions[key], strict=True)
            ),
        )
        for key, gateway in gateways.items()
    )
    return Attachments(states, {key: tuple(found) for key, found in parents.items()})


def route_age(cluster: Cluster, route: HTTPRoute) -> tuple[int, str]:
    """The oldest first, of those as old the first by `ns/name` (HTTPRouteRule, matches)."""
    metadata = route.metadata
    born = cluster.creation_order.get(creation_key("HTTPRoute", metadata.namespace, metadata.name), 0)
    return born, f"{metadata.namespace}/{metadata.name}"


def _merged(found: list[Attached]) -> tuple[Attached, ...]:
    """A route that two parentRefs attach to the same listener counts once."""
    by_route: dict[str, Attached] = {}
    for each in found:
        by_route.setdefault(f"{each.route.metadata.namespace}/{each.route.metadata.name}", each)
    return tuple(by_route.values())


def _conditions(cluster: Cluster, gateway: Gateway, listener: Listener) -> tuple[Condition, ...]:
    protocols = {each.protocol for each in gateway.spec.listeners if each.port == listener.port}
    conflict = len(protocols & set(PROTOCOLS)) > 1
    if listener.protocol not in PROTOCOLS:
        message = f"the lab's proxy serves {' and '.join(PROTOCOLS)}"
        accepted = Condition("Accepted", False, "UnsupportedProtocol", message)
    elif conflict:
        accepted = Condition("Accepted", False, "ProtocolConflict", f"port {listener.port} is both HTTP and HTTPS")
    else:
        accepted = Condition("Accepted", True, "Accepted")
    conflicted = Condition("Conflicted", conflict, "ProtocolConflict" if conflict else "NoConflicts")
    resolved = _certificates_condition(cluster, gateway, listener) or _kinds_condition(listener)
    good = accepted.status and resolved.status
    programmed = Condition("Programmed", good, "Programmed" if good else "Invalid")
    return accepted, conflicted, resolved, programmed


def _certificates_condition(cluster: Cluster, gateway: Gateway, listener: Listener) -> Condition | None:
    """What is wrong with the certificates; a Secret that is not there is none: the lab makes one."""
    if listener.protocol != "HTTPS" or listener.tls is None:
        return None
    if listener.tls.mode == "Passthrough":
        return Condition("ResolvedRefs", False, "InvalidCertificateRef", "protocol HTTPS ends TLS at the Gateway")
    namespace = gateway.metadata.namespace
    for ref in listener.tls.certificate_refs:
        if (ref.group, ref.kind) != ("", "Secret"):
            return Condition("ResolvedRefs", False, "InvalidCertificateRef", f"{ref.kind} {ref.name} is no Secret")
        there = ref.namespace or namespace
        if not permitted(cluster.reference_grants, "Gateway", namespace, "Secret", there, ref.name):
            message = f"no ReferenceGrant in {there} lets Gateways of {namespace} refer to Secret {ref.name}"
            return Condition("ResolvedRefs", False, "RefNotPermitted", message)
    return None


def _kinds_condition(listener: Listener) -> Condition:
    kinds = listener.allowed_routes.kinds
    if any((each.group, each.kind) != (GATEWAY_GROUP, "HTTPRoute") for each in kinds):
        bad = ", ".join(each.kind for each in kinds if (each.group, each.kind) != (GATEWAY_GROUP, "HTTPRoute"))
        return Condition("ResolvedRefs", False, "InvalidRouteKinds", f"{bad} cannot attach to a listener of HTTP")
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def supported_kinds(listener: Listener) -> tuple[RouteGroupKind, ...]:
    if listener.protocol not in PROTOCOLS:
        return ()
    kinds = listener.allowed_routes.kinds
    return (HTTP_ROUTE,) if not kinds or HTTP_ROUTE in kinds else ()


def _attach_one(
    cluster: Cluster, route: HTTPRoute, ref: ParentReference, gateway: Gateway
) -> tuple[Condition, list[tuple[Listener, tuple[str, ...]]]]:
    """The listeners a parentRef attaches to; each step of the way leaves fewer, and none left says why."""
    named = [
        each
        for each in gateway.spec.listeners
        if ref.section_name in (None, each.name) and ref.port in (None, each.port)
    ]
    if not named:
        return Condition("Accepted", False, "NoMatchingParent", "no listener of that name and port"), []
    allowed = [each for each in named if _allows(cluster, gateway, each, route)]
    if not allowed:
        return Condition("Accepted", False, "NotAllowedByListeners", "allowedRoutes does not admit it"), []
    found = [(each, hosts) for each in allowed if (hosts := tuple(_hosts(each, route)))]
    if not found:
        message = "no hostname in common with a listener"
        return Condition("Accepted", False, "NoMatchingListenerHostname", message), []
    return Condition("Accepted", True, "Accepted"), found


def _allows(cluster: Cluster, gateway: Gateway, listener: Listener, route: HTTPRoute) -> bool:
    if HTTP_ROUTE not in supported_kinds(listener):
        return False
    namespaces, where = listener.allowed_routes.namespaces, route.metadata.namespace
    match namespaces.from_:
        case "All":
            return True
        case "Same":
            return where == gateway.metadata.namespace
        case "Selector":
            return matches(namespaces.selector, cluster.namespaces.get(where, {}))
        case "None":
            return False


def _hosts(listener: Listener, route: HTTPRoute) -> Iterator[str]:
    own = listener.hostname.lower()
    if not route.spec.hostnames:
        yield own
    found = (intersection(own, hostname.lower()) for hostname in route.spec.hostnames)
    yield from dict.fromkeys(host for host in found if host is not None)
