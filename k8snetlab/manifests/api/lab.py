"""k8snetlab.dev/v1: the lab's own two kinds, both optional."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import Labels, LabelSelector, ObjectMeta
from k8snetlab.manifests.api.scheduling import Taint

NetworkName = Literal["bridge", "flannel", "calico", "cilium", "weave", "cni"]
Backend = Literal["host-gw", "vxlan", "bgp", "none"]
ProxyMode = Literal["iptables", "ipvs", "nftables", "ebpf", "none"]
IPFamily = Literal["ipv4", "ipv6", "dual"]
PodRecords = Literal["disabled", "insecure", "verified"]
PolicyEngine = Literal["iptables", "nftables", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabInterface:
    """A further interface of a node, such as eth1. The nodes that name a network are on it; it has no router.

    `address` is one with the length of its range (10.9.0.2/24), two of different families with a comma, or empty.
    """

    name: str
    network: str
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabNode:
    name: str
    labels: Labels = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    pod_cidrs: tuple[str, ...] = field(default=(), metadata={"key": "podCIDRs"})
    interfaces: tuple[LabInterface, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerSpec:
    """`pool` may hold several ranges, of both families, with commas between; empty: the end of the node network."""

    pool: str = ""
    mode: Literal["l2", "bgp"] = "l2"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabDNS:
    """The cluster's DNS server; an empty mapping is the embedded one, `coredns` the path of a CoreDNS to run instead.

    `pods` is how `a-b-c-d.NS.pod.ZONE` is answered, as in CoreDNS' kubernetes plugin; kubeadm's Corefile says insecure.
    """

    coredns: str = ""
    pods: PodRecords = "insecure"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabIPAM:
    """`reserved`: addresses, CIDRs and ranges (`10.244.0.10-10.244.0.20`) that no pod gets."""

    reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """Defaults are those of kubeadm and flannel; a comma separates the IPv4 and IPv6 halves of a dual-stack subnet.

    No backend means the network's own default, an empty subnet the one for network and IP family; `mtu` 0 means derived
    from the underlay. No `policyEngine` means the one that fits the proxy mode, if the network has any.
    """

    nodes: int | tuple[LabNode, ...] = 3
    network: NetworkName = "bridge"
    backend: Backend | None = None
    kube_proxy_mode: ProxyMode = "iptables"
    iptables_backend: Literal["nft", "legacy"] = "nft"
    nftables_layout: Literal["kube-proxy", "flat"] = "kube-proxy"
    ipvs_scheduler: str = "rr"
    ip_family: IPFamily = "ipv4"
    policy_engine: PolicyEngine | None = None
    pod_subnet: str = ""
    node_cidr_mask_size: int = field(default=24, metadata={"key": "nodeCIDRMaskSize"})
    service_subnet: str = ""
    node_subnet: str = ""
    node_port_range: str = "30000-32767"
    cluster_domain: str = "cluster.local"
    mtu: int = 0
    fabric_mtu: int = field(default=0, metadata={"key": "fabricMTU"})
    masquerade_all: bool = False
    ipam: LabIPAM = LabIPAM()
    dns: Literal["none", "knot"] | LabDNS = LabDNS()
    node_port_addresses: tuple[str, ...] = ()
    load_balancer: LoadBalancerSpec = LoadBalancerSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    metadata: ObjectMeta = ObjectMeta()
    spec: LabSpec = LabSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPeer:
    """A set of pods by labels; a missing namespace selector means the Check's own namespace."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSpec:
    """`size` is that of a ping's packet in bytes, IP header included; it must not be fragmented on its way."""

    from_: str | CheckPeer = field(metadata={"key": "from"})
    to: str | CheckPeer
    port: int | None = None
    protocol: Literal["TCP", "UDP", "SCTP", "ICMP", "HTTP", "DNS"] = "TCP"
    size: int | None = None
    expect: Literal["ok", "refused", "timeout"] = "ok"
    source: Literal["pod", "node", "client"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    metadata: ObjectMeta
    spec: CheckSpec
