"""How large packets may be: every network lowers its pods' MTU by what its tunnels put before each packet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from k8snetlab.cluster.model import Cluster, Family
from k8snetlab.cluster.networks import facts
from k8snetlab.dataclass import dataclass

ETHERNET: Final = 1500
LARGEST: Final = 65535  # of a veth
VXLAN: Final[dict[Family, int]] = {4: 50, 6: 70}  # outer IP + UDP 8 + VXLAN 8 + inner Ethernet 14


@dataclass(frozen=True, slots=True)
class Mtus:
    """In bytes: of pods, of the nodes' links on the node network, and of the cables between them.

    When cables carry less than the nodes believe (`fabricMTU`), what is larger is lost without a word.
    """

    pods: int
    nodes: int
    cables: int

    def fits(self, overhead: int) -> bool:
        """Whether a pod's largest packet gets from node to node. Links let four bytes more pass, for a VLAN tag
        (net/core/dev.c, __is_skb_forwardable)."""
        return self.pods + overhead <= self.cables + 4


def mtus(cluster: Cluster) -> Mtus:
    """Pods get what the Lab says, else what fits, with its tunnel, into an Ethernet frame; or the network's own default
    if that is smaller. Nodes get room for that."""
    config, before = cluster.config, overhead(cluster)
    default = min(facts(config.network).largest_mtu, ETHERNET - before)
    pods = min(config.mtu or default, LARGEST - before)
    nodes = max(ETHERNET, pods + before)
    return Mtus(pods, nodes, min(config.fabric_mtu or nodes, nodes))


def overhead(cluster: Cluster) -> int:
    """Bytes that go before a packet between nodes; a pod has one link for both families, so the larger counts."""
    return max((VXLAN[family] for family in _tunnelled(cluster)), default=0)


def _tunnelled(cluster: Cluster) -> Iterable[Family]:
    """The families of the packets' outer addresses."""
    config = cluster.config
    match facts(config.network).ipam:
        case "blocks":
            return [
                family
                for family in config.families
                if any(pool.encapsulated and pool.cidr.version == family for pool in cluster.ip_pools)
            ]
        case "ring":  # one tunnel for both families, over the primary one's addresses
            return config.families[:1]
        case _:
            return config.families if config.backend == "vxlan" else ()
