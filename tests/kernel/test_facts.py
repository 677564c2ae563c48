"""What this host can do: found out without touching it, in a fraction of a second."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from k8snetlab.kernel import iptables
from k8snetlab.kernel.facts import Fact, facts


def by_feature() -> dict[str, Fact]:
    found = facts()
    assert len({fact.feature for fact in found}) == len(found)
    return {fact.feature: fact for fact in found}


@pytest.mark.root
def test_every_fact_says_something_and_the_fix_of_what_is_missing() -> None:
    for fact in facts():
        assert fact.detail, fact
        assert fact.ok or fact.fix, fact


@pytest.mark.root
def test_what_these_tests_themselves_need_is_there() -> None:
    found = by_feature()
    for feature in ("root", "network namespaces", "veth", "bridge", "vxlan", "iptables (nf_tables)", "ping", "curl"):
        assert found[feature].ok, found[feature]


@pytest.mark.root
def test_required_facts_come_first() -> None:
    required = [fact.required for fact in facts()]
    assert required == sorted(required, reverse=True)


@pytest.mark.root
def test_the_caller_stays_where_it_is() -> None:
    def places() -> list[Path]:
        return [Path(f"/proc/self/ns/{kind}").readlink() for kind in ("net", "mnt", "user")]

    before, files = places(), len(list(Path("/proc/self/fd").iterdir()))
    facts()
    assert places() == before
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.root
def test_programs_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(iptables, "_SEARCHED", ())
    iptables.program.cache_clear()
    try:
        found = by_feature()
    finally:
        iptables.program.cache_clear()
    assert not found["iptables (nf_tables)"].ok
    assert not found["nftables"].ok
    assert found["nftables"].fix == "sudo apt install nftables"


def test_an_ordinary_user_learns_that_root_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    first = facts()[0]
    assert (first.feature, first.ok, first.required) == ("root", False, True)
    assert "sudo" in first.fix
