"""Host ports of each node: who holds which, and who must not."""

from __future__ import annotations

from dataclasses import dataclass, field

from k8snetlab.cluster.model import Node
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.manifests.api.core import PodSpec

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
