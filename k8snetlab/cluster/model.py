"""What a control plane has decided: every pod has a node and addresses, every Service its IPs, ports and endpoints.

A `Cluster` is a value. It holds the Kubernetes objects themselves (with what the API server would have filled in) and
beside them the decisions that Kubernetes writes into their status. Nothing in it knows how a packet will travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TYPE_CHECKING, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api import admin_policy, apps, core, lab, networking, scheduling
from k8snetlab.manifests.api.core import Container, PodSpec
from k8snetlab.manifests.api.meta import Labels, Protocol

if TYPE_CHECKING:
    from k8snetlab.manifests.api import gateway

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
Family = Literal[4, 6]
AdminPolicy = (
    admin_policy.ClusterNetworkPolicy | admin_policy.AdminNetworkPolicy | admin_policy.BaselineAdminNetworkPolicy
)


# The label of what the lab itself adds to a cluster, such as its DNS: no object of the user's, but run like one.
ADDON_LABEL = "k8snetlab.dev/addon"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabConfig:
    """The Lab document with its defaults filled in and its text parsed. Subnets: the primary family's first."""

    name: str
    network: lab.NetworkName
    backend: lab.Backend
    proxy_mode: lab.ProxyMode
    iptables_backend: Literal["nft", "legacy"]
    nftables_layout: Literal["kube-proxy", "flat"]
    ipvs_scheduler: str
    policy_engine: lab.PolicyEngine
    families: tuple[Family, ...]
    pod_subnets: tuple[IPNetwork, ...]
    service_subnets: tuple[IPNetwork, ...]
    node_subnets: tuple[IPNetwork, ...]
    node_cidr_mask_sizes: tuple[int, ...]
    node_port_range: tuple[int, int]
    cluster_domain: str
    mtu: int  # of pods; 0: what fits (`cluster.mtu`)
    fabric_mtu: int  # of the cables between nodes; 0: what the nodes believe
    masquerade_all: bool
    reserved: tuple[tuple[IPAddress, IPAddress], ...]  # first and last of each range that no pod gets
    node_port_addresses: tuple[IPNetwork, ...]
    load_balancer_pools: tuple[IPNetwork, ...]
    load_balancer_mode: Literal["l2", "bgp"]
    dns: Literal["embedded", "none", "knot", "coredns"] = "embedded"
    dns_pods: lab.PodRecords = "insecure"
    coredns: str = ""  # the path of the CoreDNS to run


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInterface:
    """A further interface of a node. Nodes that name the same `network` are on one switch, and nobody else is."""

    name: str
    network: str
    addresses: tuple[IPInterface, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`index` counts from 1 and never changes while the node lives; kernel names and numbers are derived from it.

    `addresses` are those of its eth0, one a family: what Kubernetes calls its InternalIPs. `network_addresses` are what
    the pod network gives the node itself: its bridge's, its tunnel end's.
    """

    name: str
    index: int
    addresses: tuple[IPAddress, ...]
    pod_cidrs: tuple[IPNetwork, ...]
    network_addresses: tuple[IPAddress, ...] = ()
    labels: Labels
    taints: tuple[scheduling.Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True  # False: cut off from the node network
    interfaces: tuple[NodeInterface, ...] = ()
    source: Source | None = None

    @property
    def zone(self) -> str:
        return self.labels.get("topology.kubernetes.io/zone", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool:
    """Addresses for pods. `blocks` is the prefix length of what a node takes from it at a time.

    `encapsulated`: whether packets to it travel in VXLAN between nodes. What leaves the pools is masqueraded with
    `nat_outgoing`. A disabled pool gives out nothing any more; a manual one only to pods that ask for it.
    """

    name: str
    cidr: IPNetwork
    blocks: int
    node_selector: str = "all()"
    nat_outgoing: bool = True
    encapsulated: bool = False
    disabled: bool = False
    manual: bool = False
    unheeded: tuple[str, ...] = ()  # what was written of it and has no effect here
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IPRange:
    """A part of a pool that one node hands out; `node` is empty when nobody does any more but pods still have some."""

    pool: str
    cidr: IPNetwork
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod, placed and addressed. `ips` are the node's addresses for a hostNetwork pod.

    `ready` is readiness as the endpoints controller sees it; `phase` Failed or Succeeded takes the pod out of every
    endpoint list. `owner` is `Kind/name` of the workload that made it, empty for a bare pod. `slot` is the number of
    the pod on its node, with host-local the offset of its address in the node's range (which counts from 2); 0 with
    hostNetwork. `ordinal` is its number among its owner's pods.
    """

    namespace: str
    name: str
    node: str
    ips: tuple[IPAddress, ...]
    slot: int
    labels: Labels
    annotations: Labels = field(default_factory=dict)
    spec: PodSpec
    owner: str = ""
    ordinal: int = 0
    phase: str = "Running"
    ready: bool = True
    terminating: bool = False
    source: Source | None = None

    @property
    def key(self) -> str:
        """`ns/name`, as every output writes it."""
        return f"{self.namespace}/{self.name}"

    @property
    def addon(self) -> str:
        """Which part of the lab it belongs to, such as `dns`; empty for the user's own."""
        return self.labels.get(ADDON_LABEL, "")

    @property
    def host_network(self) -> bool:
        return self.spec.host_network

    @property
    def containers(self) -> tuple[Container, ...]:
        return self.spec.containers

    @property
    def hostname(self) -> str:
        return self.spec.hostname or self.name[:63].rstrip("-.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One backend of one Service port. `node` is None when no node is known: such an endpoint is never local.

    `zones` and `nodes` are topology hints; `pod` is `ns/name` when a pod stands behind the address.
    """

    ip: IPAddress
    port: int
    node: str | None
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    hostname: str = ""
    zone: str = ""
    zones: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    pod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service with what stands behind it, for all families, in order of address."""

    name: str
    protocol: Protocol
    port: int
    target_port: int | str
    node_port: int  # 0: none
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Service as the API server would store it. `cluster_ips` is empty when headless or ExternalName.

    `load_balancer_ips` are the addresses in status.loadBalancer with ipMode VIP. `spec` is the complete spec: defaults,
    allocated addresses and ports filled in.
    """

    namespace: str
    name: str
    labels: Labels
    annotations: Labels = field(default_factory=dict)
    spec: core.ServiceSpec
    cluster_ips: tuple[IPAddress, ...]
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer_ips: tuple[IPAddress, ...] = ()
    load_balancer_status: tuple[core.LoadBalancerIngress, ...] = ()
    load_balancer_source_ranges: tuple[IPNetwork, ...] = ()
    ports: tuple[ServicePort, ...]
    session_affinity_seconds: int = 0  # 0: no affinity
    health_check_node_port: int = 0
    source: Source | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def addon(self) -> str:
        """Which part of the lab it belongs to, such as `dns`; empty for the user's own."""
        return self.labels.get(ADDON_LABEL, "")

    @property
    def headless(self) -> bool:
        return self.spec.cluster_ip == "None"

    @property
    def external_local(self) -> bool:
        return self.spec.external_traffic_policy == "Local"

    @property
    def internal_local(self) -> bool:
        return self.spec.internal_traffic_policy == "Local"

    def proxied(self) -> bool:
        """Whether kube-proxy looks at it at all (conformance EP.15, HL.6, XN.4)."""
        hidden = {"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"}
        return bool(self.cluster_ips) and self.spec.type != "ExternalName" and not hidden & self.labels.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A Deployment, StatefulSet, DaemonSet, … and how many pods it wants; `get` and `scale` look here."""

    kind: str
    namespace: str
    name: str
    replicas: int
    spec: apps.Deployment | apps.ReplicaSet | apps.StatefulSet | apps.DaemonSet | apps.Job | apps.CronJob
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate (with its chain) and its private key, as PEM text."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Everything, in deterministic order: nodes by index, pods and Services by namespace and name."""

    config: LabConfig
    nodes: tuple[Node, ...]
    namespaces: Mapping[str, Labels]  # with kubernetes.io/metadata.name
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    workloads: tuple[Workload, ...] = ()
    endpoint_slices: tuple[core.EndpointSlice, ...] = ()
    network_policies: tuple[networking.NetworkPolicy, ...] = ()
    admin_policies: tuple[AdminPolicy, ...] = ()  # by name within each kind; `cluster.tiers` has their order
    ingresses: tuple[networking.Ingress, ...] = ()
    ingress_classes: tuple[networking.IngressClass, ...] = ()
    gateway_classes: tuple[gateway.GatewayClass, ...] = ()
    gateways: tuple[gateway.Gateway, ...] = ()
    http_routes: tuple[gateway.HTTPRoute, ...] = ()
    reference_grants: tuple[gateway.ReferenceGrant, ...] = ()
    tls_secrets: Mapping[str, KeyPair] = field(default_factory=dict)  # ns/name → those that some TLS section names
    creation_order: Mapping[str, int] = field(default_factory=dict)  # see `creation_order`
    ip_pools: tuple[IPPool, ...] = ()
    ip_ranges: tuple[IPRange, ...] = ()  # by node and address
    checks: tuple[lab.Check, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)  # kind → how many documents were read and ignored

    @property
    def own_pods(self) -> tuple[Pod, ...]:
        """The user's pods, without the lab's add-ons."""
        return tuple(pod for pod in self.pods if not pod.addon)

    @property
    def own_services(self) -> tuple[Service, ...]:
        """The user's Services, without the lab's add-ons."""
        return tuple(service for service in self.services if not service.addon)

    def node(self, name: str) -> Node | None:
        return next((node for node in self.nodes if node.name == name), None)

    def pod(self, key: str) -> Pod | None:
        return next((pod for pod in self.pods if pod.key == key), None)

    def service(self, key: str) -> Service | None:
        return next((service for service in self.services if service.key == key), None)
