"""May these two talk? The verdict of NetworkPolicies and admin policies on one connection, and why.

Asked of the connection after its destination has been translated: of the endpoint's pod and port, never of a Service's
address (a policy knows pods, not Services). Replies belong to the connection and are never asked about. A connection
needs the consent of both ends: egress of the source and ingress of the destination.

Each end asks three tiers (network-policy-api): Admin policies, whose first matching rule accepts, denies or passes on;
NetworkPolicies, which if any selects the pod allow what at least one of their rules allows and nothing else; Baseline
policies, asked only when no NetworkPolicy selects the pod. Nobody having said anything, the connection is allowed.

What the specification leaves open is decided here as most implementations do it: a pod always reaches itself; a pod's
own node always reaches it; a pod with hostNetwork is its node; ICMP is matched by rules without ports. A pod always
reaches its own node too, says the documentation (concepts/services-networking/network-policies: "traffic to and from
the node where a Pod is running is always allowed"); the API reference only says it of the other way, and Calico and
Cilium hold egress policies against it. Such a verdict is allowed but `contested`: nobody should promise anything of it.
"""

from __future__ import annotations

from typing import Literal

from k8snetlab.cluster.model import Cluster
from k8snetlab.dataclass import dataclass
from k8snetlab.oracle.parties import Party
from k8snetlab.oracle.policy_rules import (
    DirectedPolicies,
    DirectedPolicy,
    Direction,
    PolicyProtocol,
    Rule,
    Tier,
    read_policies,
)

TIERS: tuple[Tier, ...] = ("Admin", "NetworkPolicy", "Baseline")
Exempt = Literal["", "itself", "own node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one end says. `policy` and `rule` decided; without a rule `isolating` are the NetworkPolicies that select
    the pod (none: nobody has anything against it). `passed` are the rules that passed it on to a later tier."""

    direction: Direction
    subject: Party
    peer: Party
    allowed: bool
    policy: DirectedPolicy | None = None
    rule: Rule | None = None
    isolating: tuple[DirectedPolicy, ...] = ()
    passed: tuple[tuple[DirectedPolicy, Rule], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVerdict:
    """Whether policies let a connection be, with the ruling of each end that is a pod, egress first."""

    source: Party
    destination: Party
    protocol: PolicyProtocol
    port: int
    allowed: bool
    rulings: tuple[Ruling, ...]
    exempt: Exempt = ""
    contested: bool = False


def judge(
    policies: Cluster | DirectedPolicies, source: Party, destination: Party, protocol: PolicyProtocol, port: int
) -> PolicyVerdict:
    """The verdict on a connection; `port` is 0 for ICMP. Who asks often reads the policies once."""
    policies = read_policies(policies) if isinstance(policies, Cluster) else policies
    exempt = _exempt(source, destination)
    rulings: list[Ruling] = []
    if not exempt and source.pod is not None:
        rulings.append(rule_on(policies, "egress", source, destination, protocol, port))
    if not exempt and destination.pod is not None:
        rulings.append(rule_on(policies, "ingress", source, destination, protocol, port))
    leaves = exempt == "own node" and source.pod is not None
    contested = leaves and not rule_on(policies, "egress", source, destination, protocol, port).allowed
    return PolicyVerdict(
        source=source,
        destination=destination,
        protocol=protocol,
        port=port,
        allowed=all(ruling.allowed for ruling in rulings),
        rulings=tuple(rulings),
        exempt=exempt,
        contested=contested,
    )


def consents(
    policies: DirectedPolicies,
    direction: Direction,
    source: Party,
    destination: Party,
    protocol: PolicyProtocol,
    port: int,
) -> bool:
    """Whether one end lets the connection be; who is no pod always does."""
    end = destination if direction == "ingress" else source
    if end.pod is None or _exempt(source, destination):
        return True
    return rule_on(policies, direction, source, destination, protocol, port).allowed


def _exempt(source: Party, destination: Party) -> Exempt:
    """What no policy can forbid: a pod's talk with itself and with its own node, where the kubelet probes it from."""
    if source.pod is not None and destination.pod is not None:
        return "itself" if source.pod.key == destination.pod.key else ""
    return "own node" if source.node and source.node == destination.node else ""


def rule_on(
    policies: DirectedPolicies,
    direction: Direction,
    source: Party,
    destination: Party,
    protocol: PolicyProtocol,
    port: int,
) -> Ruling:
    """What the policies of one end say, which must be a pod: the source for egress, the destination for ingress."""
    subject, peer = (destination, source) if direction == "ingress" else (source, destination)
    assert subject.pod is not None
    selecting = {tier: policies.selecting(direction, subject.pod.key, tier) for tier in TIERS}
    passed: list[tuple[DirectedPolicy, Rule]] = []

    def ruling(allowed: bool, policy: DirectedPolicy | None = None, rule: Rule | None = None) -> Ruling:
        return Ruling(
            direction=direction,
            subject=subject,
            peer=peer,
            allowed=allowed,
            policy=policy,
            rule=rule,
            isolating=selecting["NetworkPolicy"],
            passed=tuple(passed),
        )

    for tier in TIERS:
        found = _first(selecting[tier], peer, destination, protocol, port)
        if found is None:
            # To be selected by a NetworkPolicy is to be isolated: what none of their rules allows is denied, finally.
            if tier == "NetworkPolicy" and selecting[tier]:
                return ruling(allowed=False)
        elif found[1].action == "Pass":
            passed.append(found)
        else:
            return ruling(found[1].action == "Accept", *found)
    return ruling(allowed=True)


def _first(
    policies: tuple[DirectedPolicy, ...], peer: Party, destination: Party, protocol: PolicyProtocol, port: int
) -> tuple[DirectedPolicy, Rule] | None:
    """The first rule that matches, in the order of the policies and of their rules."""
    for policy in policies:
        for rule in policy.rules:
            if rule.matches(peer, destination, protocol, port):
                return policy, rule
    return None
