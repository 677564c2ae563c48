"""What the commands print for people."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address

import pytest

from k8snetlab.flows.model import Check, Flow, Outcome, Place, Result
from k8snetlab.flows.verdict import judge
from k8snetlab.report.text import check_list, check_table, check_totals, facts_table, probe_text, warning

FLOW = Flow(
    sender=Place(kind="pod", name="api", netns="x"),
    destination=Place(kind="service", name="shop/web"),
    address="10.96.0.5",
    protocol="HTTP",
    port=80,
)
SOURCES = (ip_address("10.244.0.2"), ip_address("10.244.0.1"))
CHECK = Check(type="pod-to-clusterip", name="api to web", flow=FLOW, source="pod", sources=SOURCES, servers=("a/b",))
ANSWERED = Result(outcome="ok", rtt_ms=0.5, server="a/b", source="10.244.0.2")
SILENT = Result(outcome="timeout", reason="no answer within 1 s")
PING = Check(
    type="pod-to-node",
    name="api pings node1",
    flow=Flow(sender=FLOW.sender, destination=Place(kind="node", name="node1"), address="fd00::1", protocol="ICMP"),
)
VERDICTS = [judge(CHECK, ANSWERED), judge(CHECK, SILENT), judge(PING, Result(outcome="ok", rtt_ms=1.0))]


def test_check_table() -> None:
    assert check_table(VERDICTS).splitlines() == [
        "       TYPE               CHECK             PROTOCOL   EXPECTED   OBSERVED   SOURCE SEEN        REASON",
        "ok     pod-to-clusterip   api to web        HTTP       ok         ok         10.244.0.2 (pod)",
        "FAIL   pod-to-clusterip   api to web        HTTP       ok         timeout    -                  "
        "expected ok, got timeout: no answer within 1 s",
        "ok     pod-to-node        api pings node1   ICMP       ok         ok         -",
    ]


def test_wide_adds_where_packets_were_sent() -> None:
    lines = check_table(VERDICTS, wide=True).splitlines()
    assert "ADDRESS" in lines[0]
    assert "10.96.0.5:80" in lines[1]
    assert " fd00::1 " in lines[3]
    six = replace(CHECK, flow=replace(FLOW, address="fd00::5"))
    assert "[fd00::5]:80" in check_table([judge(six, ANSWERED)], wide=True)


def test_colour_only_when_told() -> None:
    painted = check_table(VERDICTS, colour=True)
    assert "\033[32mok\033[0m" in painted
    assert "\033[31mFAIL\033[0m" in painted
    assert re.sub(r"\033\[\d+m", "", painted) == check_table(VERDICTS)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        pytest.param("10.244.0.2", "10.244.0.2 (pod)", id="the sender's own"),
        pytest.param("10.244.0.1", "10.244.0.1", id="right too, at a hairpin, but not the pod's"),
        pytest.param("192.0.2.1", "192.0.2.1", id="wrong"),
        pytest.param("", "-", id="none told"),
    ],
)
def test_whose_address_was_seen(source: str, shown: str) -> None:
    line = check_table([judge(CHECK, replace(ANSWERED, source=source))]).splitlines()[1]
    assert re.split(r"\s{3,}", line)[6] == shown


def test_totals() -> None:
    assert check_totals(VERDICTS) == "2 of 3 checks passed, 1 FAILED"
    assert check_totals(VERDICTS[:1]) == "1 of 1 checks passed"
    assert check_totals([]) == "nothing to check"


def test_check_list() -> None:
    assert check_list([CHECK, PING]).splitlines() == [
        "TYPE               CHECK             PROTOCOL   ADDRESS        EXPECTED   SOURCE",
        "pod-to-clusterip   api to web        HTTP       10.96.0.5:80   ok         pod",
        "pod-to-node        api pings node1   ICMP       fd00::1        ok         any",
    ]


def test_one_try() -> None:
    assert probe_text(FLOW, [ANSWERED]).splitlines() == [
        "pod/api -> svc/shop/web HTTP 10.96.0.5:80",
        "  ok  0.500 ms  answered by a/b  saw 10.244.0.2",
    ]
    assert probe_text(FLOW, [SILENT]).splitlines()[1] == "  timeout  (no answer within 1 s)"


def test_several_tries_are_summed_up() -> None:
    other = replace(ANSWERED, server="a/c", rtt_ms=1.5)
    last = probe_text(FLOW, [other, ANSWERED, ANSWERED, SILENT]).splitlines()[-1]
    assert last == "  4 tries: 3 ok, 1 timeout; median 0.500 ms; answered by a/b x2, a/c x1"
    outcomes: tuple[Outcome, ...] = ("refused", "error")
    last = probe_text(FLOW, [Result(outcome=each) for each in outcomes]).splitlines()[-1]
    assert last == "  2 tries: 1 refused, 1 error"


def test_facts() -> None:
    rows = [
        ("namespaces", True, True, "can be made", "be root"),
        ("nftables", False, True, "nft: not found", "apt install nftables"),
        ("SCTP", False, False, "not in this kernel", ""),
    ]
    assert facts_table(rows).splitlines() == [
        "      FEATURE      DETAIL",
        "yes   namespaces   can be made",
        "NO    nftables     nft: not found; apt install nftables",
        "no    SCTP         not in this kernel",
    ]
    assert re.sub(r"\033\[\d+m", "", facts_table(rows, colour=True)) == facts_table(rows)


def test_warning() -> None:
    assert warning("x") == "warning: x"
    assert warning("x", colour=True) == "\033[33mwarning:\033[0m x"
