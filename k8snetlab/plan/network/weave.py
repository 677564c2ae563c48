"""Weave Net: one flat Ethernet for all pods of the cluster, as if they hung on one switch.

On every node a bridge `weave`, and as one port of it a tunnel to all other nodes (Weave's fast datapath is VXLAN on
port 6784). Bridge and tunnel learn from packets which pod lives where; what nobody knows yet goes to every node, once:
a tunnel never sends back into tunnels what came out of one, so there is no loop. Source: Weave Net, "How Weave Net
Works", "Fast Datapath" and net/bridge.go. Weave itself knows IPv4 only.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.mtu import mtus
from k8snetlab.plan.families import of_family
from k8snetlab.plan.network.bridged import BridgedPods, PortStyle
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Address, Family, FdbEntry, IpSet, IpSetEntry, KernelObject, Vxlan

BRIDGE: Final = "weave"
DEVICE: Final = "vxlan-6784"
DEVICE_INDEX: Final = 22
PORT: Final = 6784
VNI: Final = 1
EVERYBODY: Final = "00:00:00:00:00:00"
_MULTICAST: Final[dict[Family, str]] = {4: "224.0.0.0/4", 6: "ff00::/8"}
_LOCAL_SETS: Final[dict[Family, str]] = {4: "weaver-no-masq-local", 6: "weaver6-no-masq-local"}


class WeaveNetwork:
    """The planner of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        # One tunnel carries both families; it goes over the primary one's addresses.
        self._underlay = cluster.config.families[0]
        self.pod_mtu = mtus(cluster).pods
        self._bridged = BridgedPods(cluster, self.pod_mtu, PortStyle(BRIDGE, "vethwepl"))

    def node(self, node: Node) -> Iterator[KernelObject]:
        for family in self.cluster.config.families:
            yield IpSet(node.name, _LOCAL_SETS[family], "hash:net", family)
            for each in self.cluster.ip_ranges:
                if each.node == node.name and each.cidr.version == family:
                    yield IpSetEntry(node.name, _LOCAL_SETS[family], str(each.cidr))
        yield from self._bridged.bridge(node)
        if 6 in self.cluster.config.families:
            # Pods of other nodes are learned neighbours, and with no link-local address the kernel asks for none of
            # them on behalf of a packet that it forwards (net/ipv6/ndisc.c, ndisc_send_ns).
            own = names.link_local(self._bridged.gateway_mac(node))
            yield Address(node.name, BRIDGE, ip_interface((own, 64)))
        yield from self._tunnel(node)
        yield from self._bridged.pods(node)

    def rules(self, _node: Node, family: Family, ruleset: Ruleset) -> None:
        """What enters the pods' network and what leaves it is masqueraded, but not what goes to a pod of this node
        (so that externalTrafficPolicy Local shows the client)."""
        subnet = of_family(self.cluster.config.pod_subnets, family)
        ruleset.chain("nat", "POSTROUTING").append("-j WEAVE")
        ruleset.chain("nat", "WEAVE").extend(
            (
                f'-m set --match-set {_LOCAL_SETS[family]} dst -m comment --comment "Prevent SNAT to locally running'
                ' containers" -j RETURN',
                f"-s {subnet} -d {_MULTICAST[family]} -j RETURN",
                f"! -s {subnet} -d {subnet} -j MASQUERADE",
                f"-s {subnet} ! -d {subnet} -j MASQUERADE",
            )
        )
        ruleset.chain("filter", "FORWARD").extend(
            (
                f"-i {BRIDGE} ! -o {BRIDGE} -j ACCEPT",
                f"-o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            )
        )

    def _tunnel(self, node: Node) -> Iterator[KernelObject]:
        """One device for all peers; each is a destination of what goes to everybody."""
        local = of_family(node.addresses, self._underlay)
        if local is None:
            return
        mac = names.tunnel_mac(names.mac_of(local))
        yield Vxlan(
            node.name, DEVICE, DEVICE_INDEX, mac, self.pod_mtu, VNI, local, names.UPLINK, PORT,
            master=BRIDGE, learning=True,
        )  # fmt: skip
        for other in self.cluster.nodes:
            address = of_family(other.addresses, self._underlay)
            if other is not node and address is not None:
                yield FdbEntry(node.name, DEVICE, EVERYBODY, address)
