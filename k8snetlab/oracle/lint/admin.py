"""What is left open, or cannot be held, in policies of the tiers Admin and Baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.tiers import tiered_policies
from k8snetlab.oracle.lint.subject import at
from k8snetlab.oracle.policy_rules import DirectedPolicies, DirectedPolicy


def same_priority(policies: DirectedPolicies) -> Iterator[str]:
    """Two that select the same pod with the same priority: which is asked first, Kubernetes does not say."""
    groups: defaultdict[tuple[str, str, int], list[DirectedPolicy]] = defaultdict(list)
    for policy in policies.all:
        if policy.tier != "NetworkPolicy":
            groups[policy.tier, policy.direction, policy.priority].append(policy)
    told: set[tuple[str, str]] = set()
    for group in groups.values():
        for one, other in combinations(group, 2):
            both, names = one.subjects & other.subjects, (str(one), str(other))
            if both and names not in told:
                told.add(names)
                text = f"both select {min(both)} with priority {one.priority}: which is asked first is not defined"
                yield f"{one} and {other} {text}{at(other.source)}"


def domain_names(cluster: Cluster) -> Iterator[str]:
    """Nobody here watches what names resolve to: such a rule fails closed and matches nothing."""
    for policy in tiered_policies(cluster):
        for rule in policy.egress:
            if any(peer.domain_names for peer in rule.peers):
                text = f"egress[{rule.index}] names domains, which the lab cannot match: they accept nothing"
                yield f"{policy.kind} {policy.name} {text}{at(rule.source)}"
