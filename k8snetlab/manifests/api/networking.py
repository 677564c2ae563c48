"""networking.k8s.io/v1: NetworkPolicy, Ingress and IngressClass."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api.meta import IntOrString, LabelSelector, ObjectMeta, Protocol, written_at

# --- NetworkPolicy ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class IPBlock:
    cidr: str
    except_: tuple[str, ...] = field(default=(), metadata={"key": "except"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyPeer:
    """Both selectors in one peer are ANDed; a selector that is present and empty matches everything of its kind."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyPort:
    """No port means every port *of this protocol*, and the protocol is TCP when not given."""

    protocol: Protocol = "TCP"
    port: IntOrString | None = None
    end_port: int | None = None
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyIngressRule:
    """Empty `from` means any peer, empty `ports` any port and protocol; the two are ANDed."""

    from_: tuple[NetworkPolicyPeer, ...] = field(default=(), metadata={"key": "from"})
    ports: tuple[NetworkPolicyPort, ...] = ()
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicyEgressRule:
    to: tuple[NetworkPolicyPeer, ...] = ()
    ports: tuple[NetworkPolicyPort, ...] = ()
    source: Source | None = written_at()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicySpec:
    """`policy_types` empty means Ingress, and Egress too if `egress` has rules."""

    pod_selector: LabelSelector = field(default=LabelSelector(), metadata={"always": True})
    policy_types: tuple[Literal["Ingress", "Egress"], ...] = ()
    ingress: tuple[NetworkPolicyIngressRule, ...] = ()
    egress: tuple[NetworkPolicyEgressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: NetworkPolicySpec = field(default=NetworkPolicySpec(), metadata={"always": True})
    source: Source | None = written_at()


# --- Ingress ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceBackendPort:
    name: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressServiceBackend:
    name: str
    port: ServiceBackendPort = ServiceBackendPort()


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedLocalObjectReference:
    api_group: str | None = None
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressBackend:
    """A Service, or a resource such as a bucket, which the lab does not have: never reachable there."""

    service: IngressServiceBackend | None = None
    resource: TypedLocalObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPIngressPath:
    path: str = ""
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"]
    backend: IngressBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPIngressRuleValue:
    paths: tuple[HTTPIngressPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule:
    host: str = ""
    http: HTTPIngressRuleValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressTLS:
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressSpec:
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = ()
    rules: tuple[IngressRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingress:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: IngressSpec = IngressSpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressClassSpec:
    IGNORED: ClassVar = ("parameters",)

    controller: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressClass:
    metadata: ObjectMeta
    spec: IngressClassSpec = IngressClassSpec()
