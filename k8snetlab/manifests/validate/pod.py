"""Pods and pod templates: containers, ports, probes, names and DNS (core validation, ValidatePodSpec).

An image is not required as the API server would: the lab runs none.
"""

from __future__ import annotations

from k8snetlab.manifests.api.core import Container, ContainerPort, Pod, PodDNSConfig, PodSpec, Probe
from k8snetlab.manifests.api.meta import IntOrString
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import ip
from k8snetlab.manifests.validate.messages import (
    Wrongs,
    check,
    check_port,
    duplicate,
    forbidden,
    invalid,
    required,
)
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain, port_name
from k8snetlab.manifests.validate.placement import check_placement

# What the resolver library of every Linux understands since Kubernetes 1.26 (core validation).
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARACTERS = 3, 32, 2048


def check_pod(pod: Pod) -> Wrongs:
    """A pod on its own."""
    yield from check_pod_spec(pod.spec, ("spec",))


def check_pod_spec(spec: PodSpec, at: Path) -> Wrongs:
    """The spec of a pod or of a template."""
    yield from _check_containers(spec, at)
    yield from _check_host_ports(spec, at)
    for key, name in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if name:
            yield from check((*at, key), name, dns_label(name))
    if spec.node_name:
        yield from check((*at, "nodeName"), spec.node_name, dns_subdomain(spec.node_name))
    for index, alias in enumerate(spec.host_aliases):
        path = (*at, "hostAliases", index)
        yield from check((*path, "ip"), alias.ip, ip(alias.ip))
        for position, name in enumerate(alias.hostnames):
            yield from check((*path, "hostnames", position), name, dns_subdomain(name))
    yield from _check_dns(spec, at)
    yield from check_placement(spec, at)


# --- Containers -------------------------------------------------------------------------------------------------------


def _check_containers(spec: PodSpec, at: Path) -> Wrongs:
    if not spec.containers:
        yield required((*at, "containers"))
    names: set[str] = set()
    for key, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
        for index, container in enumerate(containers):
            path = (*at, key, index)
            if not container.name:
                yield required((*path, "name"))
            elif container.name in names:
                yield duplicate((*path, "name"), container.name)
            else:
                yield from check((*path, "name"), container.name, dns_label(container.name))
            names.add(container.name)
            yield from _check_container(container, path, host_network=spec.host_network)


def _check_container(container: Container, at: Path, *, host_network: bool) -> Wrongs:
    names: set[str] = set()
    for index, port in enumerate(container.ports):
        path = (*at, "ports", index)
        yield from _check_container_port(port, path, host_network=host_network)
        if port.name and port.name in names:
            yield duplicate((*path, "name"), port.name)
        names.add(port.name)
    probes = (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    )
    for key, probe in probes:
        if probe is not None:
            yield from _check_probe(probe, (*at, key))


def _check_container_port(port: ContainerPort, at: Path, *, host_network: bool) -> Wrongs:
    if port.name:
        yield from check((*at, "name"), port.name, port_name(port.name))
    yield from check_port((*at, "containerPort"), port.container_port)
    if port.host_ip:
        yield from check((*at, "hostIP"), port.host_ip, ip(port.host_ip))
    if port.host_port:  # 0 is the same as not given
        yield from check_port((*at, "hostPort"), port.host_port)
        # In the node's own network namespace there is nothing between the two.
        if host_network and port.host_port != port.container_port:
            yield invalid((*at, "hostPort"), port.host_port, "must match `containerPort` when `hostNetwork` is true")


def _check_host_ports(spec: PodSpec, at: Path) -> Wrongs:
    """No two containers of a pod may ask for the same port of the node."""
    taken: set[tuple[str, str, int]] = set()
    for number, container in enumerate(spec.containers):
        for index, port in enumerate(container.ports):
            if not port.host_port:
                continue
            asked = (port.protocol, port.host_ip, port.host_port)
            if asked in taken:
                path = (*at, "containers", number, "ports", index, "hostPort")
                yield duplicate(path, f"{port.protocol}/{port.host_ip}/{port.host_port}")
            taken.add(asked)


def _check_probe(probe: Probe, at: Path) -> Wrongs:
    given = [
        key
        for key, action in (
            ("exec", probe.exec_),
            ("httpGet", probe.http_get),
            ("tcpSocket", probe.tcp_socket),
            ("grpc", probe.grpc),
        )
        if action is not None
    ]
    if not given:
        yield required(at, "must specify a handler type")
    for key in given[1:]:
        yield forbidden((*at, key), "may not specify more than 1 handler type")
    if probe.http_get:
        yield from _check_int_or_name(probe.http_get.port, (*at, "httpGet", "port"))
    if probe.tcp_socket:
        yield from _check_int_or_name(probe.tcp_socket.port, (*at, "tcpSocket", "port"))
    if probe.grpc:
        yield from check_port((*at, "grpc", "port"), probe.grpc.port)


def _check_int_or_name(port: IntOrString, at: Path) -> Wrongs:
    if isinstance(port, int):
        yield from check_port(at, port)
    else:
        yield from check(at, port, port_name(port))


# --- DNS --------------------------------------------------------------------------------------------------------------


def _check_dns(spec: PodSpec, at: Path) -> Wrongs:
    config = spec.dns_config
    if spec.dns_policy == "None" and (config is None or not config.nameservers):
        detail = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield required((*at, "dnsConfig", "nameservers"), detail)
    if config is not None:
        yield from _check_dns_config(config, (*at, "dnsConfig"))


def _check_dns_config(config: PodDNSConfig, at: Path) -> Wrongs:
    if len(config.nameservers) > _MAX_NAMESERVERS:
        detail = f"must not have more than {_MAX_NAMESERVERS} nameservers"
        yield invalid((*at, "nameservers"), list(config.nameservers), detail)
    for index, server in enumerate(config.nameservers):
        yield from check((*at, "nameservers", index), server, ip(server))
    if len(config.searches) > _MAX_SEARCHES:
        yield invalid((*at, "searches"), list(config.searches), f"must not have more than {_MAX_SEARCHES} search paths")
    if len(" ".join(config.searches)) > _MAX_SEARCH_CHARACTERS:
        detail = f"must not have more than {_MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        yield invalid((*at, "searches"), list(config.searches), detail)
    for index, search in enumerate(config.searches):
        # "." alone stops the search; a trailing dot is allowed, and labels may begin with `_`, as SRV names do.
        name = search.removesuffix(".").replace("_", "x")
        yield from check((*at, "searches", index), search, dns_subdomain(name) if search != "." else None)
    for index, option in enumerate(config.options):
        path = (*at, "options", index, "name")
        if not option.name:
            yield required(path)
        # An option becomes a word in the pod's resolv.conf; white space would begin another option or line.
        words = f"{option.name}{option.value or ''}"
        if not words.isprintable() or " " in words:
            yield invalid(path, option.name, "must not contain white space")
