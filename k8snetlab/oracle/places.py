"""Where the checks of a cluster can start and end: its pods, nodes and external hosts, with what listens where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster, Family, IPAddress, Node, Pod
from k8snetlab.flows.model import Place


def external_place(name: str) -> Place:
    return Place(kind="external", name=name, netns=name)


def address_of(addresses: Sequence[IPAddress], family: Family) -> IPAddress | None:
    return next((address for address in addresses if address.version == family), None)


@dataclass(frozen=True)
class Scene:
    """A cluster seen by one family: the pods that run with addresses of their own, by node."""

    cluster: Cluster
    family: Family

    @cached_property
    def listening(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        return listeners(self.cluster)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Pods that can send and receive: running, on the pod network."""
        return tuple(
            pod
            for pod in self.cluster.pods
            if pod.phase == "Running" and not pod.host_network and self.ip(pod) is not None
        )

    @cached_property
    def by_node(self) -> Mapping[str, tuple[Pod, ...]]:
        return {node.name: tuple(p for p in self.pods if p.node == node.name) for node in self.cluster.nodes}

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.cluster.nodes}

    def ip(self, pod: Pod) -> IPAddress | None:
        return address_of(pod.ips, self.family)

    def node_ip(self, node: Node) -> IPAddress | None:
        return address_of(node.addresses, self.family)

    def tcp_port(self, pod: Pod) -> int | None:
        """The first TCP port the pod listens on."""
        return next((port for protocol, port in self.listening.get(pod.key, ()) if protocol == "TCP"), None)
