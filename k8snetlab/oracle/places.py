"""Where the checks of a cluster can start and end: its pods, nodes and external hosts, with what listens where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from k8snetlab.cluster import names
from k8snetlab.cluster.announcers import announced, routed
from k8snetlab.cluster.listeners import RUNS_FOR_REAL, listeners
from k8snetlab.cluster.model import Cluster, Endpoint, Family, IPAddress, Node, Pod, ServicePort
from k8snetlab.flows.model import FlowProtocol, Place
from k8snetlab.oracle.endpoint_verdicts import PolicyContext, policy_context


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
    def policy_context(self) -> PolicyContext:
        return policy_context(self.cluster)

    @cached_property
    def listening(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        return listeners(self.cluster)

    @cached_property
    def announced(self) -> Mapping[IPAddress, tuple[Node, ...]]:
        return announced(self.cluster)

    @cached_property
    def routed(self) -> Mapping[IPAddress, Node]:
        return routed(self.cluster)

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Pods that can send and receive: running, on the pod network, on a node that is not cut off."""
        return tuple(
            pod
            for pod in self.cluster.pods
            if pod.phase == "Running"
            and not pod.addon
            and not pod.host_network
            and pod.node in self.nodes
            and self.ip(pod) is not None
        )

    @cached_property
    def by_node(self) -> Mapping[str, tuple[Pod, ...]]:
        return {name: tuple(pod for pod in self.pods if pod.node == name) for name in self.nodes}

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """Those that are not cut off."""
        return {node.name: node for node in self.cluster.nodes if node.ready}

    def ip(self, pod: Pod) -> IPAddress | None:
        return address_of(pod.ips, self.family)

    def node_ip(self, node: Node) -> IPAddress | None:
        return address_of(node.addresses, self.family)

    @cached_property
    def programs(self) -> frozenset[str]:
        """The pods of which some container is a program of the host: nobody knows what that says."""
        return frozenset(
            pod.key for pod in self.cluster.pods if any(each.image.startswith(RUNS_FOR_REAL) for each in pod.containers)
        )

    def answerer(self, endpoint: Endpoint, protocol: str) -> Literal["server", "program", ""]:
        """What answers at an endpoint: the lab's own server, a program of the host, or nothing that the lab has."""
        listener = protocol, endpoint.port
        if endpoint.pod is not None:
            if listener in self.listening.get(endpoint.pod, ()):
                return "server"
            return "program" if endpoint.pod in self.programs else ""
        internet = names.outside_address(names.INTERNET, self.family)
        return "server" if endpoint.ip == internet and listener in names.INTERNET_LISTENERS else ""

    def tcp_port(self, pod: Pod) -> int | None:
        """The first TCP port the pod listens on."""
        return next((port for protocol, port in self.listening.get(pod.key, ()) if protocol == "TCP"), None)


def probe_protocol(scene: Scene, port: ServicePort, endpoints: Sequence[Endpoint]) -> FlowProtocol | None:
    """What to ask by so that whoever answers can: a TCP port by HTTP, which the lab's server speaks on all of them, so
    that it can say what it saw; a program of the host is only known to accept connections. None when none will do."""
    answerers = {scene.answerer(endpoint, port.protocol) for endpoint in endpoints}
    if "" in answerers or ("program" in answerers and port.protocol != "TCP"):
        return None
    return "HTTP" if port.protocol == "TCP" and "program" not in answerers else port.protocol
