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
from k8snetlab.oracle.statutes import Direction, Statute, read_statutes


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
            policy=f"{statute.kind} {statute.name}",
            rule=_rule(statute.direction, rule.index),
            source=rule.source or statute.source,
            packets=packets.get(rule_comment(f"{_name(statute)} {_rule(statute.direction, rule.index)}")),
        )
        for statute in read_statutes(cluster).all
        for rule in statute.rules
    )


def unmatched(cluster: Cluster) -> tuple[Unmatched, ...]:
    """Selectors that choose nothing here; networks are not asked, since the world outside is not in the cluster."""
    return tuple(dict.fromkeys(_unmatched(cluster)))


def _unmatched(cluster: Cluster) -> Iterator[Unmatched]:
    for statute in read_statutes(cluster).all:
        policy = f"{statute.kind} {statute.name}"
        if not statute.subjects:
            key = "podSelector" if statute.kind == "NetworkPolicy" else "subject"
            yield Unmatched(policy=policy, selector=f"spec.{key}", source=statute.source)
        for rule in statute.rules:
            for place, peer in enumerate(rule.peers or ()):
                if not (peer.pods or peer.networks or peer.nodes):
                    side = "from" if statute.direction == "ingress" else "to"
                    selector = f"spec.{_rule(statute.direction, rule.index)}.{side}[{place}]"
                    yield Unmatched(policy=policy, selector=selector, source=peer.source or rule.source)


def _rule(direction: Direction, index: int) -> str:
    return f"{direction}[{index}]"


def _name(statute: Statute) -> str:
    return statute.name if statute.kind == "NetworkPolicy" else f"cluster/{statute.name}"
