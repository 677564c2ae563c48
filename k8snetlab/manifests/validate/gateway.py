"""Gateway API objects: the rules of its CRDs (gateway-api, apis/v1, kubebuilder markers and CEL rules)."""

from __future__ import annotations

import re

from k8snetlab.manifests.api.gateway import (
    Gateway,
    GatewayClass,
    HTTPBackendRef,
    HTTPPathMatch,
    HTTPRoute,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
    Listener,
    ReferenceGrant,
)
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import ip
from k8snetlab.manifests.validate.ingress import check_host
from k8snetlab.manifests.validate.messages import (
    Wrongs,
    check,
    check_port,
    duplicate,
    forbidden,
    invalid,
    required,
    too_many,
)
from k8snetlab.manifests.validate.metadata import check_selector
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain, domain_prefixed_path

_SPEC: Path = ("spec",)
_MAX_LISTENERS, _MAX_HOSTNAMES, _MAX_RULES, _MAX_WEIGHT = 64, 16, 16, 1_000_000
_WITH_TLS, _WITHOUT_TLS, _WITHOUT_HOST = ("HTTPS", "TLS"), ("HTTP", "TCP", "UDP"), ("TCP", "UDP")
_UNSAFE_IN_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_UNSAFE_AT_END = ("/..", "/.")
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")
# Each type of filter and the one field that goes with it.
_FILTERS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestMirror": "request_mirror",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
}
_FILTER_KEYS = {
    "request_header_modifier": "requestHeaderModifier",
    "response_header_modifier": "responseHeaderModifier",
    "request_mirror": "requestMirror",
    "request_redirect": "requestRedirect",
    "url_rewrite": "urlRewrite",
}


def check_gateway_class(gateway_class: GatewayClass) -> Wrongs:
    """Whose class it is."""
    name = gateway_class.spec.controller_name
    yield from check((*_SPEC, "controllerName"), name, domain_prefixed_path(name))


def check_gateway(gateway: Gateway) -> Wrongs:
    """Listeners are told apart by name, and by port, protocol and hostname."""
    spec, path = gateway.spec, (*_SPEC, "listeners")
    name = spec.gateway_class_name
    yield from check((*_SPEC, "gatewayClassName"), name, dns_subdomain(name))
    if not spec.listeners:
        yield required(path, "must have at least one listener")
    if len(spec.listeners) > _MAX_LISTENERS:
        yield too_many(path, len(spec.listeners), _MAX_LISTENERS)
    names: set[str] = set()
    sockets: set[tuple[int, str, str]] = set()
    for index, listener in enumerate(spec.listeners):
        if listener.name in names:
            yield duplicate((*path, index, "name"), listener.name)
        names.add(listener.name)
        socket = (listener.port, listener.protocol, listener.hostname)
        if socket in sockets:
            detail = "combination of port, protocol and hostname must be unique for each listener"
            yield invalid((*path, index), f"{listener.port}/{listener.protocol} {listener.hostname}".rstrip(), detail)
        sockets.add(socket)
        yield from _check_listener(listener, (*path, index))
    for index, address in enumerate(spec.addresses):
        if address.type == "IPAddress" and address.value:
            yield from check((*_SPEC, "addresses", index, "value"), address.value, ip(address.value))


def _check_listener(listener: Listener, at: Path) -> Wrongs:
    yield from check((*at, "name"), listener.name, dns_subdomain(listener.name))
    yield from check_port((*at, "port"), listener.port)
    if not listener.protocol:
        yield required((*at, "protocol"))
    if listener.hostname:
        if listener.protocol in _WITHOUT_HOST:
            yield forbidden((*at, "hostname"), f"must not be specified for protocol {listener.protocol}")
        yield from check_host(listener.hostname, (*at, "hostname"))
    if listener.tls is not None and listener.protocol in _WITHOUT_TLS:
        yield forbidden((*at, "tls"), "must not be specified for protocols ['HTTP', 'TCP', 'UDP']")
    if listener.tls is None and listener.protocol in _WITH_TLS:
        yield required((*at, "tls"), f"must be set for protocol {listener.protocol}")
    namespaces = listener.allowed_routes.namespaces
    path = (*at, "allowedRoutes", "namespaces", "selector")
    if namespaces.from_ == "Selector" and namespaces.selector is None:
        yield required(path, "must be specified when `from` is 'Selector'")
    yield from check_selector(namespaces.selector, path)


# --- HTTPRoute --------------------------------------------------------------------------------------------------------


def check_http_route(route: HTTPRoute) -> Wrongs:
    """Parents, hostnames and rules."""
    spec = route.spec
    for index, parent in enumerate(spec.parent_refs):
        path: Path = (*_SPEC, "parentRefs", index)
        yield from check((*path, "name"), parent.name, dns_subdomain(parent.name))
        if parent.namespace is not None:
            yield from check((*path, "namespace"), parent.namespace, dns_label(parent.namespace))
        if parent.section_name is not None:
            yield from check((*path, "sectionName"), parent.section_name, dns_subdomain(parent.section_name))
        if parent.port is not None:
            yield from check_port((*path, "port"), parent.port)
    if len(spec.hostnames) > _MAX_HOSTNAMES:
        yield too_many((*_SPEC, "hostnames"), len(spec.hostnames), _MAX_HOSTNAMES)
    for index, host in enumerate(spec.hostnames):
        yield from check_host(host, (*_SPEC, "hostnames", index))
    if len(spec.rules) > _MAX_RULES:
        yield too_many((*_SPEC, "rules"), len(spec.rules), _MAX_RULES)
    for index, rule in enumerate(spec.rules):
        yield from _check_rule(rule, (*_SPEC, "rules", index))


def _check_rule(rule: HTTPRouteRule, at: Path) -> Wrongs:
    for index, match in enumerate(rule.matches):
        yield from _check_match(match, (*at, "matches", index))
    yield from _check_filters(rule.filters, (*at, "filters"))
    if rule.backend_refs and any(item.type == "RequestRedirect" for item in rule.filters):
        yield forbidden((*at, "backendRefs"), "RequestRedirect filter must not be used together with backendRefs")
    for index, backend in enumerate(rule.backend_refs):
        yield from _check_backend(backend, (*at, "backendRefs", index))
    if rule.timeouts is not None:
        given = (("request", rule.timeouts.request), ("backendRequest", rule.timeouts.backend_request))
        for key, value in given:
            if value is not None and not _DURATION.fullmatch(value):
                yield invalid((*at, "timeouts", key), value, "must be a duration (e.g. '10s', '1m30s' or '500ms')")


def _check_backend(backend: HTTPBackendRef, at: Path) -> Wrongs:
    yield from check((*at, "name"), backend.name, dns_subdomain(backend.name))
    if backend.namespace is not None:
        yield from check((*at, "namespace"), backend.namespace, dns_label(backend.namespace))
    if backend.port is not None:
        yield from check_port((*at, "port"), backend.port)
    elif (backend.group, backend.kind) == ("", "Service"):
        yield required((*at, "port"), "must have port for Service reference")
    if not 0 <= backend.weight <= _MAX_WEIGHT:
        yield invalid((*at, "weight"), backend.weight, f"must be between 0 and {_MAX_WEIGHT}, inclusive")
    yield from _check_filters(backend.filters, (*at, "filters"))


def _check_match(match: HTTPRouteMatch, at: Path) -> Wrongs:
    yield from _check_path(match.path, (*at, "path", "value"))
    headers: set[str] = set()
    for index, header in enumerate(match.headers):
        path = (*at, "headers", index, "name")
        if not _HEADER.fullmatch(header.name):
            yield invalid(path, header.name, "must be a valid HTTP header name")
        if header.name.lower() in headers:
            yield duplicate(path, header.name)
        headers.add(header.name.lower())
    parameters: set[str] = set()
    for index, parameter in enumerate(match.query_params):
        path = (*at, "queryParams", index, "name")
        if not parameter.name:
            yield required(path)
        if parameter.name in parameters:
            yield duplicate(path, parameter.name)
        parameters.add(parameter.name)


def _check_path(match: HTTPPathMatch, at: Path) -> Wrongs:
    if match.type == "RegularExpression":
        return
    if not match.value.startswith("/"):
        yield invalid(at, match.value, "value must be an absolute path and start with '/'")
    for text in _UNSAFE_IN_PATH:
        if text in match.value:
            yield invalid(at, match.value, f"must not contain '{text}'")
    for text in _UNSAFE_AT_END:
        if match.value.endswith(text):
            yield invalid(at, match.value, f"must not end with '{text}'")


def _check_filters(filters: tuple[HTTPRouteFilter, ...], at: Path) -> Wrongs:
    """A filter has the field that its type names, and no other; most may be there only once."""
    seen: set[str] = set()
    for index, item in enumerate(filters):
        wanted = _FILTERS.get(item.type)
        for name, key in _FILTER_KEYS.items():
            given = getattr(item, name) is not None
            if given and name != wanted:
                yield forbidden((*at, index, key), f"must be nil if the filter type is '{item.type}'")
            elif not given and name == wanted:
                yield required((*at, index, key), f"must be specified for filter type '{item.type}'")
        if item.type in seen and item.type not in ("RequestMirror", "ExtensionRef"):
            yield duplicate((*at, index, "type"), item.type)
        seen.add(item.type)
    if {"RequestRedirect", "URLRewrite"} <= seen:
        yield invalid(at, "", "may specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite")


def check_reference_grant(grant: ReferenceGrant) -> Wrongs:
    """At least one on each side."""
    for key, given in (("from", grant.spec.from_), ("to", grant.spec.to)):
        if not given:
            yield required((*_SPEC, key), "must have at least one entry")
    for index, source in enumerate(grant.spec.from_):
        yield from check((*_SPEC, "from", index, "namespace"), source.namespace, dns_label(source.namespace))
