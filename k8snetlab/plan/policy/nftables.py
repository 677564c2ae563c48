"""Policies by nftables: a table of their own, in which a verdict map leads each pod to the rules it is under.

Accepting here ends only this table's look at a packet (each base chain of a hook is asked in turn, nft(8)), so the
rules accept with `return` and need no marks. As with iptables all is asked after DNAT and before kube-proxy's own
checks, and of packets that begin something only. The hooks input and output are left alone: a pod and its own node
always reach each other (NETPOL 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.cluster.policies import Match, PolicyRules, Rule, combinations
from k8snetlab.cluster.policy_peers import ALL_PORTS, AddressSet, Block, Direction, PortSet, PortSpan
from k8snetlab.flows.evidence import DROP_GROUP, drop_prefix, rule_comment
from k8snetlab.plan.policy.node import Enforced, digest, enforced_on, sets_of
from k8snetlab.plan.proxy.nft_draft import Draft
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, IPNetwork, KernelObject

TABLE: Final = "network-policies"
PRIORITY: Final = -1  # after DNAT (-100), before kube-proxy's filter chains (0)
# Untracked are only neighbour discovery and multicast listener reports (nf_conntrack_icmpv6).
UNDER_WAY: Final = "ct state established,related,untracked accept"
SIDE: Final[dict[Direction, str]] = {"ingress": "saddr", "egress": "daddr"}  # the peer's


class NftablesPolicies:
    """The planner of one cluster; `plan.build` asks it node by node."""

    def __init__(self, cluster: Cluster) -> None:
        self.combinations = combinations(cluster)

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """No iptables rules."""

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:
        """The whole table of a node and family; nothing on a node without a pod that a policy selects."""
        enforced = enforced_on(node, family, self.combinations)
        if not enforced:
            return
        draft = Draft(node.name, family, TABLE, "network policies")
        _write_frame(draft, enforced)
        for found in sets_of(enforced):
            ports = isinstance(found, PortSet)
            draft.set(_set_name(found), f"type {draft.address_type}{' . inet_proto . inet_service' if ports else ''}")
            for key in _elements(found, family):
                draft.element(_set_name(found), key)
        for each in enforced:
            _write_combination(draft, each)
        yield from draft.objects()


def _write_frame(draft: Draft, enforced: tuple[Enforced, ...]) -> None:
    ip = draft.ip
    draft.set("itself", f"type {draft.address_type} . {draft.address_type}", comment="pods that reach themselves")
    for name in ("egress", "ingress"):
        draft.set(f"{name}-pods", f"type {draft.address_type} : verdict", kind="map")
    for each in enforced:
        for address in each.addresses:
            draft.element("itself", f"{address} . {address}")
            draft.element(f"{each.direction}-pods", str(address), f"jump {_chain(each)}")
    draft.chain(
        "forward",
        (
            UNDER_WAY,
            f"{ip} saddr . {ip} daddr @itself accept",  # through a Service (conformance NETPOL 7)
            # A connection needs both: what the sender's egress and what the receiver's ingress allows (NETPOL 4).
            f"{ip} saddr vmap @egress-pods",
            f"{ip} daddr vmap @ingress-pods",
        ),
        hook=f"type filter hook forward priority {PRIORITY}; policy accept;",
    )


def _write_combination(draft: Draft, each: Enforced) -> None:
    """Admin policies first; what they pass on, or do not speak of, goes to the chain of the next tier."""
    combination, name = each.combination, _chain(each)
    lower: list[str] = [line for policy in combination.network for line in _policy_rules(draft, policy, "return")]
    if combination.isolated:
        lower.append(_drop(drop_prefix(each.direction)))
    lower += [line for policy in combination.baseline for line in _policy_rules(draft, policy, "return")]
    if not combination.admin:
        draft.chain(name, lower)
        return
    upper = [line for policy in combination.admin for line in _policy_rules(draft, policy, f"goto {name}-next")]
    draft.chain(name, (*upper, f"goto {name}-next"))
    draft.chain(f"{name}-next", lower)


def _policy_rules(draft: Draft, policy: PolicyRules, passed: str) -> Iterator[str]:
    """`passed` is what becomes of a packet that a rule passes on to the next tier."""
    for rule in policy.rules:
        for match in rule.matches:
            words = _match_words(draft, match, policy.direction)
            if words is not None:
                yield " ".join((*words, _action(policy, rule, passed), f'comment "{rule_comment(rule.name)}"'))


def _action(policy: PolicyRules, rule: Rule, passed: str) -> str:
    if rule.action == "Deny":
        return _drop(drop_prefix(policy.direction, policy.name.rpartition("/")[2]))
    return f"counter {'return' if rule.action == 'Accept' else passed}"


def _drop(prefix: str) -> str:
    return f'log prefix "{prefix}" group {DROP_GROUP} counter drop'


def _match_words(draft: Draft, match: Match, direction: Direction) -> list[str] | None:
    """None when nothing of this family can match: 0.0.0.0/0 is not ::/0 (conformance NETPOL 26)."""
    peer, port = match.peer, match.port
    side = f"{draft.ip} {SIDE[direction]}"
    words: list[str] = []
    if isinstance(peer, Block):
        if peer.network.version != draft.family:
            return None
        if peer.network.prefixlen:
            words.append(f"{side} {_net(peer.network)}")
        words += [f"{side} != {_net(network)}" for network in peer.excepts]
    elif peer is not None:
        words.append(f"{side} @{_set_name(peer)}")
    if isinstance(port, PortSpan):
        protocol = port.protocol.lower()
        if (port.first, port.last) == ALL_PORTS:
            words.append(f"meta l4proto {protocol}")
        else:
            numbers = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
            words.append(f"{protocol} dport {numbers}")
    elif port is not None:
        words.append(f"{draft.ip} daddr . meta l4proto . th dport @{_set_name(port)}")
    return words


def _elements(found: AddressSet | PortSet, family: Family) -> Iterator[str]:
    if isinstance(found, AddressSet):
        yield from (str(address) for address in found.addresses if address.version == family)
    else:
        for address, protocol, port in found.entries:
            if address.version == family:
                yield f"{address} . {protocol.lower()} . {port}"


def _net(network: IPNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _set_name(found: AddressSet | PortSet) -> str:
    return f"{'pods' if isinstance(found, AddressSet) else 'ports'}-{digest(found.key)}"


def _chain(each: Enforced) -> str:
    return f"{each.direction}-{digest(each.combination.key)}"
