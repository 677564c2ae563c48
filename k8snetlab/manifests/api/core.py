"""The core/v1 and discovery.k8s.io/v1 kinds the lab understands, named as in k8s.io/api."""

from __future__ import annotations

from dataclasses import field
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import IntOrString, Labels, ObjectMeta, Protocol
from k8snetlab.manifests.api.scheduling import Affinity, Taint, Toleration, TopologySpreadConstraint

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    IGNORED: ClassVar = ("spec", "status")

    metadata: ObjectMeta


# --- Node -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    IGNORED: ClassVar = ("providerID", "configSource", "externalID")

    pod_cidr: str = field(default="", metadata={"key": "podCIDR"})
    pod_cidrs: tuple[str, ...] = field(default=(), metadata={"key": "podCIDRs"})
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()


# --- Pod --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPort:
    """`host_ip` empty means every address of the node."""

    name: str = ""
    container_port: int
    protocol: Protocol = "TCP"
    host_port: int | None = None
    host_ip: str = field(default="", metadata={"key": "hostIP"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPGetAction:
    IGNORED: ClassVar = ("httpHeaders", "host", "scheme")

    path: str = "/"
    port: IntOrString


@dataclass(frozen=True, slots=True, kw_only=True)
class TCPSocketAction:
    IGNORED: ClassVar = ("host",)

    port: IntOrString


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPCAction:
    IGNORED: ClassVar = ("service",)

    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecAction:
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Exactly one of the actions; `exec` runs nothing here."""

    IGNORED: ClassVar = (
        "initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold",
        "terminationGracePeriodSeconds",
    )  # fmt: skip

    exec_: ExecAction | None = field(default=None, metadata={"key": "exec"})
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """`image: host/…` makes `command` and `args` really run, from the host's file system, in the pod's namespaces."""

    IGNORED: ClassVar = (
        "env", "envFrom", "imagePullPolicy", "lifecycle", "resources", "resizePolicy", "restartPolicy",
        "restartPolicyRules", "securityContext", "stdin", "stdinOnce", "terminationMessagePath",
        "terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts", "workingDir",
    )  # fmt: skip

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAlias:
    ip: str
    hostnames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDNSConfigOption:
    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodDNSConfig:
    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[PodDNSConfigOption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReadinessGate:
    condition_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSpec:
    IGNORED: ClassVar = (
        "activeDeadlineSeconds", "automountServiceAccountToken", "enableServiceLinks", "ephemeralContainers",
        "hostIPC", "hostPID", "hostUsers", "hostnameOverride", "imagePullSecrets", "os", "overhead", "preemptionPolicy",
        "priority", "priorityClassName", "resourceClaims", "resources", "runtimeClassName", "schedulerName",
        "schedulingGates", "securityContext", "serviceAccount", "serviceAccountName", "shareProcessNamespace",
        "terminationGracePeriodSeconds", "volumes", "workloadRef",
    )  # fmt: skip

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    node_name: str = ""
    node_selector: Labels = field(default_factory=dict)
    affinity: Affinity | None = None
    tolerations: tuple[Toleration, ...] = ()
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    set_hostname_as_fqdn: bool = field(default=False, metadata={"key": "setHostnameAsFQDN"})
    host_aliases: tuple[HostAlias, ...] = ()
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] = "ClusterFirst"
    dns_config: PodDNSConfig | None = None
    readiness_gates: tuple[PodReadinessGate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """Of a status in a manifest only the phase is looked at: a Failed or Succeeded pod is never an endpoint."""

    IGNORED: ClassVar = (
        "allocatedResources", "conditions", "containerStatuses", "ephemeralContainerStatuses",
        "extendedResourceClaimStatus", "hostIP", "hostIPs", "initContainerStatuses", "message", "nominatedNodeName",
        "observedGeneration", "podIP", "podIPs", "qosClass", "reason", "resize", "resourceClaimStatuses", "resources",
        "startTime",
    )  # fmt: skip

    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    metadata: ObjectMeta
    spec: PodSpec
    status: PodStatus = PodStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplateSpec:
    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec


# --- Service ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """`target_port` None means the same number as `port`; `node_port` 0 means not given."""

    name: str = ""
    protocol: Protocol = field(default="TCP", metadata={"always": True})
    app_protocol: str | None = None
    port: int
    target_port: IntOrString | None = None
    node_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIPConfig:
    timeout_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionAffinityConfig:
    client_ip: ClientIPConfig | None = field(default=None, metadata={"key": "clientIP"})


TrafficPolicy = Literal["Cluster", "Local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """As written, before the API server's defaults; `cluster.services` fills in addresses and ports."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = field(
        default="ClusterIP", metadata={"always": True}
    )
    selector: Labels | None = None
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: str = field(default="", metadata={"key": "clusterIP"})
    cluster_ips: tuple[str, ...] = field(default=(), metadata={"key": "clusterIPs"})
    external_ips: tuple[str, ...] = field(default=(), metadata={"key": "externalIPs"})
    external_name: str = ""
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    load_balancer_ip: str = field(default="", metadata={"key": "loadBalancerIP"})
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None
    external_traffic_policy: TrafficPolicy | None = None
    internal_traffic_policy: TrafficPolicy | None = None
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    traffic_distribution: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortStatus:
    IGNORED: ClassVar = ("error",)

    port: int
    protocol: Protocol = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerIngress:
    ip: str = ""
    ip_mode: Literal["VIP", "Proxy"] | None = None
    hostname: str = ""
    ports: tuple[PortStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerStatus:
    ingress: tuple[LoadBalancerIngress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    IGNORED: ClassVar = ("conditions",)

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


# --- Endpoints and EndpointSlice --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    IGNORED: ClassVar = ("apiVersion", "fieldPath", "resourceVersion", "uid")

    kind: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAddress:
    ip: str
    hostname: str = ""
    node_name: str | None = None
    target_ref: ObjectReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointsPort:
    name: str = ""
    port: int
    protocol: Protocol = "TCP"
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSubset:
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointsPort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    metadata: ObjectMeta
    subsets: tuple[EndpointSubset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConditions:
    """None means unknown: read `ready` and `serving` as true, `terminating` as false (discovery/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForZone:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForNode:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHints:
    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForNode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    """`Endpoint` of discovery/v1; kube-proxy uses only the first address."""

    IGNORED: ClassVar = ("deprecatedTopology",)

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicePort:
    """`EndpointPort` of discovery/v1; a missing name means the empty one, a missing port means all ports."""

    name: str | None = ""
    port: int | None = None
    protocol: Protocol | None = "TCP"
    app_protocol: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    """The Service it belongs to is named by the label `kubernetes.io/service-name`."""

    metadata: ObjectMeta
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()
