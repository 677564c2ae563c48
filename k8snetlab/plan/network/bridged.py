"""Pods on a Linux bridge of their node: what the `bridge` plugin, flannel and Weave Net have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node, Pod
from k8snetlab.cluster.networks import pod_interface
from k8snetlab.plan.families import DEFAULT_ROUTE, of_family
from k8snetlab.plan.hostports import let_loopback_out
from k8snetlab.plan.network.pods import maps_ports, pod_namespace, pods_of_nodes, shaping
from k8snetlab.plan.state import Address, Bridge, Family, IPAddress, KernelObject, Neighbour, Route, Veth
from k8snetlab.plan.world import FIRST_PORT_INDEX, UPLINK_INDEX

POD_BRIDGE_INDEX: Final = 21
# The kernel's neighbour table is one for all namespaces and holds 1,024 learned entries. Permanent ones do not count,
# but all pairs of a node's pods are their square: up to this many pods a node they are planned, above they are learned.
MESHED_PODS: Final = 16


@dataclass(frozen=True, slots=True)
class PortStyle:
    """How a network calls its bridge, and how the names of its ports begin."""

    bridge: str = names.POD_BRIDGE
    port: str = "veth"


class BridgedPods:
    """Bridges and pods of one cluster. `Node.network_addresses` are the bridges'; of each family the first counts."""

    def __init__(self, cluster: Cluster, mtu: int, style: PortStyle = PortStyle()) -> None:
        self._cluster = cluster
        self._mtu = mtu
        self._style = style
        self._pods = pods_of_nodes(cluster)

    def bridge(self, node: Node) -> Iterator[KernelObject]:
        """The bridge, with the addresses that are the pods' gateways."""
        yield Bridge(node.name, self._style.bridge, POD_BRIDGE_INDEX, self.gateway_mac(node), self._mtu)
        for address in self._gateways(node):
            yield Address(node.name, self._style.bridge, pod_interface(self._cluster.config, node, address))

    def pods(self, node: Node) -> Iterator[KernelObject]:
        pods = self._pods.get(node.name, ())
        if 4 in self._cluster.config.families and maps_ports(pods):
            yield let_loopback_out(node.name, self._style.bridge)
        for pod in pods:
            yield from self._pod(node, pod)
        if len(pods) <= MESHED_PODS:
            yield from _mesh(pods)

    def gateway_mac(self, node: Node) -> str:
        """The MAC of a node's bridge, from its address of the primary family."""
        return names.mac_of(self._gateways(node)[0])

    def _gateways(self, node: Node) -> list[IPAddress]:
        found = (of_family(node.network_addresses, family) for family in self._cluster.config.families)
        return [address for address in found if address is not None]

    def _pod(self, node: Node, pod: Pod) -> Iterator[KernelObject]:
        netns = names.pod_netns(pod.namespace, pod.name)
        mac = names.mac_of(pod.ips[0])
        link = names.pod_veth(pod.namespace, pod.name, pod.slot, self._style.port)
        yield from pod_namespace(pod)
        # kubelet's hairpin mode: a pod that reaches itself through its own Service leaves and enters by one port.
        yield Veth(
            node.name, link, FIRST_PORT_INDEX + pod.slot,
            names.port_mac(mac), self._mtu,
            netns, names.UPLINK, UPLINK_INDEX, mac, self._mtu,
            master=self._style.bridge, hairpin=True,
        )  # fmt: skip
        yield from shaping(pod, node, link)
        for ip in pod.ips:
            family: Family = 4 if ip.version == 4 else 6
            gateway = of_family(node.network_addresses, family)
            if gateway is None:
                continue
            yield Address(netns, names.UPLINK, pod_interface(self._cluster.config, node, ip))
            yield Route(netns, DEFAULT_ROUTE[family], gateway, names.UPLINK)
            yield Neighbour(netns, names.UPLINK, gateway, self.gateway_mac(node))
            yield Neighbour(node.name, self._style.bridge, ip, mac)


def _mesh(pods: Sequence[Pod]) -> Iterator[Neighbour]:
    """Every pod of a node knows every other one."""
    for pod in pods:
        netns = names.pod_netns(pod.namespace, pod.name)
        for other in pods:
            if other is not pod:
                mac = names.mac_of(other.ips[0])
                for ip in other.ips:
                    yield Neighbour(netns, names.UPLINK, ip, mac)
