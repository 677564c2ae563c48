"""Ingress and IngressClass (networking validation, ValidateIngressSpec)."""

from __future__ import annotations

from k8snetlab.manifests.api.networking import (
    HTTPIngressPath,
    Ingress,
    IngressBackend,
    IngressClass,
    IngressRule,
    IngressServiceBackend,
)
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import parse_ip
from k8snetlab.manifests.validate.messages import Wrongs, check, check_port, invalid, required
from k8snetlab.manifests.validate.names import (
    dns_1035_label,
    dns_subdomain,
    domain_prefixed_path,
    port_name,
    wildcard_subdomain,
)

_SPEC: Path = ("spec",)
# A proxy and its backend may disagree on what these mean, and so on which rule holds.
_UNSAFE_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")
_UNSAFE_AT_END = ("/..", "/.")


def check_ingress(ingress: Ingress) -> Wrongs:
    """Rules, backends and TLS hosts."""
    spec = ingress.spec
    if not spec.rules and spec.default_backend is None:
        yield invalid(_SPEC, "", "either `defaultBackend` or `rules` must be specified")
    if spec.default_backend is not None:
        yield from _check_backend(spec.default_backend, (*_SPEC, "defaultBackend"))
    if spec.ingress_class_name is not None:
        name = spec.ingress_class_name
        yield from check((*_SPEC, "ingressClassName"), name, dns_subdomain(name))
    for number, tls in enumerate(spec.tls):
        for index, host in enumerate(tls.hosts):
            yield from check_host(host, (*_SPEC, "tls", number, "hosts", index), address=True)
    for index, rule in enumerate(spec.rules):
        yield from _check_rule(rule, (*_SPEC, "rules", index))


def _check_rule(rule: IngressRule, at: Path) -> Wrongs:
    if rule.host:
        yield from check_host(rule.host, (*at, "host"))
    if rule.http is None:
        return
    if not rule.http.paths:
        yield required((*at, "http", "paths"))
    for index, http_path in enumerate(rule.http.paths):
        yield from _check_path(http_path, (*at, "http", "paths", index))


def check_host(host: str, at: Path, *, address: bool = False) -> Wrongs:
    """A host name, or one with `*` as its whole first label."""
    if not address and parse_ip(host):
        yield invalid(at, host, "must be a DNS name, not an IP address")
    elif "*" in host:
        yield from check(at, host, wildcard_subdomain(host))
    else:
        yield from check(at, host, dns_subdomain(host))


def _check_path(http_path: HTTPIngressPath, at: Path) -> Wrongs:
    path = http_path.path
    place = (*at, "path")
    if http_path.path_type == "ImplementationSpecific":
        if path and not path.startswith("/"):
            yield invalid(place, path, "must be an absolute path")
    else:
        if not path.startswith("/"):
            yield invalid(place, path, "must be an absolute path")
        for text in _UNSAFE_IN_PATH:
            if text in path:
                yield invalid(place, path, f"must not contain '{text}'")
        for text in _UNSAFE_AT_END:
            if path.endswith(text):
                yield invalid(place, path, f"cannot end with '{text}'")
    yield from _check_backend(http_path.backend, (*at, "backend"))


def _check_backend(backend: IngressBackend, at: Path) -> Wrongs:
    if backend.service is not None and backend.resource is not None:
        yield invalid(at, "", "cannot set both resource and service backends")
    elif backend.resource is not None:
        for key, value in (("kind", backend.resource.kind), ("name", backend.resource.name)):
            if not value:
                yield required((*at, "resource", key))
    elif backend.service is not None:
        yield from _check_service_backend(backend.service, (*at, "service"))
    else:
        yield required(at, "a service or resource backend must be specified")


def _check_service_backend(service: IngressServiceBackend, at: Path) -> Wrongs:
    if not service.name:
        yield required((*at, "name"))
    else:
        yield from check((*at, "name"), service.name, dns_1035_label(service.name))
    port, path = service.port, (*at, "port")
    if port.name and port.number:
        yield invalid(path, "", "cannot set both port name & port number")
    elif port.name:
        yield from check((*path, "name"), port.name, port_name(port.name))
    elif port.number:
        yield from check_port((*path, "number"), port.number)
    else:
        yield required(path, "port name or number is required")


def check_ingress_class(ingress_class: IngressClass) -> Wrongs:
    """Whose class it is."""
    controller, path = ingress_class.spec.controller, (*_SPEC, "controller")
    if not controller:
        yield required(path)
    elif len(controller) > 250:
        yield invalid(path, controller, "must be no more than 250 characters")
    else:
        yield from check(path, controller, domain_prefixed_path(controller))
