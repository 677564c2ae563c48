"""Host ports of each node: who holds which, and who must not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from k8snetlab.cluster.addresses import parse_address
from k8snetlab.cluster.model import Cluster, IPAddress, Node, Pod
from k8snetlab.manifests.api.core import PodSpec
from k8snetlab.manifests.api.meta import Protocol

if TYPE_CHECKING:
    from k8snetlab.cluster.workloads import PodSeed

EVERY_ADDRESS = ("", "0.0.0.0", "::")
NO_FREE_PORTS = "node(s) didn't have free ports for the requested pod ports"


def host_ports(spec: PodSpec) -> tuple[tuple[str, int, str], ...]:
    """(protocol, port, address) of each; with hostNetwork every declared port is one (API defaulting)."""
    return tuple(
        (port.protocol, port.host_port or port.container_port, "" if port.host_ip in EVERY_ADDRESS else port.host_ip)
        for container in spec.containers
        for port in container.ports
        if port.host_port or spec.host_network
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A port of a node that leads to a pod's own; `address` is the node's, None for all of them."""

    protocol: Protocol
    port: int
    address: IPAddress | None
    container_port: int


def port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    """The pod's, in the order of its containers; none with hostNetwork, whose ports are the node's own.

    A pod that has ended has no sandbox any more, and no mappings with it.
    """
    return tuple(_port_mappings(pod)) if pod.phase in ("Running", "Unknown", "Pending") else ()


def _port_mappings(pod: Pod) -> Iterator[PortMapping]:
    for container in pod.containers if not pod.host_network else ():
        for port in container.ports:
            if port.host_port:
                yield PortMapping(
                    protocol=port.protocol,
                    port=port.host_port,
                    address=None if port.host_ip in EVERY_ADDRESS else parse_address(port.host_ip),
                    container_port=port.container_port,
                )


def pods_with_mappings(cluster: Cluster) -> Mapping[str, tuple[Pod, ...]]:
    """Node → its pods that have host ports, in the cluster's order."""
    found: defaultdict[str, list[Pod]] = defaultdict(list)
    for pod in cluster.pods:
        if port_mappings(pod):
            found[pod.node].append(pod)
    return {node: tuple(pods) for node, pods in found.items()}


@dataclass(slots=True)
class HostPorts:
    """Taken ports: two clash when node, protocol and number are equal and the addresses are equal or one is all."""

    holders: dict[tuple[str, str, int], dict[str, str]] = field(default_factory=dict)  # → address → pod

    def misfit(self, seed: PodSeed, node: Node) -> str:
        """The scheduler's words when the pod's host ports are not free on the node."""
        return NO_FREE_PORTS if self.conflict(seed, node) else ""

    def conflict(self, seed: PodSeed, node: Node) -> str:
        """Which port is taken and by whom; empty when all are free."""
        for protocol, port, address in host_ports(seed.spec):
            held = self.holders.get((node.name, protocol, port), {})
            for other, pod in held.items():
                if not address or not other or address == other:
                    return f"hostPort {port}/{protocol} of {node.name} is already taken by pod {pod}"
        return ""

    def take(self, seed: PodSeed, node: Node) -> None:
        for protocol, port, address in host_ports(seed.spec):
            self.holders.setdefault((node.name, protocol, port), {})[address] = seed.key
