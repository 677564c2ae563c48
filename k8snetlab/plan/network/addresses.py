"""Which addresses a node has: kube-proxy picks among them, and a server may see any of them as "the node"."""

from __future__ import annotations

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import gateway, of_family
from k8snetlab.plan.state import Family, IPAddress


def node_addresses(cluster: Cluster, node: Node, family: Family) -> tuple[IPAddress, ...]:
    """eth0's, the pod bridge's, with VXLAN the tunnel end's, and those of a node's further interfaces."""
    found: list[IPAddress] = [address for address in node.addresses if address.version == family]
    cidr = of_family(node.pod_cidrs, family)
    if cidr is not None:
        found.append(gateway(cidr))
        if cluster.config.backend == "vxlan":
            found.append(cidr[0])
    found += [address.ip for each in node.interfaces for address in each.addresses if address.version == family]
    return tuple(found)
