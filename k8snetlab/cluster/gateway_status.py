"""Ingresses and the kinds of Gateway API with the status that their controller would write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.classes import gateway_choice, ingress_choice
from k8snetlab.cluster.routing.gateways import (
    Attachments,
    Condition,
    ListenerState,
    Parent,
    attach,
    supported_kinds,
)
from k8snetlab.cluster.routing.http_routes import resolved_refs, rule_faults
from k8snetlab.cluster.routing.ingress import wants_https
from k8snetlab.cluster.routing.table import INGRESS_SERVICE, gateway_service
from k8snetlab.manifests.api.gateway import GATEWAY_GROUP, Gateway, HTTPRoute
from k8snetlab.manifests.api.networking import Ingress
from k8snetlab.manifests.encode import encode, encode_value

CONTROLLER: Final = "k8snetlab.dev/gateway-controller"
Rendered = dict[str, Any]


def ingresses(cluster: Cluster) -> Iterator[Rendered]:
    """One that is not served has no address (conformance: an unknown class leaves the status empty)."""
    addresses = _addresses(cluster, INGRESS_SERVICE)
    for written in cluster.ingresses:
        choice = ingress_choice(written, cluster.ingress_classes, cluster.creation_order)
        rendered = encode(written)
        if choice.name and "ingressClassName" not in rendered["spec"]:
            rendered["spec"] = {"ingressClassName": choice.name, **rendered["spec"]}
        found = addresses if choice.served else []
        yield {**rendered, "status": {"loadBalancer": _balancer(found, written)}}


def _balancer(addresses: list[str], ingress: Ingress) -> Rendered:
    numbers = (80, 443) if wants_https([ingress]) else (80,)
    ports = [{"port": number, "protocol": "TCP"} for number in numbers]
    return {"ingress": [{"ip": address, "ports": ports} for address in addresses]} if addresses else {}


def _addresses(cluster: Cluster, service: str) -> list[str]:
    found = cluster.service(service)
    return [each.ip or each.hostname for each in found.load_balancer_status] if found else []


def gateway_classes(cluster: Cluster) -> Iterator[Rendered]:
    for written in cluster.gateway_classes:
        accepted = Condition("Accepted", True, "Accepted")
        yield {**encode(written), "status": {"conditions": [_condition(accepted)]}}


def gateways(cluster: Cluster) -> Iterator[Rendered]:
    """Without a controller for its class a Gateway stays as it was created: conditions Unknown, reason Pending."""
    states = {state.key: state for state in attach(cluster).gateways}
    for written in cluster.gateways:
        key = f"{written.metadata.namespace}/{written.metadata.name}"
        if key not in states:
            reason = gateway_choice(written, cluster.gateway_classes).reason
            yield {**encode(written), "status": {"conditions": [_pending("Accepted", reason), _pending("Programmed")]}}
            continue
        addresses = _addresses(cluster, gateway_service(key))
        status = {
            "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
            "conditions": [_condition(each) for each in gateway_conditions(written, states[key].listeners, addresses)],
            "listeners": [_listener(each) for each in states[key].listeners],
        }
        yield {**encode(written), "status": status}


def gateway_conditions(
    gateway: Gateway, listeners: tuple[ListenerState, ...], addresses: list[str]
) -> tuple[Condition, Condition]:
    """Accepted says whether its listeners are valid, Programmed whether traffic can reach them (GatewayStatus)."""
    served = [each for each in listeners if each.served]
    if not served:
        accepted = Condition("Accepted", False, "ListenersNotValid", "no listener is valid")
    elif len(served) < len(listeners):
        accepted = Condition("Accepted", True, "ListenersNotValid", "some listeners are not valid")
    else:
        accepted = Condition("Accepted", True, "Accepted")
    if not served:
        return accepted, Condition("Programmed", False, "Invalid", "no listener is valid")
    if not addresses:
        wanted = ", ".join(each.value for each in gateway.spec.addresses)
        reason = f"address {wanted} is not to be had" if wanted else "the load balancer has no address left"
        return accepted, Condition("Programmed", False, "AddressNotUsable" if wanted else "AddressNotAssigned", reason)
    return accepted, Condition("Programmed", True, "Programmed")


def _listener(state: ListenerState) -> Rendered:
    return {
        "name": state.listener.name,
        "attachedRoutes": len(state.routes),
        "supportedKinds": [{"group": kind.group, "kind": kind.kind} for kind in supported_kinds(state.listener)],
        "conditions": [_condition(each) for each in state.conditions],
    }


def http_routes(cluster: Cluster) -> Iterator[Rendered]:
    attachments = attach(cluster)
    for written in cluster.http_routes:
        yield {**encode(written), "status": {"parents": _parents(cluster, written, attachments)}}


def _parents(cluster: Cluster, route: HTTPRoute, attachments: Attachments) -> list[Rendered]:
    key = f"{route.metadata.namespace}/{route.metadata.name}"
    faults = list(rule_faults(route))
    conditions = [resolved_refs(cluster, route)]
    if faults:
        conditions.append(Condition("PartiallyInvalid", True, "UnsupportedValue", "; ".join(faults)))
    return [_parent(parent, conditions) for parent in attachments.parents.get(key, ())]


def _parent(parent: Parent, conditions: list[Condition]) -> Rendered:
    ref = encode_value(parent.ref)
    ref = {"group": GATEWAY_GROUP, "kind": "Gateway", **ref}
    return {
        "parentRef": ref,
        "controllerName": CONTROLLER,
        "conditions": [_condition(each) for each in (parent.accepted, *conditions)],
    }


def reference_grants(cluster: Cluster) -> Iterator[Rendered]:
    yield from (encode(written) for written in cluster.reference_grants)


def _condition(condition: Condition) -> Rendered:
    """An object of a lab is never edited in place: its generation is always 1."""
    return {
        "type": condition.type,
        "status": "True" if condition.status else "False",
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": 1,
    }


def _pending(kind: str, message: str = "") -> Rendered:
    text = message or "waiting for a controller"
    return {"type": kind, "status": "Unknown", "reason": "Pending", "message": text, "observedGeneration": 1}
