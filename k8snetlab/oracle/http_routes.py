"""What must come of an HTTP request to an Ingress or a Gateway: who may answer, or with which status the proxy does.

Read from the specifications alone, one request at a time, and straight from the objects: `cluster.routing` is another
reading of the same text, which sorts all routes beforehand. Sources: Kubernetes, "Ingress"; ingress-nginx' annotations;
Gateway API v1, HTTPRouteRule and HTTPRouteMatch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from k8snetlab.cluster.creation_order import creation_key
from k8snetlab.cluster.model import Cluster, Endpoint
from k8snetlab.cluster.routing.annotations import NginxOptions, nginx_options
from k8snetlab.cluster.routing.classes import ingress_choice
from k8snetlab.cluster.routing.gateways import Attached, Attachments
from k8snetlab.cluster.routing.grants import permitted
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.gateway import HTTPBackendRef, HTTPPathModifier, HTTPRoute, HTTPRouteMatch, HTTPRouteRule
from k8snetlab.manifests.api.networking import HTTPIngressPath, Ingress, IngressBackend

WELL_KNOWN = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`host` is without a port; header names are lower case; `path` is without the query."""

    host: str
    path: str
    scheme: str = "http"
    port: int = 80
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`statuses` are those that the proxy itself may answer with; `endpoints` those that may answer otherwise.

    `path` is what such an endpoint sees, `location` where a redirect leads.
    """

    statuses: frozenset[int] = frozenset()
    endpoints: frozenset[Endpoint] = frozenset()
    path: str = ""
    location: str = ""
    origin: str = ""


NOT_FOUND = Answer(statuses=frozenset({404}))


# --- Ingress ----------------------------------------------------------------------------------------------------------


def ask_ingress(cluster: Cluster, request: Request) -> Answer:
    """All Ingresses that are served stand behind one address."""
    served = [
        each
        for each in cluster.ingresses
        if ingress_choice(each, cluster.ingress_classes, cluster.creation_order).served
    ]
    served.sort(key=lambda each: _age(cluster, "Ingress", each))
    main = [each for each in served if nginx_options(each.metadata.annotations, has_tls=False).canary is None]
    hosts = {rule.host for each in main for rule in each.spec.rules}
    host = _ingress_host(request.host, hosts)
    if host is not None:
        rules = [
            (each, path)
            for each in main
            for rule in each.spec.rules
            if rule.host == host and rule.http
            for path in rule.http.paths
        ]
        fitting = [(each, path) for each, path in rules if _path_fits(path, request.path, _options(each).use_regex)]
        if fitting:
            best, path = max(fitting, key=lambda each: _path_rank(*each))
            answer = _ingress_answer(cluster, best, path.backend, request, path)
            return _with_canary(cluster, served, host, path, request, answer)
    for each in main:
        owns = host is None or host in {rule.host for rule in each.spec.rules} or host == ""
        if each.spec.default_backend is not None and owns:
            return _ingress_answer(cluster, each, each.spec.default_backend, request, None)
    return NOT_FOUND


def _age(cluster: Cluster, kind: str, written: Ingress | HTTPRoute) -> tuple[int, str]:
    metadata = written.metadata
    key = f"{metadata.namespace}/{metadata.name}"
    return cluster.creation_order.get(creation_key(kind, metadata.namespace, metadata.name), 0), key


def _options(ingress: Ingress) -> NginxOptions:
    return nginx_options(ingress.metadata.annotations, has_tls=bool(ingress.spec.tls))


def _ingress_host(asked: str, hosts: Iterable[str]) -> str | None:
    """The name itself, else a wildcard whose star is its first label, else the rules for any host."""
    known = {host.lower(): host for host in hosts}
    label, _, rest = asked.lower().partition(".")
    for candidate in (asked.lower(), f"*.{rest}" if label and rest else "", ""):
        if candidate in known:
            return known[candidate]
    return None


def _elements(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _path_fits(path: HTTPIngressPath, asked: str, regex: bool) -> bool:
    if regex:
        try:
            return re.match(path.path or "/", asked, re.IGNORECASE) is not None
        except re.error:
            return False
    if path.path_type == "Exact":
        return asked == path.path
    own = _elements(path.path)
    return _elements(asked)[: len(own)] == own


def _path_rank(ingress: Ingress, path: HTTPIngressPath) -> tuple[int, bool]:
    """The longest, then Exact; `max` keeps the first, so the oldest, of equals."""
    if path.path_type == "Exact" or _options(ingress).use_regex:
        return len(path.path), path.path_type == "Exact"
    return len(path.path.rstrip("/")) or 1, False


def _ingress_answer(
    cluster: Cluster, ingress: Ingress, backend: IngressBackend, request: Request, path: HTTPIngressPath | None
) -> Answer:
    options, origin = _options(ingress), f"Ingress {ingress.metadata.namespace}/{ingress.metadata.name}"
    if options.https_only and request.scheme == "http":
        return Answer(statuses=frozenset({308}), location=f"https://{request.host}{request.path}", origin=origin)
    if options.redirect is not None:
        url, status = options.redirect
        return Answer(statuses=frozenset({status}), location=url, origin=origin)
    endpoints = _ingress_endpoints(cluster, ingress, backend)
    if not endpoints:
        return Answer(statuses=frozenset({503}), origin=origin)
    seen = request.path
    if options.rewrite_target and path is not None:
        found = re.match(path.path or "/", request.path, re.IGNORECASE)
        groups = ["", *(found.groups(default="") if found else ())]
        seen = re.sub(
            r"\$(\d)", lambda each: groups[int(each[1])] if int(each[1]) < len(groups) else "", options.rewrite_target
        )
    elif options.rewrite_target:
        seen = re.sub(r"\$\d", "", options.rewrite_target)
    return Answer(endpoints=frozenset(endpoints), path=seen, origin=origin)


def _ingress_endpoints(cluster: Cluster, ingress: Ingress, backend: IngressBackend) -> list[Endpoint]:
    if backend.service is None:
        return []
    service = cluster.service(f"{ingress.metadata.namespace}/{backend.service.name}")
    wanted = backend.service.port
    for port in service.ports if service is not None and service.spec.type != "ExternalName" else ():
        if port.name == wanted.name if wanted.name else port.port == wanted.number:
            return [endpoint for endpoint in port.endpoints if endpoint.ready]
    return []


def _with_canary(
    cluster: Cluster, served: Sequence[Ingress], host: str, path: HTTPIngressPath, request: Request, answer: Answer
) -> Answer:
    """A canary of the same host and path takes what its header or cookie says, else its share."""
    if not answer.endpoints:
        return answer
    for each in served:
        canary = _options(each).canary
        same = [
            other
            for rule in each.spec.rules
            if rule.host == host and rule.http
            for other in rule.http.paths
            if other.path.rstrip("/") == path.path.rstrip("/")
        ]
        if canary is None or not same:
            continue
        endpoints = frozenset(_ingress_endpoints(cluster, each, same[0].backend))
        value = request.headers.get(canary.header.lower()) if canary.header else None
        wanted = canary.header_value or "always"
        if value is not None and (
            re.search(canary.header_pattern, value) if canary.header_pattern else value == wanted
        ):
            return replace(answer, endpoints=endpoints, statuses=frozenset() if endpoints else frozenset({503}))
        if value == "never" and not canary.header_value:
            return answer
        if canary.weight:
            mixed = answer.endpoints | endpoints if canary.weight < canary.total else endpoints
            return replace(answer, endpoints=mixed, statuses=frozenset() if endpoints else frozenset({503}))
        return answer
    return answer


# --- Gateway API ------------------------------------------------------------------------------------------------------


def ask_gateway(cluster: Cluster, attachments: Attachments, gateway: str, request: Request) -> Answer:
    """A request to a port of a Gateway (`ns/name`)."""
    state = next((each for each in attachments.gateways if each.key == gateway), None)
    here = [
        each
        for each in (state.listeners if state else ())
        if each.served and each.listener.port == request.port and _host_fits(each.listener.hostname, request.host)
    ]
    if not here:
        return NOT_FOUND
    listener = max(here, key=lambda each: _host_rank(each.listener.hostname))
    return ask_routes(cluster, listener.routes, request)


def ask_routes(cluster: Cluster, attached: Sequence[Attached], request: Request) -> Answer:
    """Of the routes for this host those with the most specific name; of their matches the one of highest precedence."""
    named = [(host, each.route) for each in attached for host in each.hosts if _host_fits(host, request.host)]
    best_host = max((_host_rank(host) for host, _ in named), default=None)
    routes = [route for host, route in named if _host_rank(host) == best_host]
    candidates = [
        ((_match_rank(match), *_later(cluster, route), -number, -place), route, rule, match)
        for route in routes
        for number, rule in enumerate(route.spec.rules)
        for place, match in enumerate(rule.matches or (HTTPRouteMatch(),))
        if _match_fits(match, request)
    ]
    if not candidates:
        return NOT_FOUND
    _, route, rule, match = max(candidates, key=lambda each: each[0])
    return _rule_answer(cluster, route, rule, match, request)


def _host_fits(pattern: str, host: str) -> bool:
    """A star is one label or more, and never none."""
    if not pattern or pattern.lower() == host.lower():
        return True
    return pattern.startswith("*.") and host.lower().endswith(pattern[1:].lower()) and len(host) >= len(pattern)


def _host_rank(pattern: str) -> tuple[int, int]:
    return (2 if pattern and "*" not in pattern else 1 if pattern else 0), len(pattern)


def _match_rank(match: HTTPRouteMatch) -> tuple[int, int, bool, int, int]:
    kinds = {"PathPrefix": 0, "RegularExpression": 1, "Exact": 2}
    length = len(match.path.value.rstrip("/")) if match.path.type == "PathPrefix" else len(match.path.value)
    return kinds[match.path.type], length, match.method is not None, len(match.headers), len(match.query_params)


def _later(cluster: Cluster, route: HTTPRoute) -> tuple[int, tuple[int, ...]]:
    """For `max`: the older route is the greater, then the one whose `ns/name` comes first."""
    born, key = _age(cluster, "HTTPRoute", route)
    return -born, (*(-ord(letter) for letter in key), 1)


def _match_fits(match: HTTPRouteMatch, request: Request) -> bool:
    path = match.path
    if path.type == "Exact" and request.path != path.value:
        return False
    own = _elements(path.value)
    if path.type == "PathPrefix" and _elements(request.path)[: len(own)] != own:
        return False
    if path.type == "RegularExpression" and not _whole(path.value, request.path):
        return False
    if match.method is not None and match.method != request.method:
        return False
    headers = [(each.type, each.value, request.headers.get(each.name.lower())) for each in match.headers]
    query = [(each.type, each.value, request.query.get(each.name)) for each in match.query_params]
    return all(
        given is not None and (given == wanted if kind == "Exact" else _whole(wanted, given))
        for kind, wanted, given in (*headers, *query)
    )


def _whole(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def _rule_answer(
    cluster: Cluster, route: HTTPRoute, rule: HTTPRouteRule, match: HTTPRouteMatch, request: Request
) -> Answer:
    origin = f"HTTPRoute {route.metadata.namespace}/{route.metadata.name}"
    filters = {each.type: each for each in rule.filters}
    if filters.keys() & {"ExtensionRef", "CORS", "ExternalAuth"}:
        return Answer(statuses=frozenset({500}), origin=origin)
    redirect = filters["RequestRedirect"].request_redirect if "RequestRedirect" in filters else None
    if redirect is not None:
        scheme = redirect.scheme or request.scheme
        port = redirect.port or (WELL_KNOWN[scheme] if redirect.scheme else request.port)
        where = f"{redirect.hostname or request.host}" + (f":{port}" if port != WELL_KNOWN[scheme] else "")
        location = f"{scheme}://{where}{_modified(redirect.path, match, request.path)}"
        return Answer(statuses=frozenset({redirect.status_code}), location=location, origin=origin)
    weighted = [ref for ref in rule.backend_refs if ref.weight]
    found = [_ref_endpoints(cluster, route, ref) for ref in weighted]
    statuses = {500 if each is None else 503 for each in found if not each} or (set() if found else {500})
    rewrite = filters["URLRewrite"].url_rewrite if "URLRewrite" in filters else None
    return Answer(
        statuses=frozenset(statuses),
        endpoints=frozenset(endpoint for each in found for endpoint in each or ()),
        path=_modified(rewrite.path if rewrite else None, match, request.path),
        origin=origin,
    )


def _ref_endpoints(cluster: Cluster, route: HTTPRoute, ref: HTTPBackendRef) -> list[Endpoint] | None:
    """The ready endpoints behind a reference; None when it is not valid."""
    own, there = route.metadata.namespace, ref.namespace or route.metadata.namespace
    if (ref.group, ref.kind) != ("", "Service"):
        return None
    if not permitted(cluster.reference_grants, "HTTPRoute", own, "Service", there, ref.name):
        return None
    if any(each.type not in ("RequestHeaderModifier", "ResponseHeaderModifier") for each in ref.filters):
        return None
    service = cluster.service(f"{there}/{ref.name}")
    if service is None or service.spec.type == "ExternalName":
        return None
    ports = [port for port in service.ports if port.port == ref.port and port.protocol == "TCP"]
    return [endpoint for endpoint in ports[0].endpoints if endpoint.ready] if ports else None


def _modified(modifier: HTTPPathModifier | None, match: HTTPRouteMatch, path: str) -> str:
    """A full replacement, or the prefix that matched replaced, with exactly one slash where the two meet."""
    if modifier is None:
        return path
    if modifier.type == "ReplaceFullPath":
        return modifier.replace_full_path or "/"
    rest = path[len(match.path.value.rstrip("/")) :].lstrip("/")
    start = (modifier.replace_prefix_match or "").rstrip("/")
    return f"{start}/{rest}" if rest or path.endswith("/") else start or "/"
