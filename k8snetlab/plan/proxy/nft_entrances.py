"""From addresses and ports to a Service port's chains: the elements of sets and maps, the same in both layouts.

Source: kubernetes, pkg/proxy/nftables/proxier.go, syncProxyRules from "Capture the clusterIP" on.
"""

from __future__ import annotations

from k8snetlab.cluster.model import Node
from k8snetlab.plan.proxy.nft_chains import Destinations, ServicePortal, Usable
from k8snetlab.plan.proxy.nft_draft import Draft, addresses_text, host
from k8snetlab.plan.state import IPNetwork


def write_entrances(
    draft: Draft, node: Node, item: ServicePortal, use: Usable, to: Destinations, *, comments: bool
) -> None:
    """The elements of one Service port, and the chain that guards its load balancer's addresses.

    `comments` puts the port's name on all of them; kube-proxy has it only where there are no endpoints.
    """
    portal = item.portal
    comment = portal.name if comments else ""
    protocol, port, node_port = portal.protocol, portal.port.port, portal.port.node_port
    inside = f"{portal.cluster_ip} . {protocol} . {port}"
    outside = [f"{ip} . {protocol} . {port}" for ip in (*portal.external_ips, *portal.load_balancer_ips)]
    draft.element("cluster-ips", portal.cluster_ip)
    if use.internal is None:
        draft.element("service-ips", inside, f"goto {to.internal}", comment)
    else:
        draft.element("no-endpoint-services", inside, use.internal, portal.name)
    if use.any:
        for key in outside:
            draft.element("service-ips", key, f"goto {to.external}", comment)
        if node_port:
            draft.element("service-nodeports", f"{protocol} . {node_port}", f"goto {to.node_port}", comment)
    if use.external is not None:
        # Met by what was not translated: all of it or, with endpoints elsewhere only, what was not short-circuited.
        for key in outside:
            draft.element("no-endpoint-services", key, use.external, portal.name)
        if node_port:
            draft.element("no-endpoint-nodeports", f"{protocol} . {node_port}", use.external, portal.name)
    if portal.load_balancer_ips and portal.source_ranges:
        _write_firewall(draft, node, item, comment)


def _write_firewall(draft: Draft, node: Node, item: ServicePortal, comment: str) -> None:
    """loadBalancerSourceRanges: before translation, so they are about these addresses only, not the node port."""
    portal = item.portal
    chain = f"firewall-{item.base}"
    allowed: list[IPNetwork] = list(portal.source_ranges)
    if any(address in cidr for cidr in allowed for address in node.addresses):
        # A node whose own address is allowed may meet the packet with the balancer's address as its source.
        allowed += [host(ip) for ip in portal.service.load_balancer_ips if ip.version == draft.family]
    draft.chain(chain, (f"{draft.ip} saddr != {addresses_text(allowed)} drop",))
    for ip in portal.load_balancer_ips:
        draft.element("firewall-ips", f"{ip} . {portal.protocol} . {portal.port.port}", f"goto {chain}", comment)
