"""A layout of our own for nftables mode: no chain for a Service, none for an endpoint, only elements of maps.

kube-proxy's layout costs the kernel time that grows with the square of the number of Services, since every anonymous
map is bound by a walk through the whole transaction. Here an endpoint is an element `address . port . slot`, and a rule
draws the slot: one chain for each kind of traffic, protocol and *number* of endpoints serves all Services that have so
many. There is a map for each protocol, since nft 1.0.6 adds no rule to a map whose ports are of no protocol in
particular ("conflicting protocols specified"); node ports have theirs, as a node has more addresses than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def write_frame(draft: Draft) -> None:
    """The set that is there without any Service."""
    draft.set("hairpin", f"typeof {draft.ip} saddr . {draft.ip} daddr", comment="endpoints that reach themselves")


def hairpin_rules(draft: Draft) -> tuple[str, ...]:
    """First in postrouting: a pod that is sent back to itself must see another sender."""
    return (f"ct status dnat {draft.ip} saddr . {draft.ip} daddr @hairpin {MARK}",)


def write_service(draft: Draft, item: ServicePortal, use: Usable, masquerade: Masquerade) -> Destinations:
    """The endpoints of one Service port, and the shared chains that draw among so many."""
    portal = item.portal
    port, node_port = portal.port.port, portal.port.node_port
    internal = external = from_node_port = ""
    if use.internal is None:
        targets = use.local if portal.service.internal_local else use.cluster
        internal = _internal_chain(draft, portal.protocol, len(targets), masquerade)
        _write_endpoints(draft, item, "endpoints", [f"{portal.cluster_ip} . {port}"], targets)
    if use.any and portal.externally_accessible:
        here = use.local if portal.service.external_local else ()
        if keys := [f"{ip} . {port}" for ip in (*portal.external_ips, *portal.load_balancer_ips)]:
            external = _external_chain(draft, item, use, masquerade, "")
            _write_endpoints(draft, item, "endpoints", keys, use.cluster)
            _write_endpoints(draft, item, "local-endpoints", keys, here)
        if node_port:
            from_node_port = _external_chain(draft, item, use, masquerade, "nodeport-")
            _write_endpoints(draft, item, "nodeport-endpoints", [str(node_port)], use.cluster)
            _write_endpoints(draft, item, "nodeport-local-endpoints", [str(node_port)], here)
    for target in use.reachable:
        draft.element("hairpin", f"{target.ip} . {target.ip}")
    return Destinations(internal, external, from_node_port)


def _write_endpoints(
    draft: Draft, item: ServicePortal, kind: str, keys: Iterable[str], targets: Sequence[Target]
) -> None:
    """Endpoints of a kind for each key; the kinds `local-` are for policy Local where both policies are needed."""
    if targets:
        container = _endpoint_map(draft, kind, item.portal.protocol)
        for key in keys:
            for slot, target in enumerate(targets):
                draft.element(container, f"{key} . {slot}", f"{target.ip} . {target.port}", item.portal.name)


def _internal_chain(draft: Draft, protocol: str, count: int, masquerade: Masquerade) -> str:
    """For ClusterIPs: who is no pod is masqueraded, so that the reply comes back through this node."""
    if masquerade.everybody:
        first = [MARK]
    else:
        first = [f"{draft.ip} saddr != {masquerade.pod_cidr} {MARK}"] if masquerade.pod_cidr else []
    return _chain(draft, f"cluster-ip-{protocol}-{count}", [*first, _draw(draft, "endpoints", protocol, count)])


def _external_chain(draft: Draft, item: ServicePortal, use: Usable, masquerade: Masquerade, prefix: str) -> str:
    """For addresses reached from outside, or with the prefix `nodeport-` for node ports."""
    protocol, count, here = item.portal.protocol, len(use.cluster), len(use.local)
    draw = _draw(draft, f"{prefix}endpoints", protocol, count)
    if not item.portal.service.external_local:
        rules = external_rules(draft, item, masquerade, "")
        return _chain(draft, f"{prefix}external-{protocol}-{count}", [*rules, draw])
    everywhere = _chain(draft, f"{prefix}everywhere-{protocol}-{count}", [draw])
    rules = external_rules(draft, item, masquerade, everywhere)
    local = [_draw(draft, f"{prefix}local-endpoints", protocol, here)] if here else []
    return _chain(draft, f"{prefix}external-{protocol}-{count}-local-{here}", [*rules, *local])


def _chain(draft: Draft, name: str, rules: Sequence[str]) -> str:
    """A chain that Services share: what its name says decides what its rules are."""
    draft.chain(name, rules)
    return name


def _draw(draft: Draft, kind: str, protocol: str, count: int) -> str:
    """Translate to one of `count` endpoints, each with equal probability."""
    container = _endpoint_map(draft, kind, protocol)
    return f"dnat {draft.ip} to {_key(draft, kind, protocol)} . numgen random mod {count} map @{container}"


def _endpoint_map(draft: Draft, kind: str, protocol: str) -> str:
    name = f"{kind}-{protocol}"
    # The modulus is no part of the type: any `numgen` says "a number".
    slot, value = "numgen random mod 2", f"{draft.ip} daddr . {protocol} dport"
    draft.set(name, f"typeof {_key(draft, kind, protocol)} . {slot} : {value}", kind="map")
    return name


def _key(draft: Draft, kind: str, protocol: str) -> str:
    return f"{protocol} dport" if kind.startswith("nodeport-") else f"{draft.ip} daddr . {protocol} dport"
