"""Hold what the packets did against what was expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Check, Result


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` says why it failed; of a check that passed it is a remark, mostly empty."""

    check: Check
    result: Result
    passed: bool
    reason: str


def judge(check: Check, result: Result) -> Verdict:
    """A check passes when outcome, server and source address are all as expected.

    A probe that could not run fails whatever was expected: it says nothing about the network. One answer is judged by
    itself; asking again (`Check.tries`) is the caller's.
    """
    wrong = _wrong_outcome(check, result)
    if not wrong and result.outcome == "ok":
        wrong = _wrong_server(check, result) or _wrong_source(check, result) or _wrong_records(check, result)
    return Verdict(check, result, not wrong, wrong or _remark(check, result))


def settle(check: Check, verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of those on several tries: an answer by a pod that must not give any decides, then the first answer
    by one of the right servers, right or wrong."""
    for wanted in (check.forbidden, check.servers):
        for verdict in verdicts:
            if verdict.result.server in wanted:
                return verdict
    return verdicts[0]


def _remark(check: Check, result: Result) -> str:
    """A denied one says by what: silence alone says nothing."""
    if result.outcome == "timeout" and check.because:
        return f"{result.reason}: {check.because}" if result.reason else check.because
    return result.reason


def _wrong_outcome(check: Check, result: Result) -> str:
    if result.outcome == "error":
        return result.reason or "the probe could not run"
    if check.status and result.status and result.status != check.status:
        return f"expected HTTP {check.status}, got HTTP {result.status}"
    if check.location and result.status == check.status and result.location != check.location:
        return f"redirected to {result.location or 'nowhere'}, expected {check.location}"
    if result.outcome == check.expected:
        return ""
    because = ", ".join(text for text in (result.reason, check.because if check.expected != "ok" else "") if text)
    return f"expected {check.expected}, got {result.outcome}{f': {because}' if because else ''}"


def _wrong_server(check: Check, result: Result) -> str:
    if result.server in check.forbidden:
        return f"answered by {result.server}, which must not: {check.because}"
    if not check.servers or result.server in check.servers or (not result.server and not _must_tell(check)):
        return ""
    return f"answered by {result.server or 'nobody known'}, expected {' or '.join(check.servers)}"


def _must_tell(check: Check) -> bool:
    """Whether the server is the lab's own, which says who it is and whom it sees: `derive` asks it by HTTP or UDP, and
    a program of the user's by TCP. Nobody knows what a Check document asks."""
    return check.type != "custom" and check.flow.protocol not in ("ICMP", "TCP", "DNS")


def _wrong_source(check: Check, result: Result) -> str:
    if not check.sources or check.flow.protocol == "ICMP":
        return ""
    if not result.source:
        asked_for = check.type == "custom"
        return "the server does not say which address it saw" if asked_for or _must_tell(check) else ""
    if ip_address(result.source) in check.sources:
        return ""
    expected = " or ".join(str(address) for address in check.sources)
    whose = f" ({check.source})" if check.source else ""
    return f"the server saw {result.source}, expected {expected}{whose}"


def _wrong_records(check: Check, result: Result) -> str:
    """In any order, since servers let several addresses take turns; weights are the server's own affair."""
    if not check.records:
        return ""
    found = {_without_weight(record) for record in result.records}
    if found == set(check.records):
        return ""
    lacking, surplus = sorted(set(check.records) - found), sorted(found - set(check.records))
    parts = [f"no {', '.join(lacking)}"] if lacking else []
    parts += [f"not expected: {', '.join(surplus)}"] if surplus else []
    return "; ".join(parts)


def _without_weight(record: str) -> str:
    words = record.split(" ")
    return " ".join((words[0], *words[3:])) if words[0] == "SRV" else record
