"""Where kube-proxy's modes are documented to differ: what a client of a Service meets in one mode and not in another.

Kubernetes promises the same of every mode but for these. `oracle.services` heeds those that concern the flows of
`check`; `compare` gives them as the reason when the same flow ends differently under two modes.
"""

from __future__ import annotations

from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.lab import ProxyMode


@dataclass(frozen=True, slots=True)
class Divergence:
    """`modes` are those that behave as `summary` says, the others do not; `reason` is the mechanism behind it."""

    name: str
    modes: tuple[ProxyMode, ...]
    summary: str
    reason: str
    source: str


_IPVS_PROXIER: Final = "kubernetes pkg/proxy/ipvs/proxier.go"

LOCALHOST_NODE_PORT: Final = Divergence(
    "localhost-node-port",
    ("iptables",),
    "a process of a node reaches a node port at 127.0.0.1 (IPv4 only; the other modes refuse)",
    "iptables mode sets route_localnet and guards it by a rule in KUBE-FIREWALL; the others never serve the loopback",
    "KEP-3866, section on localhost node ports; kube-proxy --iptables-localhost-nodeports",
)
PING_TO_CLUSTER_IP: Final = Divergence(
    "ping-to-cluster-ip",
    ("ipvs", "nftables"),
    "a ping to a ClusterIP is refused at once; in iptables mode nothing answers",
    "iptables matches only the Service's protocol and port, so the ping is routed away; nftables rejects whatever is"
    " left for a ClusterIP (cluster-ips-check), and in ipvs mode the address is the node's own and KUBE-IPVS-FILTER"
    " rejects",
    "kubernetes pkg/proxy/nftables/README.md; website pull 41002 (ipvs, since 1.27)",
)
UNDEFINED_PORT: Final = Divergence(
    "undefined-port",
    ("ipvs", "nftables"),
    "a port of a ClusterIP that the Service does not have is refused; in iptables mode nothing answers",
    "iptables leaves such packets alone and they follow the default route; nftables rejects them in cluster-ips-check,"
    " ipvs in KUBE-IPVS-FILTER",
    "kubernetes pkg/proxy/nftables/README.md; " + _IPVS_PROXIER,
)
UNALLOCATED_CLUSTER_IP: Final = Divergence(
    "unallocated-cluster-ip",
    ("nftables",),
    "packets to an address of the Service range that no Service has are dropped on the node, not routed away",
    "cluster-ips-check drops what is for the Service CIDR and is no ClusterIP",
    "kubernetes pkg/proxy/nftables/README.md",
)
NO_ENDPOINTS_FROM_NODE: Final = Divergence(
    "no-endpoints-from-node",
    ("ipvs", "nftables"),
    "a process of a node is refused at once by a load balancer or external address whose Service has no endpoints; in"
    " iptables mode its packets leave the node",
    "KUBE-EXTERNAL-SERVICES, where iptables mode rejects them, is looked at in INPUT and FORWARD, not in OUTPUT",
    "kubernetes pkg/proxy/iptables/proxier.go, iptablesJumpChains",
)
LOCAL_WITHOUT_ENDPOINTS: Final = Divergence(
    "local-without-endpoints",
    ("ipvs",),
    "a policy Local without an endpoint on the node uses the endpoints of the whole cluster (or, when the Service is"
    " only internal, refuses) where the other modes drop",
    "the virtual server is filled with all endpoints when there are no local ones, and an empty one refuses; a client"
    " outside still gets no answer, since it is not masqueraded and the endpoint replies past the node",
    _IPVS_PROXIER + ", syncEndpoint (pull 97081)",
)
LOCAL_SHORT_CIRCUIT: Final = Divergence(
    "local-short-circuit",
    ("iptables", "nftables"),
    "with externalTrafficPolicy Local, pods and processes of the node still reach all endpoints by node port, external"
    " or load balancer address; in ipvs mode only those on the node, if it has any",
    "an ipvs virtual server has one list of backends for every client, the others have rules by source address",
    "kubernetes pkg/proxy/iptables/proxier.go (KUBE-EXT chains); " + _IPVS_PROXIER + ", syncEndpoint",
)
AFFINITY_BY_ADDRESS: Final = Divergence(
    "affinity-by-address",
    ("ipvs",),
    "session affinity is kept for each address of a Service apart: by ClusterIP and by node port a client may be sent"
    " to two endpoints",
    "persistence belongs to a virtual server; the other modes remember a client for each Service port",
    _IPVS_PROXIER + "; kubernetes pkg/proxy/nftables/proxier.go (affinity sets)",
)
TURNS: Final = Divergence(
    "turns",
    ("ipvs",),
    "connections are dealt out by the scheduler, in turn unless told otherwise; the other modes choose at random",
    "ipvs keeps a cursor for each virtual server (rr); statistic and numgen throw dice for each connection",
    "kube-proxy --ipvs-scheduler",
)
NODE_ADDRESSES: Final = Divergence(
    "node-port-addresses",
    ("nftables",),
    "without --nodeport-addresses only the node's primary address has node ports; in the other modes every address has",
    "nodeport-ips holds the node's primary address by default",
    "KEP-3866; kubernetes pkg/proxy/util/nodeport_addresses.go",
)
NODE_SOURCE: Final = Divergence(
    "node-source-is-local",
    ("ipvs",),
    "with externalTrafficPolicy Local a process of the node itself is not masqueraded; by a load balancer or external"
    " address its source is that address, and an endpoint on another node cannot answer it",
    "the sets for policy Local return before KUBE-MARK-MASQ for every client, and the address is the node's own on"
    " kube-ipvs0; the other modes mark what comes from an address of the node",
    _IPVS_PROXIER + ", writeIptablesRules (KUBE-NODE-PORT-LOCAL)",
)

DIVERGENCES: Final = (
    LOCALHOST_NODE_PORT,
    PING_TO_CLUSTER_IP,
    UNDEFINED_PORT,
    UNALLOCATED_CLUSTER_IP,
    NO_ENDPOINTS_FROM_NODE,
    LOCAL_WITHOUT_ENDPOINTS,
    LOCAL_SHORT_CIRCUIT,
    AFFINITY_BY_ADDRESS,
    TURNS,
    NODE_ADDRESSES,
    NODE_SOURCE,
)
