"""From the rules of an HTTPRoute to routes of the table, and the order in which they are tried.

Source: Gateway API v1, HTTPRouteRule (precedence of matches; what is answered for invalid references), GEP-1742
(timeouts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.backends import Upstreams
from k8snetlab.cluster.routing.gateways import Condition, route_age
from k8snetlab.cluster.routing.grants import permitted
from k8snetlab.cluster.routing.model import (
    NO_CHANGE,
    Backend,
    Forward,
    HeaderChange,
    Match,
    Mirror,
    PathChange,
    Redirect,
    Respond,
    Route,
    Upstream,
    ValueMatch,
)
from k8snetlab.cluster.routing.patterns import pattern_fault
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.gateway import (
    BackendObjectReference,
    HTTPBackendRef,
    HTTPHeaderFilter,
    HTTPPathModifier,
    HTTPRequestRedirectFilter,
    HTTPRoute,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
    HTTPRouteTimeouts,
)

INVALID: Final = 500  # HTTPBackendRef: requests for an invalid backend, or for none at all
_UNSUPPORTED: Final = ("ExtensionRef", "CORS", "ExternalAuth")
_KINDS: Final = {"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "regex"}
_DURATION: Final = re.compile(r"(\d+)(ms|h|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_WELL_KNOWN: Final = {"http": 80, "https": 443}

Order = tuple[int, int, int, int, int, int, str, int, int]


@dataclass(frozen=True, slots=True)
class ListenerPort:
    """Where requests come in: it decides the port of redirects."""

    scheme: str
    port: int


def ordered_routes(cluster: Cluster, routes: Sequence[HTTPRoute], at: ListenerPort) -> tuple[Route, ...]:
    """The routes of one host, the first to be tried first.

    An exact path before a pattern, which the specification leaves open, before the longest prefix; then a method, more
    headers, more parameters; then the oldest HTTPRoute, the first by name, its first rule and first match.
    """
    upstreams = Upstreams(cluster)
    found: list[tuple[Order, Route]] = []
    for http_route in routes:
        born, key = route_age(cluster, http_route)
        for number, rule in enumerate(http_route.spec.rules):
            action, request, response = rule_action(cluster, upstreams, http_route, rule, at)
            for position, written in enumerate(rule.matches or (HTTPRouteMatch(),)):
                match = _match(written)
                if match is None:
                    continue  # a pattern that is none: the route's condition says so
                order = (*_precedence(match), born, key, number, position)
                route = Route(
                    match=match, action=action, origin=f"HTTPRoute {key}",
                    request_headers=request, response_headers=response,
                )  # fmt: skip
                found.append((order, route))
    return tuple(route for _, route in sorted(found, key=lambda each: each[0]))


def _precedence(match: Match) -> tuple[int, int, int, int, int]:
    kind = ("exact", "regex", "prefix").index(match.kind)
    return kind, -len(match.path), not match.method, -len(match.headers), -len(match.query)


def _match(written: HTTPRouteMatch) -> Match | None:
    if any(pattern_fault(pattern) for pattern in _patterns(written)):
        return None
    path, kind = written.path.value, written.path.type
    return Match(
        kind=_KINDS[kind],  # type: ignore[arg-type]
        path=(path.rstrip("/") or "/") if kind == "PathPrefix" else path,
        method=written.method or "",
        headers=tuple(ValueMatch(each.name, each.value, each.type != "Exact") for each in written.headers),
        query=tuple(ValueMatch(each.name, each.value, each.type != "Exact") for each in written.query_params),
    )


def _patterns(written: HTTPRouteMatch) -> Iterator[str]:
    if written.path.type == "RegularExpression":
        yield written.path.value
    yield from (each.value for each in written.headers if each.type == "RegularExpression")
    yield from (each.value for each in written.query_params if each.type == "RegularExpression")


def rule_action(
    cluster: Cluster, upstreams: Upstreams, route: HTTPRoute, rule: HTTPRouteRule, at: ListenerPort
) -> tuple[Forward | Redirect | Respond, HeaderChange, HeaderChange]:
    """What a rule does, and how it changes the headers of request and response."""
    filters = {each.type: each for each in rule.filters}
    request, response = _headers(rule.filters)
    if any(each in filters for each in _UNSUPPORTED):
        return Respond(INVALID), NO_CHANGE, NO_CHANGE
    if "RequestRedirect" in filters and (wanted := filters["RequestRedirect"].request_redirect):
        return _redirect(wanted, at), NO_CHANGE, response
    backends = tuple(_backend(cluster, upstreams, route, each) for each in rule.backend_refs)
    if not any(each.weight and each.upstream for each in backends):
        return Respond(INVALID), NO_CHANGE, response
    rewrite = filters["URLRewrite"].url_rewrite if "URLRewrite" in filters else None
    timeouts = rule.timeouts or HTTPRouteTimeouts()
    forward = Forward(
        backends=tuple(each for each in backends if each.weight),
        host=(rewrite.hostname or "") if rewrite else "",
        path=_path_change(rewrite.path) if rewrite else None,
        mirrors=tuple(_mirrors(cluster, upstreams, route, rule.filters)),
        timeout=seconds(timeouts.request),
        try_timeout=seconds(timeouts.backend_request),
    )
    return forward, request, response


def seconds(text: str | None) -> float | None:
    """A duration as `1m30s`; none, and zero, is no limit (HTTPRouteTimeouts)."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text or "")) or None


def _redirect(wanted: HTTPRequestRedirectFilter, at: ListenerPort) -> Redirect:
    """Without a port: the one that belongs to the scheme that is given, else the listener's. One that goes without
    saying is not written (HTTPRequestRedirectFilter, port)."""
    scheme = wanted.scheme or at.scheme
    port = wanted.port or (_WELL_KNOWN[scheme] if wanted.scheme else at.port)
    plain = port == _WELL_KNOWN[scheme] and at.port == _WELL_KNOWN[at.scheme]
    return Redirect(
        status=wanted.status_code,
        scheme=wanted.scheme or "",
        host=wanted.hostname or "",
        port=0 if plain else port,
        path=_path_change(wanted.path),
    )


def _path_change(modifier: HTTPPathModifier | None) -> PathChange | None:
    if modifier is None:
        return None
    if modifier.type == "ReplaceFullPath":
        return PathChange(kind="full", value=modifier.replace_full_path or "/")
    return PathChange(kind="prefix", value=modifier.replace_prefix_match or "/")


def _headers(filters: Sequence[HTTPRouteFilter]) -> tuple[HeaderChange, HeaderChange]:
    by_type = {each.type: each for each in filters}
    request = by_type["RequestHeaderModifier"].request_header_modifier if "RequestHeaderModifier" in by_type else None
    response = (
        by_type["ResponseHeaderModifier"].response_header_modifier if "ResponseHeaderModifier" in by_type else None
    )
    return _header_change(request), _header_change(response)


def _header_change(written: HTTPHeaderFilter | None) -> HeaderChange:
    if written is None:
        return NO_CHANGE
    return HeaderChange(
        set=tuple((each.name, each.value) for each in written.set),
        add=tuple((each.name, each.value) for each in written.add),
        remove=written.remove,
    )


def _backend(cluster: Cluster, upstreams: Upstreams, route: HTTPRoute, ref: HTTPBackendRef) -> Backend:
    found = resolve_reference(cluster, upstreams, route, ref)
    if any(each.type not in ("RequestHeaderModifier", "ResponseHeaderModifier") for each in ref.filters):
        return Backend(upstream=None, weight=ref.weight, status=INVALID, reason="a filter that backends cannot have")
    if isinstance(found, Condition):
        return Backend(upstream=None, weight=ref.weight, status=INVALID, reason=found.message)
    request, response = _headers(ref.filters)
    return Backend(upstream=found, weight=ref.weight, request_headers=request, response_headers=response)


def _mirrors(
    cluster: Cluster, upstreams: Upstreams, route: HTTPRoute, filters: Sequence[HTTPRouteFilter]
) -> Iterator[Mirror]:
    for each in filters:
        wanted = each.request_mirror
        if each.type != "RequestMirror" or wanted is None:
            continue
        found = resolve_reference(cluster, upstreams, route, wanted.backend_ref)
        if isinstance(found, Upstream):
            numerator, denominator = (wanted.percent, 100) if wanted.percent is not None else (100, 100)
            if wanted.fraction is not None:
                numerator, denominator = wanted.fraction.numerator, wanted.fraction.denominator
            yield Mirror(upstream=found, numerator=numerator, denominator=denominator)


def resolve_reference(
    cluster: Cluster, upstreams: Upstreams, route: HTTPRoute, ref: HTTPBackendRef | BackendObjectReference
) -> Upstream | Condition:
    """The upstream, or the condition ResolvedRefs that says why there is none."""
    if (ref.group, ref.kind) != ("", "Service"):
        return Condition("ResolvedRefs", False, "InvalidKind", f"{ref.kind} {ref.name} is no Service")
    own, namespace = route.metadata.namespace, ref.namespace or route.metadata.namespace
    if not permitted(cluster.reference_grants, "HTTPRoute", own, "Service", namespace, ref.name):
        message = f"no ReferenceGrant in {namespace} lets HTTPRoutes of {own} refer to Service {ref.name}"
        return Condition("ResolvedRefs", False, "RefNotPermitted", message)
    found = upstreams.by_number(f"{namespace}/{ref.name}", ref.port or 0)
    return Condition("ResolvedRefs", False, "BackendNotFound", found) if isinstance(found, str) else found


def resolved_refs(cluster: Cluster, route: HTTPRoute) -> Condition:
    """The condition of a route: the first of its references that leads nowhere."""
    upstreams = Upstreams(cluster)
    for rule in route.spec.rules:
        mirrors = [each.request_mirror.backend_ref for each in rule.filters if each.request_mirror is not None]
        refs: list[HTTPBackendRef | BackendObjectReference] = [*rule.backend_refs, *mirrors]
        for ref in refs:
            found = resolve_reference(cluster, upstreams, route, ref)
            if isinstance(found, Condition):
                return found
    return Condition("ResolvedRefs", True, "ResolvedRefs")


def without_effect(route: HTTPRoute) -> Iterator[str]:
    """What of a route is read and changes nothing: its requests are served all the same."""
    for number, rule in enumerate(route.spec.rules):
        if rule.retry is not None:
            yield f"rules[{number}]: retry has no effect, each request is tried once"
        if rule.session_persistence is not None:
            yield f"rules[{number}]: sessionPersistence has no effect, each request picks its backend anew"


def rule_faults(route: HTTPRoute) -> Iterator[str]:
    """What of a route cannot be served at all."""
    for number, rule in enumerate(route.spec.rules):
        for each in rule.filters:
            if each.type in _UNSUPPORTED:
                yield f"rules[{number}]: filter {each.type} is not served, its requests are answered {INVALID}"
        for written in rule.matches:
            for pattern in _patterns(written):
                if fault := pattern_fault(pattern):
                    yield f"rules[{number}]: pattern {pattern!r} is not served: {fault}"
