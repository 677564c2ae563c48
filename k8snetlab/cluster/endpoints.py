"""What stands behind each Service port: the endpoints controller and what people write by hand.

After pkg/controller/endpointslice (pods), endpointslicemirroring (Endpoints) and pkg/proxy/endpointslicecache.go (how
slices of one Service are put together).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace

from k8snetlab.cluster.addresses import parse_address
from k8snetlab.cluster.model import Endpoint, Family, IPAddress, Node, Pod
from k8snetlab.cluster.selection import Index, index_by_label, select
from k8snetlab.cluster.topology_hints import auto_hints, is_auto, zone_shares
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api import core

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"


@dataclass(frozen=True, slots=True)
class Written:
    """Slices and Endpoints that manifests give, by the Service (`ns/name`) that they are for."""

    slices: Mapping[str, Sequence[core.EndpointSlice]] = field(default_factory=dict)
    endpoints: Mapping[str, core.Endpoints] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backends:
    """All that endpoints are made from."""

    pods: Index[Pod]
    zones: Mapping[str, str]  # node → zone
    zone_shares: Mapping[str, float]  # of the cluster's CPUs
    pod_of: Mapping[str, str]  # address as text → pod, for addresses written by hand
    written: Written
    made: dict[tuple[object, ...], Endpoint] = field(default_factory=dict)  # many Services share one and the same


def find_backends(pods: Iterable[Pod], nodes: Sequence[Node], written: Written) -> Backends:
    alive = [pod for pod in pods if pod.phase not in ("Succeeded", "Failed") and pod.ips]
    needs_addresses = written.slices or written.endpoints
    return Backends(
        pods=index_by_label(alive),
        zones={node.name: node.zone for node in nodes},
        zone_shares=zone_shares(nodes),
        pod_of={str(ip): pod.key for pod in alive if not pod.host_network for ip in pod.ips} if needs_addresses else {},
        written=written,
    )


def read_written(slices: Iterable[core.EndpointSlice], endpoints: Iterable[core.Endpoints]) -> Written:
    """Group by Service. A slice that the controller once wrote (an export) does not count: it would be rewritten."""
    by_service: dict[str, list[core.EndpointSlice]] = {}
    for written in slices:
        service = written.metadata.labels.get(SERVICE_NAME)
        if service and written.metadata.labels.get(MANAGED_BY) != CONTROLLER:
            by_service.setdefault(f"{written.metadata.namespace}/{service}", []).append(written)
    return Written(
        by_service,
        {
            f"{object_.metadata.namespace}/{object_.metadata.name}": object_
            for object_ in endpoints
            if object_.metadata.labels.get(SKIP_MIRROR) != "true"
        },
    )


def port_endpoints(
    namespace: str,
    name: str,
    spec: core.ServiceSpec,
    annotations: Mapping[str, str],
    families: Sequence[Family],
    backends: Backends,
) -> list[tuple[Endpoint, ...]]:
    """The endpoints of each port of `spec.ports`, of all the Service's families, in order of address.

    Endpoints are mirrored only for a Service without selector; slices count for every Service, since kube-proxy reads
    all that carry its name. The same address and port from two places is one endpoint, the one with a node.
    """
    if spec.type == "ExternalName":
        return [() for _ in spec.ports]
    pods = select(backends.pods, namespace, spec.selector)
    slices = backends.written.slices.get(f"{namespace}/{name}", ())
    endpoints = None if spec.selector else backends.written.endpoints.get(f"{namespace}/{name}")
    auto = is_auto(annotations)
    if auto:
        spec = replace(spec, traffic_distribution=None)
    of_pods = [
        [_of_pod(pod, ip, number, name, spec, backends) for pod, number in _targets(pods, port) for ip in pod.ips]
        for port in spec.ports
    ]
    if auto:
        of_pods = _with_auto_hints(of_pods, backends)
    found: list[tuple[Endpoint, ...]] = []
    for port, listed in zip(spec.ports, of_pods, strict=True):
        for slice_ in slices:
            listed.extend(_of_slice(slice_, port, backends))
        if endpoints is not None:
            listed.extend(_of_endpoints(endpoints, port, backends))
        found.append(_merge(endpoint for endpoint in listed if endpoint.ip.version in families))
    return found


def _targets(pods: Sequence[Pod], port: core.ServicePort) -> list[tuple[Pod, int]]:
    target = port.port if port.target_port is None else port.target_port
    if isinstance(target, int):
        return [(pod, target) for pod in pods]
    numbers = ((pod, find_port(pod.spec, target, port.protocol)) for pod in pods)
    return [(pod, number) for pod, number in numbers if number is not None]


def find_port(spec: core.PodSpec, name: str, protocol: str) -> int | None:
    """A named port is resolved in each pod, by name *and* protocol (pkg/api/v1/pod FindPort)."""
    for container in spec.containers:
        for port in container.ports:
            if port.name == name and port.protocol == protocol:
                return port.container_port
    return None


def _of_pod(pod: Pod, ip: IPAddress, port: int, service: str, spec: core.ServiceSpec, backends: Backends) -> Endpoint:
    zone = backends.zones.get(pod.node, "")
    ready = spec.publish_not_ready_addresses or (pod.ready and not pod.terminating)
    zones, nodes = _hints(spec.traffic_distribution, ready, pod.node, zone)
    hostname = pod.spec.hostname if pod.spec.subdomain == service else ""
    key = pod.key, ip.version, port, ready, hostname, zones, nodes
    if (made := backends.made.get(key)) is not None:
        return made
    backends.made[key] = endpoint = Endpoint(
        ip=ip,
        port=port,
        node=pod.node,
        ready=ready,
        serving=pod.ready,
        terminating=pod.terminating,
        hostname=hostname,
        zone=zone,
        zones=zones,
        nodes=nodes,
        pod=pod.key,
    )
    return endpoint


def _hints(distribution: str | None, ready: bool, node: str, zone: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """trafficDistribution: each ready endpoint is for its own zone, with PreferSameNode for its own node first.

    After staging/src/k8s.io/endpointslice/trafficdist.
    """
    if not ready or distribution not in ("PreferClose", "PreferSameZone", "PreferSameNode"):
        return (), ()
    return ((zone,) if zone else ()), ((node,) if distribution == "PreferSameNode" else ())


def _with_auto_hints(of_ports: list[list[Endpoint]], backends: Backends) -> list[list[Endpoint]]:
    """The controller counts addresses: one that serves several ports is one, and each family is by itself."""
    ready = {(each.ip.version, int(each.ip)): each for listed in of_ports for each in listed if each.ready}
    hints: dict[IPAddress, str] = {}
    for version in (4, 6):
        hints |= auto_hints([ready[key] for key in sorted(ready) if key[0] == version], backends.zone_shares)
    return [
        [replace(each, zones=(hints[each.ip],)) if each.ready and each.ip in hints else each for each in listed]
        for listed in of_ports
    ]


def _of_slice(slice_: core.EndpointSlice, port: core.ServicePort, backends: Backends) -> Iterable[Endpoint]:
    """Slice ports match by name and protocol; missing names or ports are ignored, as are all but the first address."""
    if slice_.address_type == "FQDN":
        return
    numbers = [
        own.port
        for own in slice_.ports
        if own.name == port.name and (own.protocol or "TCP") == port.protocol and own.port
    ]
    for written in slice_.endpoints if numbers else ():
        ip = parse_address(written.addresses[0]) if written.addresses else None
        if ip is None or f"IPv{ip.version}" != slice_.address_type:
            continue
        conditions, hints = written.conditions, written.hints or core.EndpointHints()
        ready = conditions.ready is not False
        for number in numbers:
            yield Endpoint(
                ip=ip,
                port=number,
                node=written.node_name,
                ready=ready,
                serving=ready if conditions.serving is None else conditions.serving,
                terminating=bool(conditions.terminating),
                hostname=written.hostname or "",
                zone=written.zone or "",
                zones=tuple(zone.name for zone in hints.for_zones),
                nodes=tuple(node.name for node in hints.for_nodes),
                pod=_pod_behind(written.target_ref, slice_.metadata.namespace, ip, backends),
            )


def _of_endpoints(written: core.Endpoints, port: core.ServicePort, backends: Backends) -> Iterable[Endpoint]:
    for subset in written.subsets:
        numbers = [own.port for own in subset.ports if own.name == port.name and own.protocol == port.protocol]
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses if numbers else ():
                ip = parse_address(address.ip)
                for number in numbers if ip is not None else ():
                    assert ip is not None
                    yield Endpoint(
                        ip=ip,
                        port=number,
                        node=address.node_name,
                        ready=ready,
                        serving=ready,
                        hostname=address.hostname,
                        zone=backends.zones.get(address.node_name or "", ""),
                        pod=_pod_behind(address.target_ref, written.metadata.namespace, ip, backends),
                    )


def _pod_behind(
    reference: core.ObjectReference | None, namespace: str, ip: IPAddress, backends: Backends
) -> str | None:
    if reference is not None and reference.kind == "Pod":
        return f"{reference.namespace or namespace}/{reference.name}"
    return backends.pod_of.get(str(ip))


def _merge(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """One endpoint for each address and port; the one with a node wins, as isLocal does in kube-proxy's cache."""
    merged: dict[tuple[int, int, int], Endpoint] = {}
    for endpoint in endpoints:
        key = endpoint.ip.version, int(endpoint.ip), endpoint.port
        if key not in merged or (merged[key].node is None and endpoint.node is not None):
            merged[key] = endpoint
    return tuple(merged[key] for key in sorted(merged))
