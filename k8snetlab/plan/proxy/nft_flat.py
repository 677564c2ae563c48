"""A layout of our own for nftables mode: no chain for a Service, none for an endpoint, only elements of maps.

kube-proxy's layout costs the kernel time that grows with the square of the number of Services, since every anonymous
map is bound by a walk through the whole transaction. Here an endpoint is an element `address . protocol . port . slot`,
and a rule draws the slot: one chain for each kind of traffic and each *number* of endpoints serves all Services that
have so many. Node ports have maps of their own, as a node has more addresses than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from k8snetlab.plan.proxy.nft_chains import (
    MARK,
    Destinations,
    Masquerade,
    ServicePortal,
    Target,
    Usable,
    external_rules,
)
from k8snetlab.plan.proxy.nft_draft import Draft

# Map, and whether its keys have an address. `local` maps hold the endpoints of policy Local where both are needed.
ENDPOINT_MAPS: Final = (
    ("endpoints", True, "endpoints by service IP, port and slot"),
    ("local-endpoints", True, "endpoints of this node by service IP, port and slot"),
    ("nodeport-endpoints", False, "endpoints by NodePort and slot"),
    ("nodeport-local-endpoints", False, "endpoints of this node by NodePort and slot"),
)
PROTOCOLS: Final = "meta l4proto { tcp, udp, sctp }"  # dnat to a port wants to know that there are ports


def write_frame(draft: Draft) -> None:
    """The maps and the set that are there without any Service."""
    for name, addressed, comment in ENDPOINT_MAPS:
        key = f"{draft.ip} daddr . " if addressed else ""
        # The modulus is no part of the type: any `numgen` says "a number".
        type_ = f"typeof {key}meta l4proto . th dport . numgen random mod 2 : {draft.ip} daddr . th dport"
        draft.set(name, type_, kind="map", comment=comment)
    draft.set("hairpin", f"typeof {draft.ip} saddr . {draft.ip} daddr", comment="endpoints that reach themselves")


def hairpin_rules(draft: Draft) -> tuple[str, ...]:
    """First in postrouting: a pod that is sent back to itself must see another sender."""
    return (f"ct status dnat {draft.ip} saddr . {draft.ip} daddr @hairpin {MARK}",)


def write_service(draft: Draft, item: ServicePortal, use: Usable, masquerade: Masquerade) -> Destinations:
    """The endpoints of one Service port, and the shared chains that draw among so many."""
    portal = item.portal
    service, protocol = portal.service, portal.protocol
    internal = external = node_port = ""
    if use.internal is None:
        targets = use.local if service.internal_local else use.cluster
        internal = _internal_chain(draft, len(targets), masquerade)
        _write_endpoints(
            draft, "endpoints", f"{portal.cluster_ip} . {protocol} . {portal.port.port}", targets, portal.name
        )
    if use.any and portal.externally_accessible:
        here = use.local if service.external_local else ()
        keys = [f"{ip} . {protocol} . {portal.port.port}" for ip in (*portal.external_ips, *portal.load_balancer_ips)]
        if keys:
            external = _external_chain(draft, item, use, masquerade, "")
        for key in keys:
            _write_endpoints(draft, "endpoints", key, use.cluster, portal.name)
            _write_endpoints(draft, "local-endpoints", key, here, portal.name)
        if portal.port.node_port:
            node_port = _external_chain(draft, item, use, masquerade, "nodeport-")
            key = f"{protocol} . {portal.port.node_port}"
            _write_endpoints(draft, "nodeport-endpoints", key, use.cluster, portal.name)
            _write_endpoints(draft, "nodeport-local-endpoints", key, here, portal.name)
    for target in use.reachable:
        draft.element("hairpin", f"{target.ip} . {target.ip}")
    return Destinations(internal, external, node_port)


def _write_endpoints(draft: Draft, container: str, key: str, targets: Sequence[Target], name: str) -> None:
    for slot, target in enumerate(targets):
        draft.element(container, f"{key} . {slot}", f"{target.ip} . {target.port}", name)


def _internal_chain(draft: Draft, count: int, masquerade: Masquerade) -> str:
    """For ClusterIPs: who is no pod is masqueraded, so that the reply comes back through this node."""
    name = f"cluster-ip-{count}"
    if masquerade.everybody:
        first = [MARK]
    else:
        first = [f"{draft.ip} saddr != {masquerade.pod_cidr} {MARK}"] if masquerade.pod_cidr else []
    return _chain_once(draft, name, lambda: [*first, _draw(draft, "endpoints", count)])


def _external_chain(draft: Draft, item: ServicePortal, use: Usable, masquerade: Masquerade, prefix: str) -> str:
    """For addresses reached from outside, or with the prefix `nodeport-` for node ports."""
    count, here = len(use.cluster), len(use.local)
    if not item.portal.service.external_local:
        rules = external_rules(draft, item, masquerade, "")
        return _chain_once(
            draft, f"{prefix}external-{count}", lambda: [*rules, _draw(draft, f"{prefix}endpoints", count)]
        )
    everywhere = _chain_once(draft, f"{prefix}everywhere-{count}", lambda: [_draw(draft, f"{prefix}endpoints", count)])
    rules = external_rules(draft, item, masquerade, everywhere)
    drawn = [_draw(draft, f"{prefix}local-endpoints", here)] if here else []
    return _chain_once(draft, f"{prefix}external-{count}-local-{here}", lambda: [*rules, *drawn])


def _chain_once(draft: Draft, name: str, rules: Callable[[], Sequence[str]]) -> str:
    if not draft.has_chain(name):
        draft.chain(name, rules())
    return name


def _draw(draft: Draft, container: str, count: int) -> str:
    """Translate to one of `count` endpoints, each with equal probability."""
    key = "" if container.startswith("nodeport-") else f"{draft.ip} daddr . "
    return f"{PROTOCOLS} dnat {draft.ip} to {key}meta l4proto . th dport . numgen random mod {count} map @{container}"
