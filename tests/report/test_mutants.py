"""Mutants and coverage for people and for scripts."""

from __future__ import annotations

from k8snetlab.errors import Source
from k8snetlab.flows.trial import Trial
from k8snetlab.oracle.coverage import RuleCoverage, Unmatched
from k8snetlab.report.coverage import coverage_json, coverage_table, coverage_totals, percent
from k8snetlab.report.mutants import mutants_json, mutants_table, mutants_totals

SOURCE = Source("p.yaml", 7)
KILLED = Trial(
    policy="x/p", part="spec", change="policy dropped", source=SOURCE, fate="killed", by="check a", milliseconds=40.04
)
SURVIVED = Trial(
    policy="x/p",
    part="spec.ingress[0]",
    change="rule dropped",
    source=SOURCE,
    fate="survived",
    witness="pod/x/a -> pod/x/b TCP 80: now blocked",
    milliseconds=20,
)
EQUAL = Trial(policy="x/p", part="spec", change="cidr widened", source=None, fate="equivalent")
RULES = [
    RuleCoverage(policy="NetworkPolicy x/p", rule="ingress[0]", source=SOURCE, packets=3),
    RuleCoverage(policy="NetworkPolicy x/p", rule="egress[0]", source=SOURCE, packets=0),
    RuleCoverage(policy="NetworkPolicy x/q", rule="ingress[0]", source=None, packets=None),
]
NOTHING = [Unmatched(policy="NetworkPolicy x/q", selector="spec.podSelector", source=SOURCE)]


def test_survivors_alone_are_shown_until_more_is_asked_for() -> None:
    assert mutants_table([KILLED, SURVIVED, EQUAL]).splitlines() == [
        "FATE       POLICY   PART              CHANGE         SOURCE",
        "survived   x/p      spec.ingress[0]   rule dropped   p.yaml:7   "
        "not checked: pod/x/a -> pod/x/b TCP 80: now blocked",
    ]
    assert len(mutants_table([KILLED, SURVIVED, EQUAL], wide=True).splitlines()) == 4
    assert "killed   x/p" in mutants_table([KILLED])
    assert "\033[31msurvived" in mutants_table([SURVIVED], colour=True)


def test_totals_of_mutants() -> None:
    assert mutants_totals([KILLED, SURVIVED, EQUAL]) == (
        "3 mutants: 1 killed, 1 survived, 1 equivalent; 30 ms to apply one"
    )
    assert mutants_totals([]) == "no policy to change"


def test_mutants_as_json() -> None:
    found = mutants_json("shop", [KILLED, EQUAL])
    assert {key: value for key, value in found.items() if key != "mutants"} == {
        "lab": "shop", "killed": 1, "survived": 0, "equivalent": 1, "error": 0,
    }  # fmt: skip
    assert found["mutants"] == [
        {
            "policy": "x/p", "part": "spec", "change": "policy dropped", "source": "p.yaml:7", "fate": "killed",
            "by": "check a", "witness": None, "milliseconds": 40.0,
        },
        {
            "policy": "x/p", "part": "spec", "change": "cidr widened", "source": None, "fate": "equivalent",
            "by": None, "witness": None, "milliseconds": 0.0,
        },
    ]  # fmt: skip


def test_coverage() -> None:
    assert coverage_table(RULES, NOTHING).splitlines() == [
        "               POLICY              RULE         CONNECTIONS   SOURCE",
        "hit            NetworkPolicy x/p   ingress[0]   3             p.yaml:7",
        "NEVER HIT      NetworkPolicy x/p   egress[0]    0             p.yaml:7",
        "NOT ENFORCED   NetworkPolicy x/q   ingress[0]   -             -",
        "",
        "SELECTS NOTHING     SELECTOR           SOURCE",
        "NetworkPolicy x/q   spec.podSelector   p.yaml:7",
    ]
    assert coverage_totals(RULES) == "1 of 3 rules hit (33 %); 1 NOT enforced"
    assert coverage_totals(RULES[:1]) == "1 of 1 rules hit (100 %)"
    assert coverage_totals([]) == "no policy has a rule"
    assert percent([]) == 100


def test_coverage_as_json() -> None:
    found = coverage_json("shop", RULES, NOTHING)
    assert (found["lab"], found["covered"], found["total"]) == ("shop", 1, 3)
    assert found["rules"] == [
        {"policy": "NetworkPolicy x/p", "rule": "ingress[0]", "source": "p.yaml:7", "hits": 3},
        {"policy": "NetworkPolicy x/p", "rule": "egress[0]", "source": "p.yaml:7", "hits": 0},
        {"policy": "NetworkPolicy x/q", "rule": "ingress[0]", "source": None, "hits": None},
    ]
    assert found["unmatched"] == [{"policy": "NetworkPolicy x/q", "selector": "spec.podSelector", "source": "p.yaml:7"}]
