"""Control rules and the reading of rules: what others have in the chains stays, and nothing of ours is left."""

from __future__ import annotations

import os

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.kernel import controls, netns, processes, rules
from k8snetlab.plan.controls import COMMENT, ControlPoint, control_points
from k8snetlab.plan.state import Family, IptablesChain, NftChain, Plan

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab", "node")]

BASE = NftChain("node1", 4, "policies", "forward", (), hook="type filter hook forward priority 0; policy accept;")
SIX = NftChain("node1", 6, "policies", "forward", (), hook="type filter hook forward priority 0; policy accept;")
BY_HAND = '-A FORWARD -s 10.0.0.1/32 -m comment --comment "shop/db ingress[0]" -j DROP'
NFT = """
table ip policies {
  chain forward { type filter hook forward priority 0; policy accept;
    ip saddr 10.0.0.1 counter accept comment "shop/api ingress[0]"
    ip saddr 10.0.0.2 accept
  }
}
table ip6 policies {
  chain forward { type filter hook forward priority 0; policy accept;
    ip6 saddr fd00::1 counter drop comment "shop/api egress[1]"
  }
}
"""


@pytest.fixture
def node(lab: None) -> None:
    with netns.returning():
        os.close(netns.create("node1"))
    sh(f"iptables -w {BY_HAND}")
    done = processes.run(["nft", "-f", "-"], "node1", stdin=NFT.encode())
    assert done.returncode == 0, done.stderr


def sh(command: str, shell: str = "sh") -> str:
    done = processes.run([shell, "-ec", command], "node1")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def everything() -> str:
    return sh("iptables -S; ip6tables -S; nft list table ip policies; nft list table ip6 policies")


def points() -> tuple[ControlPoint, ...]:
    return control_points(Plan((BASE, SIX)), ("node1",), (4, 6), 100)


def read() -> list[rules.KernelRule]:
    with netns.inside("node1"):
        return rules.read("node1")


def test_rules_are_read_with_comment_and_counter() -> None:
    found = [(rule.family, rule.table, rule.chain, rule.comment, rule.packets) for rule in read()]
    assert sorted(found, key=str) == [
        (4, "filter", "FORWARD", "shop/db ingress[0]", 0),
        (4, "policies", "forward", "", None),
        (4, "policies", "forward", "shop/api ingress[0]", 0),
        (6, "policies", "forward", "shop/api egress[1]", 0),
    ]


@pytest.mark.parametrize("iptables", ["iptables", "iptables-legacy"])
def test_what_is_logged_and_then_dropped_counts_once(iptables: str) -> None:
    match = '-A OUTPUT -p udp -m comment --comment "cluster/guard egress[0]"'
    sh(f"nft flush ruleset; {iptables} {match} -j NFLOG --nflog-group 100; {iptables} {match} -j DROP")
    sh("ip link set lo up")
    sh("for n in 1 2 3; do echo > /dev/udp/127.0.0.1/9 || true; done", shell="bash")
    assert rules.packets_by_comment(["node1"]) == {"cluster/guard egress[0]": 3}


def test_planted_at_the_head_and_lifted_without_a_trace() -> None:
    sh("ip6tables -w -A FORWARD -j ACCEPT")
    before = everything()
    controls.plant(points())
    heads = sh("iptables -S FORWARD; nft list chain ip policies forward; nft list chain ip6 policies forward")
    assert heads.count(COMMENT) == 3 + 2 + 2
    assert [line.rpartition(" -j ")[2].split()[0] for line in heads.splitlines() if line.startswith("-A")] == [
        "NFLOG", "DROP", "ACCEPT", "DROP",
    ]  # fmt: skip
    assert [line.split()[2] for line in heads.splitlines() if "ip dscp" in line] == ["0x2f", "0x2b"]
    controls.lift(["node1"])
    assert everything() == before


def test_those_of_a_killed_prober_go_too() -> None:
    sh("ip6tables -w -A FORWARD -j ACCEPT")
    before = everything()
    controls.plant(points())
    controls.plant(points())
    controls.lift(["node1"])
    assert everything() == before
    controls.lift(["node1"])
    assert everything() == before


def test_a_chain_that_is_gone() -> None:
    sh("nft delete table ip6 policies")
    with pytest.raises(KernelError, match="plant control rules in node1"):
        controls.plant(points())


def test_deleting_is_all_or_nothing() -> None:
    rule = next(each for each in read() if each.comment == "shop/api ingress[0]")
    before = everything()
    with netns.inside("node1"):
        with pytest.raises(KernelError, match="delete rules in node1: No such file"):
            rules.delete("node1", [rule, rules.KernelRule("node1", 4, "policies", "forward", 999)])
        assert everything() == before
        rules.delete("node1", [rule])
    assert "shop/api ingress[0]" not in everything()


def test_the_older_kind_of_iptables() -> None:
    """Where a namespace has ip_tables' tables, the rules go there, and stay apart from what was there."""
    sh("nft flush ruleset; iptables-legacy -A FORWARD -s 10.0.0.1 -j DROP")
    sh('iptables-legacy -A FORWARD -s 10.0.0.2 -m comment --comment "shop/db ingress[0]" -j ACCEPT')
    chain = IptablesChain("node1", 4, "filter", "FORWARD", "ACCEPT", (), backend="legacy")
    families: tuple[Family, ...] = (4,)
    before = sh("iptables-legacy-save -t filter | grep ^-A")
    controls.plant(control_points(Plan((chain,)), ("node1",), families, 100))
    planted = sh("iptables-legacy-save -t filter | grep ^-A").splitlines()
    assert [COMMENT in line for line in planted] == [True, True, True, False, False]
    controls.lift(["node1"])
    assert sh("iptables-legacy-save -t filter | grep ^-A") == before
    assert rules.packets_by_comment(["node1"]) == {"shop/db ingress[0]": 0}
    assert sh("nft list tables") == ""
