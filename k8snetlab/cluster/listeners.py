"""What the lab's own server listens on in each pod's name, in place of the containers that would have.

Every declared containerPort; and, since real manifests often declare none, every numeric targetPort of a Service that
selects the pod and every port that its probes name (design, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from k8snetlab.cluster.addons import DNS_IMAGE, DNS_PORT
from k8snetlab.cluster.model import Cluster, Pod, Service
from k8snetlab.cluster.selection import index_by_label, select
from k8snetlab.manifests.api import core

Listener = tuple[str, int]  # protocol, port

RUNS_FOR_REAL = "host/"  # such a container's own command runs, so nothing stands in for it


def listeners(cluster: Cluster) -> Mapping[str, tuple[Listener, ...]]:
    """Pod key → its (protocol, port) pairs, sorted, without duplicates; every pod is there.

    A pod that does not run listens on nothing. Nor does a hostNetwork pod one of whose ports a hostNetwork pod before
    it (by key) has on the same node: on a real node its process could not bind, and the pod would crash in a loop.
    """
    wanted = wanted_listeners(cluster.pods, cluster.services)
    beaten = bind_losers(cluster.pods, wanted)
    return {key: () if key in beaten else ports for key, ports in wanted.items()}


def wanted_listeners(pods: Sequence[Pod], services: Sequence[Service]) -> dict[str, tuple[Listener, ...]]:
    """What each pod would listen on if it were alone in its network namespace."""
    wanted: dict[str, set[Listener]] = {pod.key: set() for pod in pods}
    of_spec: dict[int, frozenset[Listener]] = {}
    for pod in pods:
        if pod.phase in ("Running", "Unknown"):
            spec = pod.spec
            if id(spec) not in of_spec:
                of_spec[id(spec)] = frozenset(_own_ports(spec))
            wanted[pod.key] |= of_spec[id(spec)]
    index = index_by_label(pod for pod in pods if pod.phase in ("Running", "Unknown") and not _runs_for_real(pod.spec))
    for service in services:
        ports = [(port.protocol, port.target_port) for port in service.ports if isinstance(port.target_port, int)]
        if ports and service.spec.type != "ExternalName":
            for pod in select(index, service.namespace, service.spec.selector):
                wanted[pod.key].update(ports)
    for pod in pods:
        if pod.addon == "dns" and any(container.image == DNS_IMAGE for container in pod.containers):
            wanted[pod.key] -= {("TCP", DNS_PORT), ("UDP", DNS_PORT)}  # the lab's DNS server listens there
    return {key: tuple(sorted(ports)) for key, ports in wanted.items()}


def bind_losers(pods: Sequence[Pod], wanted: Mapping[str, Sequence[Listener]]) -> set[str]:
    """The hostNetwork pods that cannot bind a port because another one on their node, before them by key, has it."""
    taken: set[tuple[str, str, int]] = set()
    losers: set[str] = set()
    for pod in sorted((pod for pod in pods if pod.host_network), key=lambda pod: pod.key):
        ports = {(pod.node, protocol, port) for protocol, port in wanted[pod.key]}
        if ports & taken:
            losers.add(pod.key)
        else:
            taken |= ports
    return losers


def _runs_for_real(spec: core.PodSpec) -> bool:
    """Whether some container runs a program of the host: a Service's targetPort may then be that program's to bind."""
    return any(container.image.startswith(RUNS_FOR_REAL) for container in spec.containers)


def _own_ports(spec: core.PodSpec) -> Iterator[Listener]:
    for container in spec.containers:
        if container.image.startswith(RUNS_FOR_REAL):
            continue
        for port in container.ports:
            yield port.protocol, port.container_port
        for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
            number = probe_port(probe, container)
            if number is not None:
                yield "TCP", number


def probe_port(probe: core.Probe | None, container: core.Container) -> int | None:
    """The port a probe asks; a name is looked up in the probe's own container (pkg/probe, ResolveContainerPort)."""
    if probe is None:
        return None
    if probe.grpc is not None:
        return probe.grpc.port
    action = probe.http_get or probe.tcp_socket
    if action is None or isinstance(action.port, int):
        return action.port if action is not None and isinstance(action.port, int) else None
    return next((port.container_port for port in container.ports if port.name == action.port), None)
