"""The `bridge` network: a Linux bridge on every node, joined by routes (host-gw) or by VXLAN.

It is what the CNI plugins `bridge` and `host-local` make on a node, what flannel's two backends put between the nodes,
and ip-masq-agent's rules for the way out.
"""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.mtu import mtus
from k8snetlab.plan.network import vxlan
from k8snetlab.plan.network.bridged import BridgedPods
from k8snetlab.plan.network.routes import routes_to_nodes
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, KernelObject


class BridgeNetwork:
    """The planner of one cluster; `plan.build` asks it node by node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pod_mtu = mtus(cluster).pods
        self._bridged = BridgedPods(cluster, self.pod_mtu)

    def node(self, node: Node) -> Iterator[KernelObject]:
        """The pod bridge, the ways to the other nodes' pods, and the node's own pods."""
        yield from self._bridged.bridge(node)
        if self.cluster.config.backend == "vxlan":
            yield from vxlan.tunnels(self.cluster, node, self.pod_mtu)
        else:
            yield from routes_to_nodes(self.cluster, node)
        yield from self._bridged.pods(node)

    def rules(self, _node: Node, family: Family, ruleset: Ruleset) -> None:
        """Masquerade what leaves the cluster, as ip-masq-agent does, with the pod and node subnets as
        nonMasqueradeCIDRs: between pods, and from pods to nodes, the sender keeps its address (conformance POD 3, 8).

        Nothing is needed in FORWARD: its policy in a namespace of our own is ACCEPT.
        """
        ruleset.chain("nat", "POSTROUTING").append(
            '-m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to'
            ' our custom IP-MASQ chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ'
        )
        chain = ruleset.chain("nat", "IP-MASQ")
        config = self.cluster.config
        chain += [
            f'-d {subnet} -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN'
            for subnet in (*config.pod_subnets, *config.node_subnets)
            if subnet.version == family
        ]
        chain.append(
            '-m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"'
            " -j MASQUERADE"
        )
