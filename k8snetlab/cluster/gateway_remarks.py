"""What of Ingresses and Gateways is not served, or not as some controller would: said, never passed over."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.annotations import ignored, nginx_options
from k8snetlab.cluster.routing.backends import Upstreams
from k8snetlab.cluster.routing.classes import gateway_choice, ingress_choice
from k8snetlab.cluster.routing.gateways import attach, served_gateways
from k8snetlab.cluster.routing.http_routes import resolved_refs, rule_faults, without_effect
from k8snetlab.cluster.routing.ingress import path_match, served_ingresses
from k8snetlab.cluster.routing.patterns import pattern_fault
from k8snetlab.manifests.api.gateway import GATEWAY_GROUP, Gateway
from k8snetlab.manifests.api.networking import Ingress

_SHOWN = 5  # of a list that may be long


def gateway_remarks(cluster: Cluster) -> Iterator[str]:
    if cluster.ingresses:
        yield from _ingress_classes(cluster)
        for ingress in served_ingresses(cluster):
            yield from _ingress(cluster, ingress)
    if cluster.gateways or cluster.http_routes:
        yield from _gateways(cluster)
        yield from _http_routes(cluster)
    made = sorted(_secrets_not_given(cluster))
    if made:
        yield f"certificates made by the lab, as these Secrets are not in the manifests: {_some(made)}"


def _ingress_classes(cluster: Cluster) -> Iterator[str]:
    choices = {
        f"{each.metadata.namespace}/{each.metadata.name}": ingress_choice(
            each, cluster.ingress_classes, cluster.creation_order
        )
        for each in cluster.ingresses
    }
    for key, choice in choices.items():
        if not choice.served:
            yield f"Ingress {key} NOT served: {choice.reason}"
    if assumed := sorted({choice.name for choice in choices.values() if choice.assumed}):
        yield f"IngressClass {_some(assumed)} is not in the manifests: taken as installed, served by the lab's proxy"


def _ingress(cluster: Cluster, ingress: Ingress) -> Iterator[str]:
    subject = f"Ingress {ingress.metadata.namespace}/{ingress.metadata.name}"
    if found := ignored(ingress.metadata.annotations):
        yield f"{subject}: annotations ignored: {_some(found)}"
    options = nginx_options(ingress.metadata.annotations, has_tls=bool(ingress.spec.tls))
    upstreams, backends = Upstreams(cluster), []
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            backends.append((f"{rule.host}{path.path}", path.backend))
            match = path_match(path, regex=options.use_regex)
            if match.kind == "regex" and (fault := pattern_fault(match.path)):
                yield f"{subject}: path {path.path} NOT served: {fault}"
    if ingress.spec.default_backend is not None:
        backends.append(("the default backend", ingress.spec.default_backend))
    for where, backend in backends:
        found_upstream = upstreams.of_ingress(ingress.metadata.namespace, backend)
        if isinstance(found_upstream, str):
            yield f"{subject}: {where} is answered 503: {found_upstream}"


def _gateways(cluster: Cluster) -> Iterator[str]:
    for gateway in cluster.gateways:
        choice = gateway_choice(gateway, cluster.gateway_classes)
        subject = f"Gateway {gateway.metadata.namespace}/{gateway.metadata.name}"
        if not choice.served:
            yield f"{subject} NOT served: {choice.reason}"
        elif choice.assumed:
            yield f"{subject}: GatewayClass {choice.name} is not in the manifests: taken as installed"
        if choice.served:
            yield from _without_tls_settings(subject, gateway)
    for state in attach(cluster).gateways:
        for listener in state.listeners:
            for condition in listener.conditions:
                if not condition.status and condition.type in ("Accepted", "ResolvedRefs"):
                    why = condition.message or condition.reason
                    yield f"Gateway {state.key}: listener {listener.listener.name} NOT served: {why}"


def _without_tls_settings(subject: str, gateway: Gateway) -> Iterator[str]:
    """A door that is open where it should be locked must not look locked."""
    validating = [each.name for each in gateway.spec.listeners if each.tls and each.tls.frontend_validation]
    if gateway.spec.tls is not None:
        yield (
            f"{subject}: spec.tls has no effect: clients are NOT asked for certificates, backends are spoken to plainly"
        )
    if validating:
        yield f"{subject}: listener {_some(validating)}: clients are NOT asked for certificates"


def _http_routes(cluster: Cluster) -> Iterator[str]:
    attached = attach(cluster).parents
    served = {f"{each.metadata.namespace}/{each.metadata.name}" for each in served_gateways(cluster)}
    for route in cluster.http_routes:
        key = f"{route.metadata.namespace}/{route.metadata.name}"
        for parent in attached.get(key, ()):
            if not parent.accepted.status:
                why = parent.accepted.message or parent.accepted.reason
                yield f"HTTPRoute {key} does not attach to Gateway {parent.gateway}: {why}"
        for ref in route.spec.parent_refs:
            if (ref.group, ref.kind) != (GATEWAY_GROUP, "Gateway"):
                yield f"HTTPRoute {key}: parent {ref.kind} {ref.name} is ignored: there is no mesh"
            elif (name := f"{ref.namespace or route.metadata.namespace}/{ref.name}") not in served:
                yield f"HTTPRoute {key}: there is no Gateway {name} that is served"
        condition = resolved_refs(cluster, route)
        if not condition.status:
            yield f"HTTPRoute {key}: {condition.message}: its share of requests is answered 500"
        yield from (f"HTTPRoute {key}: {fault}" for fault in (*rule_faults(route), *without_effect(route)))


def _secrets_not_given(cluster: Cluster) -> set[str]:
    wanted = {
        f"{ingress.metadata.namespace}/{tls.secret_name}"
        for ingress in served_ingresses(cluster)
        for tls in ingress.spec.tls
        if tls.secret_name
    }
    for gateway in served_gateways(cluster):
        for listener in gateway.spec.listeners:
            for ref in listener.tls.certificate_refs if listener.tls else ():
                wanted.add(f"{ref.namespace or gateway.metadata.namespace}/{ref.name}")
    return wanted - cluster.tls_secrets.keys()


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
