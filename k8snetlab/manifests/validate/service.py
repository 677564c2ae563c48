"""Services: what may be set together with what (core validation, ValidateService)."""

from __future__ import annotations

from k8snetlab.manifests.api.core import Service, ServicePort, ServiceSpec
from k8snetlab.manifests.api.meta import ObjectMeta
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import cidr, ip, parse_ip, special_ip
from k8snetlab.manifests.validate.messages import (
    Wrongs,
    check,
    check_port,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from k8snetlab.manifests.validate.metadata import check_labels
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain, port_name, qualified_name
from k8snetlab.manifests.validate.service_ips import HEADLESS, check_cluster_ips

_SPEC: Path = ("spec",)
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_KUBELET_PORT = 10250
_MAX_AFFINITY_SECONDS = 86400
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")


def check_service(service: Service) -> Wrongs:
    """A Service, as it is created."""
    spec = service.spec
    yield from _check_ports(spec)
    if spec.selector:
        yield from check_labels(spec.selector, (*_SPEC, "selector"))
    yield from check_cluster_ips(spec)
    yield from _check_external_name(spec)
    yield from _check_affinity(spec)
    yield from _check_external_ips(spec)
    yield from _check_source_ranges(spec, service.metadata)
    yield from _check_load_balancer(spec)
    yield from _check_traffic_policies(spec)
    yield from _check_status(service)


# --- Ports ------------------------------------------------------------------------------------------------------------


def _check_ports(spec: ServiceSpec) -> Wrongs:
    path = (*_SPEC, "ports")
    headless = spec.cluster_ip == HEADLESS
    if not spec.ports and not headless and spec.type != "ExternalName":
        yield required(path)
    names: set[str] = set()
    for index, port in enumerate(spec.ports):
        yield from _check_port(port, (*path, index), spec, named=len(spec.ports) > 1)
        if port.name and port.name in names:
            yield duplicate((*path, index, "name"), port.name)
        names.add(port.name)
    yield from _check_ports_differ(spec.ports, path)


def _check_port(port: ServicePort, at: Path, spec: ServiceSpec, *, named: bool) -> Wrongs:
    if named and not port.name:
        yield required((*at, "name"))
    if port.name:
        yield from check((*at, "name"), port.name, dns_label(port.name))
    yield from check_port((*at, "port"), port.port)
    if isinstance(port.target_port, int):
        yield from check_port((*at, "targetPort"), port.target_port)
    elif port.target_port is not None:
        yield from check((*at, "targetPort"), port.target_port, port_name(port.target_port))
    if port.app_protocol:
        yield from check((*at, "appProtocol"), port.app_protocol, qualified_name(port.app_protocol))
    if port.node_port:
        if spec.type in ("ClusterIP", "ExternalName"):
            yield forbidden((*at, "nodePort"), f"may not be used when `type` is '{spec.type}'")
        else:
            yield from check_port((*at, "nodePort"), port.node_port)
    # The kubelet's port, which would be opened to the world.
    if spec.type == "LoadBalancer" and port.port == _KUBELET_PORT:
        detail = f"may not expose port {_KUBELET_PORT} externally since it is used by kubelet"
        yield invalid((*at, "port"), port.port, detail)


def _check_ports_differ(ports: tuple[ServicePort, ...], at: Path) -> Wrongs:
    """A port and a nodePort may be there once for each protocol."""
    used: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.protocol, port.port)
        if key in used:
            yield duplicate((*at, index), f"{port.port}/{port.protocol}")
        used.add(key)
        key = (port.protocol, port.node_port)
        if port.node_port and key in node_ports:
            yield duplicate((*at, index, "nodePort"), port.node_port)
        node_ports.add(key)


# --- What goes with which type ----------------------------------------------------------------------------------------


def _check_external_name(spec: ServiceSpec) -> Wrongs:
    path = (*_SPEC, "externalName")
    if spec.type != "ExternalName":
        return
    if not spec.external_name:
        yield required(path)
    else:
        # A CNAME's target: a trailing dot is allowed. Something that looks like an address is treated as a name.
        yield from check(path, spec.external_name, dns_subdomain(spec.external_name.removesuffix(".")))


def _check_affinity(spec: ServiceSpec) -> Wrongs:
    path = (*_SPEC, "sessionAffinityConfig")
    config = spec.session_affinity_config
    if config is None:
        return
    if spec.session_affinity == "None":
        yield forbidden(path, 'must not be set when session affinity is "None"')
        return
    if config.client_ip is None or config.client_ip.timeout_seconds is None:
        return
    seconds = config.client_ip.timeout_seconds
    if not 0 < seconds <= _MAX_AFFINITY_SECONDS:
        detail = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
        yield invalid((*path, "clientIP", "timeoutSeconds"), seconds, detail)


def _check_external_ips(spec: ServiceSpec) -> Wrongs:
    for index, text in enumerate(spec.external_ips):
        path = (*_SPEC, "externalIPs", index)
        address = parse_ip(text)
        yield from check(path, text, special_ip(address) if address else ip(text))


def _check_source_ranges(spec: ServiceSpec, metadata: ObjectMeta) -> Wrongs:
    annotation = metadata.annotations.get(_SOURCE_RANGES)
    if spec.load_balancer_source_ranges:
        path: Path = (*_SPEC, "loadBalancerSourceRanges")
        ranges = [((*path, index), text) for index, text in enumerate(spec.load_balancer_source_ranges)]
    elif annotation and annotation.strip():
        path = ("metadata", "annotations", _SOURCE_RANGES)
        ranges = [(path, text) for text in annotation.split(",")]
    else:
        return
    if spec.type != "LoadBalancer":
        yield forbidden(path, "may only be used when `type` is 'LoadBalancer'")
    for place, text in ranges:
        yield from check(place, text, cidr(text.strip()))


def _check_load_balancer(spec: ServiceSpec) -> Wrongs:
    if spec.load_balancer_ip:
        yield from check((*_SPEC, "loadBalancerIP"), spec.load_balancer_ip, ip(spec.load_balancer_ip))
    if spec.load_balancer_class is not None:
        path = (*_SPEC, "loadBalancerClass")
        yield from check(path, spec.load_balancer_class, qualified_name(spec.load_balancer_class))
    if spec.type != "LoadBalancer":
        detail = "may only be used when `type` is 'LoadBalancer'"
        if spec.load_balancer_class is not None:
            yield forbidden((*_SPEC, "loadBalancerClass"), detail)
        if spec.allocate_load_balancer_node_ports is not None:
            yield forbidden((*_SPEC, "allocateLoadBalancerNodePorts"), detail)


def _check_traffic_policies(spec: ServiceSpec) -> Wrongs:
    reachable = spec.type in ("NodePort", "LoadBalancer") or bool(spec.external_ips)
    if spec.external_traffic_policy is not None and not reachable:
        detail = "may only be set for externally-accessible services"
        yield invalid((*_SPEC, "externalTrafficPolicy"), spec.external_traffic_policy, detail)
    port = spec.health_check_node_port
    if port:
        path = (*_SPEC, "healthCheckNodePort")
        if spec.type != "LoadBalancer" or spec.external_traffic_policy != "Local":
            detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            yield invalid(path, port, detail)
        else:
            yield from check_port(path, port)
    distribution = spec.traffic_distribution
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        yield unsupported((*_SPEC, "trafficDistribution"), distribution, _DISTRIBUTIONS)


def _check_status(service: Service) -> Wrongs:
    """A status is what a load balancer wrote: its address becomes one the proxies answer for."""
    for index, ingress in enumerate(service.status.load_balancer.ingress):
        path = ("status", "loadBalancer", "ingress", index)
        if ingress.ip:
            yield from check((*path, "ip"), ingress.ip, ip(ingress.ip))
        if ingress.hostname:
            yield from check((*path, "hostname"), ingress.hostname, dns_subdomain(ingress.hostname))
