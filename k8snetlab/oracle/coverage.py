"""Which rules of the policies have let something through, from the counters of the rules that enforce them. Pure.

Whoever enforces a rule gives it the rule's name as a comment: `ns/name ingress[0]`, and `cluster/NAME ingress[0]` for
an admin policy. A rule may be enforced by several rules on several nodes; they count together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from k8snetlab.cluster.model import Cluster
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.flows.evidence import rule_comment
from k8snetlab.oracle.policy_rules import DirectedPolicy, Direction, read_policies


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCoverage:
    """One rule: `packets` that began a connection and matched it; None when no rule in the kernel has its name."""

    policy: str
    rule: str
    source: Source | None
    packets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """A selector, or a whole peer, that no pod, node or address of this lab matches."""

    policy: str
    selector: str
    source: Source | None


def cover(cluster: Cluster, packets: Mapping[str, int]) -> tuple[RuleCoverage, ...]:
    """Every rule of every policy; `packets` by comment."""
    return tuple(
        RuleCoverage(
            policy=f"{policy.kind} {policy.name}",
            rule=_rule(policy.direction, rule.index),
            source=rule.source or policy.source,
            packets=packets.get(rule_comment(f"{_name(policy)} {_rule(policy.direction, rule.index)}")),
        )
        for policy in read_policies(cluster).all
        for rule in policy.rules
    )


def unmatched(cluster: Cluster) -> tuple[Unmatched, ...]:
    """Selectors that choose nothing here; networks are not asked, since the world outside is not in the cluster."""
    return tuple(dict.fromkeys(_unmatched(cluster)))


def _unmatched(cluster: Cluster) -> Iterator[Unmatched]:
    for policy in read_policies(cluster).all:
        name = f"{policy.kind} {policy.name}"
        if not policy.subjects:
            key = "podSelector" if policy.kind == "NetworkPolicy" else "subject"
            yield Unmatched(policy=name, selector=f"spec.{key}", source=policy.source)
        for rule in policy.rules:
            for place, peer in enumerate(rule.peers or ()):
                if not (peer.pods or peer.networks or peer.nodes):
                    side = "from" if policy.direction == "ingress" else "to"
                    selector = f"spec.{_rule(policy.direction, rule.index)}.{side}[{place}]"
                    yield Unmatched(policy=name, selector=selector, source=peer.source or rule.source)


def _rule(direction: Direction, index: int) -> str:
    return f"{direction}[{index}]"


def _name(policy: DirectedPolicy) -> str:
    return policy.name if policy.kind == "NetworkPolicy" else f"cluster/{policy.name}"
