"""Node to node by plain routes: every node is the gateway to its own pods (flannel calls it host-gw)."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.state import Route


def routes_to_nodes(cluster: Cluster, node: Node) -> Iterator[Route]:
    """On a node, the routes to the pod ranges of all others."""
    for other in cluster.nodes:
        if other is not node:
            for cidr in other.pod_cidrs:
                via = of_family(other.addresses, 4 if cidr.version == 4 else 6)
                yield Route(node.name, cidr, via, names.UPLINK)
