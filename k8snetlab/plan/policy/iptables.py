"""Policies by iptables and ipsets, laid out as kube-router and Calico's Felix do: sets hold who, rules say what.

    FORWARD -> POLICY-FORWARD -> KUBE-POD-FW-x (the pods under the same policies) -> KUBE-NWPLCY-y (one policy)

A policy's chain does not accept, since that would end the walk before the other direction and kube-proxy have had their
say: it sets a mark, and the pods' chain drops what has none. INPUT and OUTPUT are left alone: a pod and its own node
always reach each other (concepts/services-networking/network-policies; conformance NETPOL 6). All is asked after DNAT,
since a policy is about pods and their ports and never about a Service (NETPOL 8), and only of packets that begin
something: replies and related errors pass (NETPOL 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster, IPNetwork, Node
from k8snetlab.cluster.policies import Match, PolicyRules, Rule, combinations
from k8snetlab.cluster.policy_peers import ALL_PORTS, AddressSet, Block, Direction, PortSet, PortSpan
from k8snetlab.flows.evidence import DROP_GROUP, drop_prefix, rule_comment
from k8snetlab.plan.policy.node import Enforced, blocks_with_exceptions, digest, enforced_on, sets_of
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, IpSet, IpSetEntry, KernelObject

ALLOWED: Final = "0x10000/0x10000"
PASSED: Final = "0x20000/0x20000"
UNDECIDED: Final = "0x0/0x30000"
FORGET: Final = f"-j MARK --set-xmark {UNDECIDED}"
# Untracked are only neighbour discovery and multicast listener reports (nf_conntrack_icmpv6): without them there is no
# IPv6 at all. They belong to the link, and policies are about connections.
UNDER_WAY: Final = (
    '-m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -m comment --comment "replies, and what belongs to them"'
    " -j RETURN"
)
LOCAL_SET: Final = "POLICY-PODS"
SIDE: Final[dict[Direction, str]] = {"ingress": "src", "egress": "dst"}  # the peer's
OWN_SIDE: Final[dict[Direction, str]] = {"ingress": "dst", "egress": "src"}


class IptablesPolicies:
    """The planner of one cluster; `plan.build` asks it node by node, before the proxy and the network."""

    def __init__(self, cluster: Cluster) -> None:
        self.ipvs = cluster.config.proxy_mode == "ipvs"
        self.combinations = combinations(cluster)
        self._written: dict[tuple[str, Family], tuple[str, ...]] = {}  # by chain: it is the same on every node

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:
        """The sets, with their entries."""
        enforced = enforced_on(node, family, self.combinations)
        if not enforced:
            return
        local = dict.fromkeys(str(address) for each in enforced for address in each.addresses)
        yield from _set(node, _name(LOCAL_SET, family), "hash:ip", family, local)
        for each in enforced:
            yield from _set(node, _pods_set(each, family), "hash:ip", family, dict.fromkeys(map(str, each.addresses)))
        for found in sets_of(enforced):
            kind = "hash:ip" if isinstance(found, AddressSet) else "hash:ip,port"
            yield from _set(node, _set_name(found, family), kind, family, dict.fromkeys(_entries(found, family)))
        for block in blocks_with_exceptions(enforced):
            if block.network.version == family:
                entries = dict.fromkeys(_net_entry(network) for network in block.excepts)
                yield from _set(node, _except_name(block, family), "hash:net", family, entries)

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """Nothing on a node without a pod that a policy selects."""
        enforced = enforced_on(node, family, self.combinations)
        if not enforced:
            return
        jump = '-m comment --comment "network policies" -j '
        for hook in ("FORWARD", *(("OUTPUT",) if self.ipvs else ())):
            ruleset.chain("filter", hook).append(f"{jump}POLICY-{hook}")
        ruleset.chain("filter", "POLICY-FORWARD").extend(_forward(enforced, family))
        ruleset.chain("filter", "POLICY-SELF").extend(_itself(enforced))
        if self.ipvs:
            # What IPVS has translated leaves by OUTPUT, as if the node had sent it.
            ruleset.chain("filter", "POLICY-OUTPUT").extend(
                ("-m addrtype --src-type LOCAL -j RETURN", "-j POLICY-FORWARD")
            )
        for each in enforced:
            ruleset.chain("filter", _pods_chain(each)).extend(_pods_rules(each))
            for policy in each.policies:
                chain = ruleset.chain("filter", _policy_chain(policy))
                if not chain:
                    chain.extend(self._rules_of(policy, family))
                    if any(rule.action == "Deny" for rule in policy.rules):
                        prefix = drop_prefix(policy.direction, policy.name.rpartition("/")[2])
                        ruleset.chain("filter", _deny_chain(policy)).extend(_drop(prefix))

    def _rules_of(self, policy: PolicyRules, family: Family) -> tuple[str, ...]:
        key = (_policy_chain(policy), family)
        found = self._written.get(key)
        if found is None:
            found = self._written[key] = tuple(_policy_rules(policy, family))
        return found


def _forward(enforced: tuple[Enforced, ...], family: Family) -> Iterator[str]:
    yield UNDER_WAY
    local = _name(LOCAL_SET, family)
    yield FORGET
    yield f"-m set --match-set {local} src -m set --match-set {local} dst -j POLICY-SELF"
    yield f"-m mark --mark {ALLOWED} -j RETURN"
    # A connection needs both: what the sender's egress and what the receiver's ingress allows (NETPOL 4).
    for direction in ("egress", "ingress"):
        for each in enforced:
            if each.direction == direction:
                side = OWN_SIDE[each.direction]
                yield f"-m set --match-set {_pods_set(each, family)} {side} -j {_pods_chain(each)}"


def _itself(enforced: tuple[Enforced, ...]) -> Iterator[str]:
    """A pod that reaches itself through a Service may (NETPOL 7)."""
    for text in dict.fromkeys(str(address) for each in enforced for address in each.addresses):
        length = 128 if ":" in text else 32
        yield f"-s {text}/{length} -d {text}/{length} -j MARK --set-xmark {ALLOWED}"


def _pods_rules(each: Enforced) -> Iterator[str]:
    """The tiers in their order: Admin, NetworkPolicy, and Baseline where no NetworkPolicy has isolated the pod."""
    combination = each.combination
    yield FORGET
    for policy in combination.admin:
        yield f"-m mark --mark {UNDECIDED} -j {_policy_chain(policy)}"
    if combination.admin:
        yield f"-m mark --mark {ALLOWED} -j RETURN"
        yield FORGET
    for policy in (*combination.network, *combination.baseline):
        yield f"-m mark --mark {UNDECIDED} -j {_policy_chain(policy)}"
    if combination.isolated:
        yield f"-m mark --mark {ALLOWED} -j RETURN"
        yield from _drop(drop_prefix(each.direction))


def _policy_rules(policy: PolicyRules, family: Family) -> Iterator[str]:
    for rule in policy.rules:
        matched = False
        for match in rule.matches:
            words = _match_words(match, policy.direction, family)
            if words is not None:
                matched = True
                comment = f'-m comment --comment "{rule_comment(rule.name)}"'
                yield " ".join((*words, comment, _action(policy, rule)))
        if matched and rule.action != "Deny" and rule is not policy.rules[-1]:
            # Of an admin policy the first rule that matches decides; of a NetworkPolicy any, so the rest is idle.
            yield f"-m mark ! --mark {UNDECIDED} -j RETURN"


def _action(policy: PolicyRules, rule: Rule) -> str:
    if rule.action == "Deny":
        return f"-j {_deny_chain(policy)}"
    return f"-j MARK --set-xmark {ALLOWED if rule.action == 'Accept' else PASSED}"


def _drop(prefix: str) -> Iterator[str]:
    yield f'-j NFLOG --nflog-prefix "{prefix}" --nflog-group {DROP_GROUP}'
    yield "-j DROP"


def _match_words(match: Match, direction: Direction, family: Family) -> list[str] | None:
    """In the order of iptables-save; None when nothing of this family can match."""
    peer, port = match.peer, match.port
    words: list[str] = []
    sets: list[str] = []
    if isinstance(peer, Block):
        if peer.network.version != family:
            return None  # 0.0.0.0/0 is not ::/0 (conformance NETPOL 26)
        if peer.network.prefixlen:
            words.append(f"-{SIDE[direction][0]} {peer.network}")
        if peer.excepts:
            sets.append(f"-m set ! --match-set {_except_name(peer, family)} {SIDE[direction]}")
    elif peer is not None:
        sets.append(f"-m set --match-set {_set_name(peer, family)} {SIDE[direction]}")
    if isinstance(port, PortSpan):
        protocol = port.protocol.lower()
        words.append(f"-p {protocol}")
        if (port.first, port.last) != ALL_PORTS:
            numbers = str(port.first) if port.first == port.last else f"{port.first}:{port.last}"
            sets.append(f"-m {protocol} --dport {numbers}")
    elif port is not None:
        sets.append(f"-m set --match-set {_set_name(port, family)} dst,dst")
    return [*words, *sets]


def _set(node: Node, name: str, kind: str, family: Family, entries: dict[str, None]) -> Iterator[KernelObject]:
    yield IpSet(node.name, name, kind, family)
    for entry in entries:
        yield IpSetEntry(node.name, name, entry)


def _entries(found: AddressSet | PortSet, family: Family) -> Iterator[str]:
    if isinstance(found, AddressSet):
        yield from (str(address) for address in found.addresses if address.version == family)
    else:
        for address, protocol, port in found.entries:
            if address.version == family:
                yield f"{address},{protocol.lower()}:{port}"


def _net_entry(network: IPNetwork) -> str:
    """As ipset prints it: one address without a length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _name(name: str, family: Family) -> str:
    return name if family == 4 else f"{name}6"


def _set_name(found: AddressSet | PortSet, family: Family) -> str:
    return f"{_name('PODS' if isinstance(found, AddressSet) else 'PORTS', family)}-{digest(found.key)}"


def _except_name(block: Block, family: Family) -> str:
    return f"{_name('EXCEPT', family)}-{digest(' '.join(map(str, block.excepts)))}"


def _pods_set(each: Enforced, family: Family) -> str:
    return f"{_name('POD-FW', family)}-{digest(each.combination.key)}"


def _pods_chain(each: Enforced) -> str:
    return f"KUBE-POD-FW-{digest(each.combination.key)}"


def _policy_chain(policy: PolicyRules) -> str:
    return f"KUBE-NWPLCY-{digest(f'{policy.direction} {policy.name}')}"


def _deny_chain(policy: PolicyRules) -> str:
    return f"KUBE-DENY-{digest(f'{policy.direction} {policy.name}')}"
