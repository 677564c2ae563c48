"""policy.networking.k8s.io: ClusterNetworkPolicy and its forerunners AdminNetworkPolicy, BaselineAdminNetworkPolicy.

They stand before (tier Admin) and behind (tier Baseline) the NetworkPolicies and can deny; `cluster.tiers` reads all
three as one. Source: kubernetes-sigs/network-policy-api, apis/v1alpha2 and apis/v1alpha1 (v0.1.5).
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api.meta import LabelSelector, ObjectMeta, Protocol, written_at

Tier = Literal["Admin", "Baseline"]
Action = Literal["Accept", "Deny", "Pass"]
AdminAction = Literal["Allow", "Deny", "Pass"]


# --- Subjects and peers, the same in both versions --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacedPod:
    """Pods that both selectors match; each matches everything of its kind when empty."""

    namespace_selector: LabelSelector = LabelSelector()
    pod_selector: LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSubject:
    """Whom the policy is for: all pods of some namespaces, or some pods of them. Pods with hostNetwork never are."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminIngressPeer:
    """Exactly one field is set. Pods with hostNetwork are not among the pods."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminEgressPeer:
    """Exactly one field is set. `networks` match addresses inside the cluster as well as outside."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None
    nodes: LabelSelector | None = None
    networks: tuple[str, ...] = ()
    domain_names: tuple[str, ...] = ()
    source: Source | None = written_at()


# --- ClusterNetworkPolicy (v1alpha2) ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRange:
    """Both ends included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One number or one range."""

    number: int | None = None
    range: PortRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolPorts:
    destination_port: Port | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetworkPolicyProtocol:
    """Exactly one field is set; a named port is looked up in the destination pod, whatever its protocol."""

    tcp: ProtocolPorts | None = None
    udp: ProtocolPorts | None = None
    sctp: ProtocolPorts | None = None
    destination_named_port: str | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetworkPolicyIngressRule:
    """No `protocols` means every protocol and port."""

    name: str = ""
    action: Action
    from_: tuple[AdminIngressPeer, ...] = field(metadata={"key": "from"})
    protocols: tuple[ClusterNetworkPolicyProtocol, ...] | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetworkPolicyEgressRule:
    name: str = ""
    action: Action
    to: tuple[AdminEgressPeer, ...]
    protocols: tuple[ClusterNetworkPolicyProtocol, ...] | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetworkPolicySpec:
    """Within a tier the lowest `priority` number comes first; within a policy the first rule that matches decides."""

    tier: Tier
    priority: int
    subject: AdminSubject
    ingress: tuple[ClusterNetworkPolicyIngressRule, ...] = ()
    egress: tuple[ClusterNetworkPolicyEgressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNetworkPolicy:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: ClusterNetworkPolicySpec
    source: Source | None = written_at()


# --- AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1) -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPortNumber:
    protocol: Protocol = "TCP"
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPortRange:
    """Both ends included."""

    protocol: Protocol = "TCP"
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminNetworkPolicyPort:
    """Exactly one field is set."""

    port_number: AdminPortNumber | None = None
    named_port: str | None = None
    port_range: AdminPortRange | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminNetworkPolicyIngressRule:
    """No `ports` means every protocol and port."""

    name: str = ""
    action: AdminAction
    from_: tuple[AdminIngressPeer, ...] = field(metadata={"key": "from"})
    ports: tuple[AdminNetworkPolicyPort, ...] | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminNetworkPolicyEgressRule:
    name: str = ""
    action: AdminAction
    to: tuple[AdminEgressPeer, ...]
    ports: tuple[AdminNetworkPolicyPort, ...] | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminNetworkPolicySpec:
    priority: int
    subject: AdminSubject
    ingress: tuple[AdminNetworkPolicyIngressRule, ...] = ()
    egress: tuple[AdminNetworkPolicyEgressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminNetworkPolicy:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: AdminNetworkPolicySpec
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineAdminNetworkPolicySpec:
    """As an AdminNetworkPolicy's, without priority (there is only one) and without Pass (nothing comes behind it)."""

    subject: AdminSubject
    ingress: tuple[AdminNetworkPolicyIngressRule, ...] = ()
    egress: tuple[AdminNetworkPolicyEgressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineAdminNetworkPolicy:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: BaselineAdminNetworkPolicySpec
    source: Source | None = written_at()
