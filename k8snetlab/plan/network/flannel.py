"""flannel: the bridge plugin's `cni0` on every node, and between nodes a VXLAN device or plain routes.

The daemon writes no packets anywhere: for each other node it makes a route, with VXLAN also who lives at its end, and
rules for the way out. Sources: flannel, pkg/backend/vxlan, pkg/backend/hostgw, pkg/trafficmngr/iptables and
Documentation/backends.md. It enforces no NetworkPolicy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.mtu import mtus
from k8snetlab.plan.families import of_family
from k8snetlab.plan.network import vxlan
from k8snetlab.plan.network.bridged import BridgedPods
from k8snetlab.plan.network.routes import routes_to_nodes
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, File, KernelObject

SUBNET_FILE: Final = "run/flannel/subnet.env"  # under NODE/run is what is in /run for whoever runs in the node
_MULTICAST: Final[dict[Family, str]] = {4: "224.0.0.0/4", 6: "ff00::/8"}
_MASQ: Final = '-m comment --comment "flanneld masq"'
_FORWARD: Final = '-m comment --comment "flanneld forward"'
# What kube-proxy masquerades itself must not be masqueraded twice.
_KUBE_PROXY_MARK: Final = "0x4000/0x4000"


class FlannelNetwork:
    """The planner of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pod_mtu = mtus(cluster).pods
        self._bridged = BridgedPods(cluster, self.pod_mtu)

    def node(self, node: Node) -> Iterator[KernelObject]:
        yield from self._bridged.bridge(node)
        if self.cluster.config.backend == "vxlan":
            yield from vxlan.tunnels(self.cluster, node, self.pod_mtu)
        else:
            yield from routes_to_nodes(self.cluster, node)
        yield File(f"{node.name}/{SUBNET_FILE}", self._subnet_file(node))
        yield from self._bridged.pods(node)

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """flanneld with --ip-masq and --iptables-forward-rules, as its DaemonSet runs it."""
        cluster, own = of_family(self.cluster.config.pod_subnets, family), of_family(node.pod_cidrs, family)
        ruleset.chain("nat", "POSTROUTING").append(f"{_MASQ} -j FLANNEL-POSTRTG")
        ruleset.chain("nat", "FLANNEL-POSTRTG").extend(
            (
                f"-m mark --mark {_KUBE_PROXY_MARK} {_MASQ} -j RETURN",
                f"-s {own} -d {cluster} {_MASQ} -j RETURN",
                f"-s {cluster} -d {own} {_MASQ} -j RETURN",
                f"! -s {cluster} -d {own} {_MASQ} -j RETURN",
                f"-s {cluster} ! -d {_MULTICAST[family]} {_MASQ} -j MASQUERADE --random-fully",
                f"! -s {cluster} -d {cluster} {_MASQ} -j MASQUERADE --random-fully",
            )
        )
        ruleset.chain("filter", "FORWARD").append(f"{_FORWARD} -j FLANNEL-FWD")
        ruleset.chain("filter", "FLANNEL-FWD").extend(
            (f"-s {cluster} {_FORWARD} -j ACCEPT", f"-d {cluster} {_FORWARD} -j ACCEPT")
        )

    def _subnet_file(self, node: Node) -> str:
        """What flanneld tells the flannel CNI plugin (pkg/subnet, WriteSubnetFile): its gateway, with a length."""
        lines = []
        for family, infix in ((4, ""), (6, "IPV6_")):
            cluster = next((each for each in self.cluster.config.pod_subnets if each.version == family), None)
            own = next((each for each in node.pod_cidrs if each.version == family), None)
            if cluster is not None and own is not None:
                lines += [
                    f"FLANNEL_{infix}NETWORK={cluster}",
                    f"FLANNEL_{infix}SUBNET={own[1]}/{own.prefixlen}",
                ]
        return "\n".join((*lines, f"FLANNEL_MTU={self.pod_mtu}", "FLANNEL_IPMASQ=true")) + "\n"
