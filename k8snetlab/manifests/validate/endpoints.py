"""Endpoints and EndpointSlice written by hand (core and discovery validation)."""

from __future__ import annotations

from k8snetlab.manifests.api.core import Endpoints, EndpointSlice, EndpointsPort, SliceEndpoint
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import family, ip, parse_ip, special_ip
from k8snetlab.manifests.validate.messages import (
    Wrongs,
    check,
    check_port,
    duplicate,
    invalid,
    required,
    too_many,
    unsupported,
)
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain, qualified_name

_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS = 1000, 100, 20000
_SERVICE_NAME = "kubernetes.io/service-name"


def check_endpoints(endpoints: Endpoints) -> Wrongs:
    """Endpoints: each subset has addresses of both kinds together with ports."""
    for number, subset in enumerate(endpoints.subsets):
        path = ("subsets", number)
        if not subset.addresses and not subset.not_ready_addresses:
            yield required(path, "must specify `addresses` or `notReadyAddresses`")
        for key, addresses in (("addresses", subset.addresses), ("notReadyAddresses", subset.not_ready_addresses)):
            for index, address in enumerate(addresses):
                at = (*path, key, index)
                yield from _check_endpoint_ip(address.ip, (*at, "ip"))
                if address.hostname:
                    yield from check((*at, "hostname"), address.hostname, dns_label(address.hostname))
                if address.node_name is not None:
                    yield from check((*at, "nodeName"), address.node_name, dns_subdomain(address.node_name))
        for index, port in enumerate(subset.ports):
            yield from _check_endpoints_port(port, (*path, "ports", index), named=len(subset.ports) > 1)


def _check_endpoint_ip(text: str, at: Path) -> Wrongs:
    """No endpoint may be the node itself or something only one link knows: traffic would be led astray."""
    address = parse_ip(text)
    yield from check(at, text, special_ip(address) if address else ip(text))


def _check_endpoints_port(port: EndpointsPort, at: Path, *, named: bool) -> Wrongs:
    if named and not port.name:
        yield required((*at, "name"))
    elif port.name:
        yield from check((*at, "name"), port.name, dns_label(port.name))
    yield from check_port((*at, "port"), port.port)
    if port.app_protocol:
        yield from check((*at, "appProtocol"), port.app_protocol, qualified_name(port.app_protocol))


def check_endpoint_slice(endpoint_slice: EndpointSlice) -> Wrongs:
    """EndpointSlice: all addresses are of its addressType."""
    labels = endpoint_slice.metadata.labels
    if _SERVICE_NAME in labels:
        path: Path = ("metadata", "labels", _SERVICE_NAME)
        yield from check(path, labels[_SERVICE_NAME], dns_subdomain(labels[_SERVICE_NAME]))
    if len(endpoint_slice.endpoints) > _MAX_ENDPOINTS:
        yield too_many(("endpoints",), len(endpoint_slice.endpoints), _MAX_ENDPOINTS)
    for index, endpoint in enumerate(endpoint_slice.endpoints):
        yield from _check_slice_endpoint(endpoint, ("endpoints", index), endpoint_slice.address_type)
    yield from _check_slice_ports(endpoint_slice)


def _check_slice_endpoint(endpoint: SliceEndpoint, at: Path, address_type: str) -> Wrongs:
    path = (*at, "addresses")
    if not endpoint.addresses:
        yield required(path, "must contain at least 1 address")
    if len(endpoint.addresses) > _MAX_ADDRESSES:
        yield too_many(path, len(endpoint.addresses), _MAX_ADDRESSES)
    for index, text in enumerate(endpoint.addresses):
        place = (*path, index)
        if address_type == "FQDN":
            yield from check(place, text, dns_subdomain(text))
            continue
        address = parse_ip(text)
        if address is not None and family(address) != address_type:
            yield invalid(place, text, f"must be a valid {address_type} address")
        else:
            yield from _check_endpoint_ip(text, place)
    if endpoint.hostname is not None:
        yield from check((*at, "hostname"), endpoint.hostname, dns_label(endpoint.hostname))
    if endpoint.node_name is not None:
        yield from check((*at, "nodeName"), endpoint.node_name, dns_subdomain(endpoint.node_name))


def _check_slice_ports(endpoint_slice: EndpointSlice) -> Wrongs:
    if len(endpoint_slice.ports) > _MAX_PORTS:
        yield too_many(("ports",), len(endpoint_slice.ports), _MAX_PORTS)
    names: set[str] = set()
    for index, port in enumerate(endpoint_slice.ports):
        at: Path = ("ports", index)
        name = port.name or ""
        if name:
            yield from check((*at, "name"), name, dns_label(name))
        if name in names:
            yield duplicate((*at, "name"), name)
        names.add(name)
        if port.port is not None:
            yield from check_port((*at, "port"), port.port)
        if port.protocol not in ("TCP", "UDP", "SCTP"):
            yield unsupported((*at, "protocol"), port.protocol, ("TCP", "UDP", "SCTP"))
