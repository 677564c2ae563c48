"""Control rules stand at the head of every chain that filters, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

from k8snetlab.plan.controls import control_points
from k8snetlab.plan.state import Family, IptablesChain, NftChain, Plan

HOOK = "type filter hook {} priority 0; policy accept;"


def iptables(node: str, name: str, table: str = "filter", family: Family = 4) -> IptablesChain:
    return IptablesChain(node, family, table, name, "ACCEPT", ("-j ACCEPT",))


def nft(name: str, hook: str, family: Family = 4) -> NftChain:
    return NftChain("node1", family, "policies", name, ("accept",), hook=hook)


def heads(plan: Plan, *families: Family) -> list[tuple[str, Family, str, str]]:
    points = control_points(plan, ("node1", "node2"), families, 100)
    return sorted((point.netns, point.family, point.tool, point.chain) for point in points)


def test_filter_chains_of_the_nodes() -> None:
    plan = Plan((
        iptables("node1", "FORWARD"), iptables("node1", "INPUT"), iptables("node1", "POSTROUTING", "nat"),
        iptables("node1", "KUBE-FORWARD"), iptables("router", "FORWARD"), iptables("node2", "FORWARD"),
    ))  # fmt: skip
    assert heads(plan, 4) == [
        ("node1", 4, "iptables", "FORWARD"), ("node1", 4, "iptables", "INPUT"), ("node2", 4, "iptables", "FORWARD"),
    ]  # fmt: skip


def test_base_chains_of_nftables() -> None:
    plan = Plan((
        nft("policy", HOOK.format("forward")), nft("local", HOOK.format("input")), nft("own", HOOK.format("output")),
        nft("rewrite", "type nat hook prerouting priority -100; policy accept;"), nft("web", ""),
    ))  # fmt: skip
    assert [name for _, _, tool, name in heads(plan, 4) if tool == "nft"] == ["local", "own", "policy"]


def test_every_node_can_deny() -> None:
    assert heads(Plan(()), 4, 6) == [
        (node, family, "iptables", "FORWARD") for node in ("node1", "node2") for family in (4, 6)
    ]


def test_only_the_families_asked_for() -> None:
    plan = Plan(
        (iptables("node1", "FORWARD"), iptables("node1", "FORWARD", family=6), nft("p", HOOK.format("forward"), 6))
    )
    assert {family for _, family, _, _ in heads(plan, 4)} == {4}
    assert ("node1", 6, "nft", "p") in heads(plan, 6)


def test_the_deny_is_logged_before_it_drops() -> None:
    plan = Plan((nft("policy", HOOK.format("forward")),))
    families: tuple[Family, ...] = (4,)
    rules = {point.tool: point.rules for point in control_points(plan, ("node1",), families, 100)}
    assert rules["iptables"] == (
        '-m dscp --dscp 0x2f -m comment --comment "control of the prober" -j NFLOG --nflog-prefix "drop control"'
        " --nflog-group 100",
        '-m dscp --dscp 0x2f -m comment --comment "control of the prober" -j DROP',
        '-m dscp --dscp 0x2b -m comment --comment "control of the prober" -j ACCEPT',
    )
    assert rules["nft"] == (
        'ip dscp 0x2f log prefix "drop control" group 100 drop comment "control of the prober"',
        'ip dscp 0x2b accept comment "control of the prober"',
    )


def test_the_kind_of_iptables_is_the_node_s() -> None:
    legacy = replace(iptables("node1", "POSTROUTING", "nat"), backend="legacy")
    assert heads(Plan((legacy,)), 4) == [
        ("node1", 4, "iptables-legacy", "FORWARD"), ("node2", 4, "iptables", "FORWARD"),
    ]  # fmt: skip
