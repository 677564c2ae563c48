"""The `bridge` network: a Linux bridge on every node, joined by routes (host-gw) or by VXLAN.

It is what the CNI plugins `bridge` and `host-local` make on a node, what flannel's two backends put between the nodes,
and ip-masq-agent's rules for the way out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node, Pod
from k8snetlab.plan.families import DEFAULT_ROUTE, gateway, interface, of_family
from k8snetlab.plan.network import vxlan
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import (
    Address,
    Bridge,
    Family,
    IPNetwork,
    KernelObject,
    Neighbour,
    Netns,
    Route,
    Sysctl,
    Veth,
)
from k8snetlab.plan.world import FIRST_PORT_INDEX, UNDERLAY_MTU, UPLINK_INDEX

POD_BRIDGE_INDEX: Final = 21
LARGEST_MTU: Final = 65535  # of a veth
# The kernel's neighbour table is one for all namespaces and holds 1,024 learned entries. Permanent ones do not count,
# but all pairs of a node's pods are their square: up to this many pods a node they are planned, above they are learned.
MESHED_PODS: Final = 16


class BridgeNetwork:
    """The planner of one cluster; `plan.build` asks it node by node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.families = cluster.config.families
        overhead = vxlan.overhead(self.families) if cluster.config.backend == "vxlan" else 0
        self.pod_mtu = min(cluster.config.mtu or UNDERLAY_MTU - overhead, LARGEST_MTU - overhead)
        self.underlay_mtu = max(UNDERLAY_MTU, self.pod_mtu + overhead)
        self._pods: dict[str, list[Pod]] = defaultdict(list)
        for pod in cluster.pods:
            if not pod.host_network:
                self._pods[pod.node].append(pod)

    def node(self, node: Node) -> Iterator[KernelObject]:
        """The pod bridge, the ways to the other nodes' pods, and the node's own pods."""
        gateway_mac = self._gateway_mac(node)
        yield Bridge(node.name, names.POD_BRIDGE, POD_BRIDGE_INDEX, gateway_mac, self.pod_mtu)
        for cidr in node.pod_cidrs:
            yield Address(node.name, names.POD_BRIDGE, interface(gateway(cidr), cidr))
        yield from self._other_nodes(node)
        pods = self._pods[node.name]
        for pod in pods:
            yield from self._pod(node, pod, gateway_mac)
        if len(pods) <= MESHED_PODS:
            yield from _mesh(pods)

    def rules(self, family: Family, ruleset: Ruleset) -> None:
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

    def _other_nodes(self, node: Node) -> Iterator[KernelObject]:
        if self.cluster.config.backend == "vxlan":
            yield from vxlan.tunnels(self.cluster, node, self.pod_mtu)
            return
        for other in self.cluster.nodes:
            if other is not node:
                for cidr in other.pod_cidrs:
                    via = of_family(other.addresses, _family(cidr))
                    yield Route(node.name, cidr, via, names.UPLINK)

    def _gateway_mac(self, node: Node) -> str:
        return names.mac_of(gateway(node.pod_cidrs[0]))

    def _pod(self, node: Node, pod: Pod, gateway_mac: str) -> Iterator[KernelObject]:
        netns = names.pod_netns(pod.namespace, pod.name)
        mac = names.mac_of(pod.ips[0])
        yield Netns(netns)
        # containerd lets containers ping and bind low ports without privileges (enable_unprivileged_icmp and _ports).
        yield Sysctl(netns, "net.ipv4.ping_group_range", "0 2147483647")
        yield Sysctl(netns, "net.ipv4.ip_unprivileged_port_start", "0")
        # kubelet's hairpin mode: a pod that reaches itself through its own Service leaves and enters by one port.
        yield Veth(
            node.name, names.pod_veth(pod.namespace, pod.name, pod.slot), FIRST_PORT_INDEX + pod.slot,
            names.port_mac(mac), self.pod_mtu,
            netns, names.UPLINK, UPLINK_INDEX, mac, self.pod_mtu,
            master=names.POD_BRIDGE, hairpin=True,
        )  # fmt: skip
        for ip in pod.ips:
            cidr = of_family(node.pod_cidrs, 4 if ip.version == 4 else 6)
            if cidr is None:
                continue
            yield Address(netns, names.UPLINK, interface(ip, cidr))
            yield Route(netns, DEFAULT_ROUTE[_family(cidr)], gateway(cidr), names.UPLINK)
            yield Neighbour(netns, names.UPLINK, gateway(cidr), gateway_mac)
            yield Neighbour(node.name, names.POD_BRIDGE, ip, mac)


def _mesh(pods: Sequence[Pod]) -> Iterator[Neighbour]:
    """Every pod of a node knows every other one."""
    for pod in pods:
        netns = names.pod_netns(pod.namespace, pod.name)
        for other in pods:
            if other is not pod:
                mac = names.mac_of(other.ips[0])
                for ip in other.ips:
                    yield Neighbour(netns, names.UPLINK, ip, mac)


def _family(network: IPNetwork) -> Family:
    return 4 if network.version == 4 else 6
