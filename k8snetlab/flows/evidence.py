"""Proof that a packet was dropped by a policy: the rule that drops it logs it first.

The enforcing rules hand a copy of each packet that they are about to drop to the kernel's log (NFLOG for iptables, the
`log` statement of nftables) under one group, with a prefix that says which direction forbade it; whoever listens to the
group in the node's namespace sees the packet's addresses and ports within milliseconds. Nobody listening costs nothing.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from k8snetlab.cluster.policy_peers import Direction

DROP_GROUP: Final = 100
LONGEST_PREFIX: Final = 63  # bytes, of NFLOG's --nflog-prefix
LONGEST_COMMENT: Final = 127  # bytes, of a rule's comment in nftables; iptables takes 255


def drop_prefix(direction: Direction, admin_policy: str = "") -> str:
    """`drop ingress` when NetworkPolicies isolate the pod and none allows; an admin policy that denies is named."""
    if admin_policy:
        return f"drop {direction} admin {admin_policy}"[:LONGEST_PREFIX]
    return f"drop {direction}"


def rule_comment(rule: str) -> str:
    """The comment of the rules that enforce `ns/policy ingress[0]`; a longer one is cut, and a hash keeps it unique."""
    if len(rule) <= LONGEST_COMMENT:
        return rule
    digest = sha256(rule.encode()).hexdigest()[:16]
    return f"{rule[: LONGEST_COMMENT - len(digest) - 1]} {digest}"
