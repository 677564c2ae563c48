"""kube-proxy's ipsets in IPVS mode: their names and types, and what each Service port puts into them.

The iptables rules of this mode (`ipvs_rules`) do not grow with Services: they ask these sets. Source: kubernetes 1.33,
pkg/proxy/ipvs/ipset.go and proxier.go, syncProxyRules (conformance 1.16 #3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network
from typing import Final

from k8snetlab.cluster.model import Node
from k8snetlab.plan.proxy.portal import Portal
from k8snetlab.plan.state import Family, IPAddress, IPNetwork, IpSet, IpSetEntry

Entries = dict[str, dict[str, None]]  # by set: an ordered set of entries

# Name, type, and the comment that the rules about the set carry, with quotes as iptables-save prints them.
SETS: Final = (
    ("KUBE-LOOP-BACK", "hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    ("KUBE-CLUSTER-IP", "hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose"),
    ("KUBE-EXTERNAL-IP", "hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose"),
    (
        "KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port",
        "Kubernetes service external ip + port with externalTrafficPolicy=local",
    ),
    ("KUBE-LOAD-BALANCER", "hash:ip,port", "Kubernetes service lb portal"),
    (
        "KUBE-LOAD-BALANCER-FW", "hash:ip,port",
        "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    ),
    (
        "KUBE-LOAD-BALANCER-LOCAL", "hash:ip,port",
        "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    ),
    (
        "KUBE-LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip",
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
    ),
    (
        "KUBE-LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net",
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose",
    ),
    ("KUBE-NODE-PORT-TCP", "bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose"),
    ("KUBE-NODE-PORT-LOCAL-TCP", "bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    ("KUBE-NODE-PORT-UDP", "bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose"),
    ("KUBE-NODE-PORT-LOCAL-UDP", "bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    (
        "KUBE-NODE-PORT-SCTP-HASH", "hash:ip,port",
        "Kubernetes nodeport SCTP port for masquerade purpose with type \\'hash ip:port\\'",
    ),
    (
        "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port",
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type \\'hash ip:port\\'",
    ),
    ("KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port", "Kubernetes health check node port"),
    ("KUBE-IPVS-IPS", "hash:ip", ""),
)  # fmt: skip
COMMENTS: Final = {name: comment for name, _, comment in SETS}
LONGEST_NAME: Final = 31  # IPSET_MAXNAMELEN, less its final zero


def set_name(name: str, family: Family) -> str:
    """A set's name in a family: those of IPv6 stand beside those of IPv4, cut where the kernel's limit is."""
    return name if family == 4 else name.replace("KUBE-", "KUBE-6-", 1)[:LONGEST_NAME]


def sets(node: Node, family: Family, entries: Entries) -> Iterator[IpSet | IpSetEntry]:
    """Every set, also the empty ones, each with its entries."""
    for name, kind, _ in SETS:
        full = set_name(name, family)
        yield IpSet(node.name, full, kind, None if kind == "bitmap:port" else family)
        for entry in entries.get(name, ()):
            yield IpSetEntry(node.name, full, entry)


def collect(
    portals: Iterable[Portal], node: Node, node_port_addresses: Iterable[IPAddress], bound: Iterable[IPAddress]
) -> Entries:
    """What the Service ports of one family put into the sets of a node.

    `bound` are the addresses on kube-ipvs0; `node_port_addresses` those of the node that have node ports.
    """
    entries: Entries = {name: {} for name, _, _ in SETS}
    node_ips = [str(address) for address in node_port_addresses]
    for portal in portals:
        _add_loop_back(entries, portal, node)
        _add_addresses(entries, portal, node)
        if portal.port.node_port and node_ips:
            _add_node_port(entries, portal, node_ips)
        if portal.service.health_check_node_port:
            entries["KUBE-HEALTH-CHECK-NODE-PORT"][str(portal.service.health_check_node_port)] = None
    entries["KUBE-IPVS-IPS"] = dict.fromkeys(str(address) for address in bound)
    return entries


def _add_loop_back(entries: Entries, portal: Portal, node: Node) -> None:
    """A pod that is sent back to itself: only on the node where it is, whatever its state."""
    for endpoint in portal.port.endpoints:
        backend = portal.backends.get((endpoint.ip, endpoint.port))
        if backend is not None and endpoint.node == node.name:
            entry = f"{backend.ip},{portal.protocol}:{endpoint.port},{backend.ip}"
            entries["KUBE-LOOP-BACK"][entry] = None


def _add_addresses(entries: Entries, portal: Portal, node: Node) -> None:
    suffix = f"{portal.protocol}:{portal.port.port}"
    local = portal.service.external_local
    entries["KUBE-CLUSTER-IP"][f"{portal.cluster_ip},{suffix}"] = None
    for ip in portal.external_ips:
        entries["KUBE-EXTERNAL-IP-LOCAL" if local else "KUBE-EXTERNAL-IP"][f"{ip},{suffix}"] = None
    for ip in portal.load_balancer_ips:
        entry = f"{ip},{suffix}"
        entries["KUBE-LOAD-BALANCER"][entry] = None
        if local:
            entries["KUBE-LOAD-BALANCER-LOCAL"][entry] = None
        if not portal.source_ranges:
            continue
        entries["KUBE-LOAD-BALANCER-FW"][entry] = None
        for cidr in portal.source_ranges:
            for net in _net_texts(cidr):
                entries["KUBE-LOAD-BALANCER-SOURCE-CIDR"][f"{entry},{net}"] = None
        if node_allowed(portal, node):
            # The node's own packets have the address on kube-ipvs0 for their source.
            entries["KUBE-LOAD-BALANCER-SOURCE-IP"][f"{entry},{ip}"] = None


def _add_node_port(entries: Entries, portal: Portal, node_ips: list[str]) -> None:
    """TCP and UDP by port alone; for SCTP, whose port the type bitmap:port cannot read, by address and port."""
    number = portal.port.node_port
    if portal.protocol == "sctp":
        name, found = "SCTP-HASH", [f"{ip},sctp:{number}" for ip in node_ips]
    else:
        name, found = portal.protocol.upper(), [str(number)]
    entries[f"KUBE-NODE-PORT-{name}"].update(dict.fromkeys(found))
    if portal.service.external_local:
        entries[f"KUBE-NODE-PORT-LOCAL-{name}"].update(dict.fromkeys(found))


def node_allowed(portal: Portal, node: Node) -> bool:
    """Whether loadBalancerSourceRanges let the node itself in."""
    return any(address in cidr for cidr in portal.source_ranges for address in node.addresses)


def _net_texts(cidr: IPNetwork) -> Iterator[str]:
    """A network as ipset prints it: without a length when it is one address; a set cannot hold /0, so in two halves."""
    if cidr.prefixlen == cidr.max_prefixlen:
        yield str(cidr.network_address)
    elif cidr.prefixlen:
        yield str(cidr)
    elif isinstance(cidr, IPv4Network):
        yield from ("0.0.0.0/1", "128.0.0.0/1")
    else:
        yield from ("::/1", "8000::/1")
