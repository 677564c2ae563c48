"""What sets the pod networks apart for a control plane: their backends, address plans and habits of masquerading.

Facts of the projects themselves (flannel, Calico, Weave Net, the CNI plugins), needed before any packet is planned. How
each network moves a packet is the planner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import ip_interface
from types import MappingProxyType
from typing import Final, Literal

from k8snetlab.cluster.model import Family, IPAddress, IPInterface, LabConfig, Node
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.lab import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """`backends`: the ways between nodes, the default first. `conflist`: the `name` in the CNI configuration.

    `prefix` is the length of a pod address's prefix: that of the node's range, of the whole cluster's, or a single
    address. `ipam` is who hands out addresses. `masquerades_to_nodes`: whether what a pod sends to another node leaves
    with its own node's address. `largest_mtu`: what its pods get, however much would fit.
    """

    backends: tuple[Backend, ...]
    conflist: str
    prefix: Literal["node", "cluster", "pod"] = "node"
    ipam: Literal["host-local", "blocks", "ring"] = "host-local"
    masquerades_to_nodes: bool = False
    largest_mtu: int = 65535
    pod_subnets: Mapping[Family, str] = field(default_factory=dict)


BRIDGE: Final = NetworkFacts(backends=("host-gw", "vxlan"), conflist="bridge")
NETWORKS: Final[Mapping[str, NetworkFacts]] = MappingProxyType(
    {
        "bridge": BRIDGE,
        "flannel": NetworkFacts(backends=("vxlan", "host-gw"), conflist="cbr0", masquerades_to_nodes=True),
        "calico": NetworkFacts(
            backends=("vxlan", "bgp", "none"),
            conflist="k8s-pod-network",
            prefix="pod",
            ipam="blocks",
            masquerades_to_nodes=True,
        ),
        "weave": NetworkFacts(
            backends=("vxlan",),
            conflist="weave",
            prefix="cluster",
            ipam="ring",
            masquerades_to_nodes=True,
            largest_mtu=1376,  # WEAVE_MTU: small enough for the encryption that clouds add
            pod_subnets={4: "10.32.0.0/12", 6: "fd00:10:32::/56"},  # weave's IPALLOC_RANGE; it has no IPv6 itself
        ),
    }
)


def facts(network: str) -> NetworkFacts:
    """Those of the network; a network without any of its own is told like a bridge's."""
    return NETWORKS.get(network, BRIDGE)


def pod_interface(config: LabConfig, node: Node, address: IPAddress) -> IPInterface:
    """A pod's address with the prefix length that its interface has, which decides what is its neighbour."""
    networks = {"node": node.pod_cidrs, "cluster": config.pod_subnets, "pod": ()}[facts(config.network).prefix]
    length = next((each.prefixlen for each in networks if each.version == address.version), address.max_prefixlen)
    return ip_interface((address, length))
