"""Whose rule is it? From a line that the kernel refused back to the policy, and the rule in it, that it enforces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.tiers import tiered_policies
from k8snetlab.errors import Source
from k8snetlab.flows.evidence import rule_comment

_COMMENT: Final = re.compile(r'comment "([^"]+)"')


def refused_policy(cluster: Cluster, refused: str) -> tuple[str, Source | None] | None:
    """`NetworkPolicy shop/db ingress[0]` and where that rule is written; None for a line that is no policy's.

    `refused` is the line as a KernelError's `subject` has it; the engines mark each rule by a comment.
    """
    comment = _COMMENT.search(refused)
    if comment is None:
        return None
    return next((found for name, found in _rules(cluster) if rule_comment(name) == comment[1]), None)


def _rules(cluster: Cluster) -> Iterator[tuple[str, tuple[str, Source | None]]]:
    """Every rule, by the name that its comment is made from (`cluster.policies.Rule`)."""
    for policy in cluster.network_policies:
        name = f"{policy.metadata.namespace}/{policy.metadata.name}"
        sources = [(f"ingress[{number}]", rule.source) for number, rule in enumerate(policy.spec.ingress)]
        sources += [(f"egress[{number}]", rule.source) for number, rule in enumerate(policy.spec.egress)]
        for where, source in sources:
            yield f"{name} {where}", (f"NetworkPolicy {name} {where}", source or policy.source)
    for tiered in tiered_policies(cluster):
        for direction, found in (("ingress", tiered.ingress), ("egress", tiered.egress)):
            for each in found:
                where = f"{direction}[{each.index}]"
                source = each.source or tiered.source
                yield f"cluster/{tiered.name} {where}", (f"{tiered.kind} {tiered.name} {where}", source)
