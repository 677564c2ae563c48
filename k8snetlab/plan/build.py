"""From a Cluster to the Plan: every kernel object of the lab, in an order in which they can be made.

First the world outside, then node by node its namespace, links, routes, pods and rules, then what listens. Pure: the
same cluster gives the same plan, and a change in the cluster changes only the objects it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from k8snetlab.cluster import names
from k8snetlab.cluster.listeners import RUNS_FOR_REAL, listeners
from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.mtu import Mtus, mtus
from k8snetlab.errors import UsageError
from k8snetlab.plan.announce import announcements
from k8snetlab.plan.dns import dns
from k8snetlab.plan.families import DEFAULT_ROUTE, interface, of_family
from k8snetlab.plan.gateway.objects import gateway_objects
from k8snetlab.plan.hostports import HostPortRules
from k8snetlab.plan.network import calico_bgp
from k8snetlab.plan.network.bridge import BridgeNetwork
from k8snetlab.plan.network.calico import CalicoNetwork
from k8snetlab.plan.network.flannel import FlannelNetwork
from k8snetlab.plan.network.weave import WeaveNetwork
from k8snetlab.plan.node_networks import interfaces, switches
from k8snetlab.plan.policy.iptables import IptablesPolicies
from k8snetlab.plan.policy.nftables import NftablesPolicies
from k8snetlab.plan.proxy.health_checks import health_checks
from k8snetlab.plan.proxy.iptables import IptablesProxy
from k8snetlab.plan.proxy.ipvs import IpvsProxy
from k8snetlab.plan.proxy.nftables import NftablesProxy
from k8snetlab.plan.proxy.udp_destinations import udp_destinations
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import (
    Address,
    Family,
    KernelObject,
    Neighbour,
    Netns,
    Plan,
    PodServer,
    Process,
    Route,
    Sysctl,
    Veth,
)
from k8snetlab.plan.world import (
    FIRST_PORT_INDEX,
    UPLINK_INDEX,
    forwarding,
    router_address,
    router_mac,
    uplink_mac,
    world,
)

Planner = TypeVar("Planner")

# Permanent neighbour entries between nodes are the square of their number; above this many they are learned.
MESHED_NODES: Final = 64


class Network(Protocol):
    """What a pod network plans."""

    def node(self, node: Node) -> Iterator[KernelObject]: ...
    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None: ...


class Proxy(Protocol):
    """What a kube-proxy mode plans on a node: `rules` for iptables, `objects` for all else."""

    def sysctls(self, node: Node) -> Iterator[Sysctl]: ...
    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None: ...
    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]: ...


class Policies(Protocol):
    """What a policy engine plans on a node: `rules` for iptables, `objects` for all else."""

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None: ...
    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]: ...


class NoPolicies:
    """NetworkPolicies are read and not enforced, as with flannel; `cluster.remarks` says so."""

    def __init__(self, cluster: Cluster) -> None:
        pass

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        pass

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:  # noqa: ARG002
        return iter(())


class NoProxy:
    """Mode `none`: ClusterIPs and nodePorts lead nowhere."""

    def __init__(self, cluster: Cluster) -> None:
        pass

    def sysctls(self, node: Node) -> Iterator[Sysctl]:  # noqa: ARG002
        return iter(())

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        pass

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:  # noqa: ARG002
        return iter(())


NETWORKS: Final[dict[str, Callable[[Cluster], Network]]] = {
    "bridge": BridgeNetwork,
    "flannel": FlannelNetwork,
    "calico": CalicoNetwork,
    "weave": WeaveNetwork,
}
POLICIES: Final[dict[str, Callable[[Cluster], Policies]]] = {
    "iptables": IptablesPolicies,
    "nftables": NftablesPolicies,
    "none": NoPolicies,
}
PROXIES: Final[dict[str, Callable[[Cluster], Proxy]]] = {
    "iptables": IptablesProxy,
    "ipvs": IpvsProxy,
    "nftables": NftablesProxy,
    "none": NoProxy,
}


def build(cluster: Cluster, *, within: Cluster | None = None) -> Plan:
    """Every kernel object of the lab, without duplicates; `within` is the cluster of which this one is a part.

    Raises UsageError when the cluster asks for a network or a proxy mode that is not among NETWORKS and PROXIES.
    """
    network = _choose(NETWORKS, "network", cluster.config.network)(cluster)
    proxy = _choose(PROXIES, "kube-proxy mode", cluster.config.proxy_mode)(cluster)
    if within is not None and isinstance(proxy, IptablesProxy):
        proxy = IptablesProxy(cluster, within)
    policies = _choose(POLICIES, "policy engine", cluster.config.policy_engine)(cluster)
    host_ports = HostPortRules(cluster)
    sizes = mtus(cluster)
    objects: list[KernelObject] = list(world(cluster, sizes))
    objects += switches(cluster)
    for node in cluster.nodes:
        objects += _node(cluster, node, sizes)
        objects += proxy.sysctls(node)
        objects += network.node(node)
        for family in cluster.config.families:
            ruleset = Ruleset()
            policies.rules(node, family, ruleset)  # first: kube-proxy accepts what it has marked
            proxy.rules(node, family, ruleset)
            network.rules(node, family, ruleset)
            objects += policies.objects(node, family)
            host_ports.rules(node, family, ruleset)
            objects += proxy.objects(node, family)  # the rules may ask sets, which must be there before them
            objects += ruleset.objects(node.name, family, cluster.config.iptables_backend)
            if cluster.config.proxy_mode != "none":
                objects += udp_destinations(cluster, node, family)
    objects += announcements(cluster)
    objects += _servers(cluster)
    objects += dns(cluster)
    objects += gateway_objects(cluster)
    objects += health_checks(cluster) if cluster.config.proxy_mode != "none" else ()
    objects += _programs(cluster)
    if (cluster.config.network, cluster.config.backend) == ("calico", "bgp"):
        objects += map(calico_bgp.daemon, cluster.nodes)
    return Plan(tuple(dict.fromkeys(objects)))


def _choose(registry: Mapping[str, Planner], what: str, name: str) -> Planner:
    try:
        return registry[name]
    except KeyError:
        known = ", ".join(sorted(registry))
        raise UsageError(f"{what} {name} does not exist here", hint=f"there is: {known}") from None


def _node(cluster: Cluster, node: Node, sizes: Mtus) -> Iterator[KernelObject]:
    """The machine itself: its namespace, its cable to the fabric and the way to the router."""
    mac = uplink_mac(cluster, node)
    yield Netns(node.name)
    yield from forwarding(cluster, node.name)
    # kubeadm's preflight: without it packets between pods of one bridge meet no Service rule on their way back.
    yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "1")
    yield Sysctl(node.name, "net.bridge.bridge-nf-call-ip6tables", "1")
    yield Veth(
        names.FABRIC, names.fabric_port(node.index), FIRST_PORT_INDEX + node.index, names.port_mac(mac),
        sizes.cables,
        node.name, names.UPLINK, UPLINK_INDEX, mac, sizes.nodes, master=names.FABRIC_BRIDGE if node.ready else "",
    )  # fmt: skip
    for family in cluster.config.families:
        subnet = of_family(cluster.config.node_subnets, family)
        address = of_family(node.addresses, family)
        if subnet is None or address is None:
            continue
        router = router_address(cluster, family)
        yield Address(node.name, names.UPLINK, interface(address, subnet))
        # Not only the way out: a process of the node reaches a ClusterIP only if the node has some route for it.
        yield Route(node.name, DEFAULT_ROUTE[family], router, names.UPLINK)
        yield Neighbour(node.name, names.UPLINK, router, router_mac(cluster))
    if len(cluster.nodes) <= MESHED_NODES:
        for other in cluster.nodes:
            if other is not node:
                for address in other.addresses:
                    yield Neighbour(node.name, names.UPLINK, address, uplink_mac(cluster, other))
    yield from interfaces(cluster, node, meshed=len(cluster.nodes) <= MESHED_NODES)


def _servers(cluster: Cluster) -> Iterator[PodServer]:
    """What every pod listens on; a hostNetwork pod does so in its node's namespace, under the node's name."""
    listening = listeners(cluster)
    for pod in cluster.pods:
        netns = pod.node if pod.host_network else names.pod_netns(pod.namespace, pod.name)
        hostname = pod.node if pod.host_network else pod.hostname
        if ports := listening.get(pod.key, ()):
            yield PodServer(netns, pod.key, pod.node, hostname, ports)


def _programs(cluster: Cluster) -> Iterator[Process]:
    """The containers that are programs of the host (`image: host/PROGRAM`), each in its pod's namespace.

    `command` and `args` replace the image's entry point and its arguments as in Kubernetes; the entry point is PROGRAM.
    """
    for pod in cluster.pods:
        if pod.phase != "Running":
            continue
        netns = pod.node if pod.host_network else names.pod_netns(pod.namespace, pod.name)
        for container in pod.containers:
            if container.image.startswith(RUNS_FOR_REAL):
                command = container.command or (container.image.removeprefix(RUNS_FOR_REAL),)
                yield Process(netns, f"{pod.key}/{container.name}", (*command, *container.args), pod.key)


def without_sctp(plan: Plan) -> Plan:
    """The plan for a kernel that has no SCTP: nothing can listen there."""
    fitted = [_deaf_to_sctp(item) if isinstance(item, PodServer) else item for item in plan.objects]
    return Plan(tuple(item for item in fitted if not isinstance(item, PodServer) or item.listeners))


def listens_on_sctp(plan: Plan) -> bool:
    return any(_deaf_to_sctp(item) != item for item in plan.objects if isinstance(item, PodServer))


def _deaf_to_sctp(server: PodServer) -> PodServer:
    return replace(server, listeners=tuple(each for each in server.listeners if each[0] != "SCTP"))
