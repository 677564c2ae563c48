"""iptables: what is written is read back to the letter, in every form kube-proxy and CNI plugins use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import iptables, netns, processes
from k8snetlab.plan.state import Family, IptablesChain

in_kernel = [pytest.mark.root, pytest.mark.usefixtures("lab", "namespace")]


POSTROUTING = (
    '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    "-s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE",
    "-s 10.244.0.0/16 -o eth0 -j SNAT --to-source 172.18.0.2",
)


def rules() -> Iterator[tuple[Family, str, str]]:
    """The forms of rules in rules.txt: family, table, text."""
    family, table = "", ""
    for line in (Path(__file__).parent / "rules.txt").read_text().splitlines():
        if line.startswith("*"):
            family, table = line[1:].split()
        elif not line.startswith("#"):
            yield (4 if family == "ip" else 6), table, line


@pytest.fixture(name="namespace")
def namespace_fixture(lab: None) -> None:
    with netns.returning():
        os.close(netns.create("n"))


def chain(table: str, name: str, *rules: str, family: Family = 4, policy: str = "") -> IptablesChain:
    return IptablesChain("n", family, table, name, policy, rules)


def touched(family: Family = 4) -> frozenset[IptablesChain]:
    return frozenset(chain for chain in iptables.save("n", family) if not iptables.is_untouched(chain))


class TestInTheKernel:
    pytestmark = in_kernel

    @pytest.mark.parametrize(
        ("family", "table", "rule"),
        [
            pytest.param(family, table, rule, id=f"{family}-{table}-{number}")
            for number, (family, table, rule) in enumerate(rules())
        ],
    )
    def test_a_rule_comes_back_to_the_letter(self, family: Family, table: str, rule: str) -> None:
        chains = (
            chain(table, "CUSTOM", family=family),
            chain(table, "KUBE-MARK-MASQ", family=family),
            chain(table, "MINE", rule, rule, family=family),
        )
        iptables.restore("n", family, chains)
        assert touched(family) == frozenset(chains)

    def test_masquerade_comes_back_to_the_letter(self) -> None:
        written = chain("nat", "POSTROUTING", *POSTROUTING, policy="ACCEPT")
        iptables.restore("n", 4, (written,))
        assert touched() == {written}

    def test_a_rule_that_names_a_set(self) -> None:
        assert processes.run(["ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"], "n").returncode == 0
        written = chain("nat", "MINE", "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT")
        iptables.restore("n", 4, (written,))
        assert touched() == {written}

    def test_only_what_is_named_changes(self) -> None:
        first, second = chain("nat", "A", "-j RETURN"), chain("nat", "B", "-j RETURN")
        forward = chain("filter", "FORWARD", "-j ACCEPT", policy="DROP")
        iptables.restore("n", 4, (first, second, forward))
        changed = chain("nat", "A", "-s 10.0.0.1/32 -j RETURN", "-j ACCEPT")
        iptables.restore("n", 4, (changed,))
        assert touched() == {changed, second, forward}

    def test_a_built_in_chain_is_replaced_not_added_to(self) -> None:
        for policy in ("DROP", "ACCEPT"):
            written = chain("filter", "INPUT", "-p icmp -j ACCEPT", policy=policy)
            iptables.restore("n", 4, (written,))
            assert touched() == {written}

    def test_chains_that_jump_to_each_other_go_together(self) -> None:
        chains = (
            chain("nat", "OUTPUT", "-j A", policy="ACCEPT"),
            chain("nat", "A", "-j B"),
            chain("nat", "B", "-j RETURN"),
        )
        iptables.restore("n", 4, chains)
        iptables.restore("n", 4, (), chains)
        assert touched() == frozenset()

    def test_all_or_nothing(self) -> None:
        good = chain("nat", "A", "-j RETURN")
        iptables.restore("n", 4, (good,))
        with pytest.raises(KernelError, match="no-such-option") as caught:
            iptables.restore("n", 4, (chain("nat", "A", "-j ACCEPT"), chain("nat", "B", "--no-such-option 1")))
        assert caught.value.subject == "-t nat -A B --no-such-option 1"
        assert caught.value.netns == "n"
        assert touched() == {good}

    def test_a_thousand_services_in_one_go(self) -> None:
        services = tuple(chain("nat", f"KUBE-SVC-{i:016}", "-j RETURN") for i in range(1000))
        portal = chain(
            "nat", "KUBE-SERVICES", *(f"-d 10.96.{i >> 8}.{i & 255}/32 -j {s.name}" for i, s in enumerate(services))
        )
        iptables.restore("n", 4, (*services, portal))
        assert touched() == frozenset((*services, portal))

    def test_families_are_apart(self) -> None:
        written = chain("filter", "FORWARD", policy="DROP", family=6)
        iptables.restore("n", 6, (written,))
        assert touched(6) == {written}
        assert touched(4) == frozenset()


def test_text() -> None:
    write = (chain("nat", "OUTPUT", "-j A", policy="ACCEPT"), chain("nat", "A", "-j RETURN"))
    delete = (chain("nat", "OLD", "-j A"), chain("filter", "INPUT", "-j DROP", policy="DROP"))
    assert iptables.restore_text(write, delete).splitlines() == [
        "*nat",
        ":OUTPUT ACCEPT [0:0]",
        ":A - [0:0]",
        ":OLD - [0:0]",
        "-F OUTPUT",
        "-A OUTPUT -j A",
        "-A A -j RETURN",
        "-X OLD",
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT [0:0]",
        "-F INPUT",
        "COMMIT",
    ]


def test_saved_text() -> None:
    saved = b"""# Generated by iptables-nft-save v1.8.9 (nf_tables)
*nat
:OUTPUT ACCEPT [12:720]
:A - [0:0]
:B - [0:0]
-A OUTPUT -m comment --comment "two  words and a :colon" -j A
-A A
-A A -j RETURN
COMMIT
# Completed
*filter
:INPUT DROP [0:0]
COMMIT
"""
    assert iptables.parse_saved("n", 4, processes.Completed(0, saved, b"")) == (
        chain("nat", "OUTPUT", '-m comment --comment "two  words and a :colon" -j A', policy="ACCEPT"),
        chain("nat", "A", "", "-j RETURN"),
        chain("nat", "B"),
        chain("filter", "INPUT", policy="DROP"),
    )


def test_a_failed_save_says_why() -> None:
    with pytest.raises(KernelError, match="Permission denied"):
        iptables.parse_saved("n", 4, processes.Completed(4, b"", b"Permission denied (you must be root)"))


def script(directory: Path, name: str, says: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (directory / name).chmod(0o755)


@pytest.fixture(name="programs")
def programs_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory in which programs are looked for."""
    monkeypatch.setattr(iptables, "_SEARCHED", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    iptables.program.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def _forget() -> object:
    yield
    iptables.program.cache_clear()


def test_the_nf_tables_variant_by_its_own_name_comes_first(programs: Path) -> None:
    script(programs, "iptables-restore", "iptables-restore v1.8.9 (nf_tables)")
    script(programs, "iptables-nft-restore", "iptables-restore v1.8.9 (nf_tables)")
    assert iptables.program(4, "restore") == f"{programs}/iptables-nft-restore"


def test_else_the_plain_name_if_that_is_nf_tables(programs: Path) -> None:
    script(programs, "ip6tables-save", "ip6tables-save v1.8.9 (nf_tables)")
    assert iptables.program(6, "save") == f"{programs}/ip6tables-save"


@pytest.mark.parametrize("says", ["iptables-restore v1.8.9 (legacy)", "iptables-restore v1.6.1"])
def test_the_legacy_variant_will_not_do(programs: Path, says: str) -> None:
    script(programs, "iptables-restore", says)
    with pytest.raises(HostError, match="no nf_tables variant of iptables-restore") as caught:
        iptables.program(4, "restore")
    assert "install iptables" in caught.value.hint
