"""Two rules at the head of every filter chain of the nodes, by which a prober proves that a block is a policy's doing.

A packet with the one code point passes by all policies (positive control: the same connection works without them), one
with the other is dropped and logged as a policy's drop is (negative control: the prober sees a block as one). They
stand where packets to, from and through a node are filtered, before whatever engine enforces policies there, and only
while the controls are sent. The code points are of the pool for local use (RFC 2474, section 6): nobody else's traffic
has them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.flows.proof import CONTROL_PREFIX
from k8snetlab.plan.state import Family, IptablesChain, NftChain, Plan

PASS: Final = 0x2B
DENY: Final = 0x2F
COMMENT: Final = "control of the prober"
_HOOKS: Final = ("FORWARD", "INPUT", "OUTPUT")


Tool = Literal["iptables", "iptables-legacy", "nft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPoint:
    """The head of one chain, and the rules to stand there, in the language of its tool."""

    netns: str
    family: Family
    tool: Tool
    table: str
    chain: str
    rules: tuple[str, ...]


def control_points(
    plan: Plan, nodes: Collection[str], families: Collection[Family], group: int
) -> tuple[ControlPoint, ...]:
    """Where the rules belong in the namespaces of the nodes; denied packets are logged to NFLOG's `group`.

    Every node has one in iptables' FORWARD, planned or not: a drop anywhere is final.
    """
    chains = [item for item in plan.objects if isinstance(item, IptablesChain) and item.netns in nodes]
    legacy = {(item.netns, item.family) for item in chains if item.backend == "legacy"}
    wanted = {
        (item.netns, item.family, item.name): None
        for item in chains
        if item.table == "filter" and item.name in _HOOKS and item.family in families
    }
    wanted |= {(node, family, "FORWARD"): None for node in nodes for family in families}
    found = [
        _iptables_point(node, family, "iptables-legacy" if (node, family) in legacy else "iptables", chain, group)
        for node, family, chain in wanted
    ]
    native = [
        ControlPoint(
            netns=item.netns,
            family=item.family,
            tool="nft",
            table=item.table,
            chain=item.name,
            rules=_nft_rules(item.family, group),
        )
        for item in plan.objects
        if isinstance(item, NftChain) and item.netns in nodes and _filters(item)
    ]
    return tuple(point for point in (*found, *native) if point.family in families)


def _filters(chain: NftChain) -> bool:
    return any(chain.hook.startswith(f"type filter hook {hook.lower()} ") for hook in _HOOKS)


def _iptables_point(node: str, family: Family, tool: Tool, chain: str, group: int) -> ControlPoint:
    comment = f'-m comment --comment "{COMMENT}"'
    rules = (
        f'-m dscp --dscp {DENY:#04x} {comment} -j NFLOG --nflog-prefix "{CONTROL_PREFIX}" --nflog-group {group}',
        f"-m dscp --dscp {DENY:#04x} {comment} -j DROP",
        f"-m dscp --dscp {PASS:#04x} {comment} -j ACCEPT",
    )
    return ControlPoint(netns=node, family=family, tool=tool, table="filter", chain=chain, rules=rules)


def _nft_rules(family: Family, group: int) -> tuple[str, ...]:
    field = "ip dscp" if family == 4 else "ip6 dscp"
    return (
        f'{field} {DENY:#04x} log prefix "{CONTROL_PREFIX}" group {group} drop comment "{COMMENT}"',
        f'{field} {PASS:#04x} accept comment "{COMMENT}"',
    )
