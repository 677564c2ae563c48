"""Which addresses a node has: kube-proxy picks among them, and a server may see any of them as "the node"."""

from __future__ import annotations

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.state import Family, IPAddress


def node_addresses(_cluster: Cluster, node: Node, family: Family) -> tuple[IPAddress, ...]:
    """eth0's, what the pod network gives the node (its bridge's and its tunnel end's), and those of its further
    interfaces."""
    further = (address.ip for each in node.interfaces for address in each.addresses)
    own = (*node.addresses, *node.network_addresses, *further)
    return tuple(address for address in own if address.version == family)
