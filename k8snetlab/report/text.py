"""What the commands print for people."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from k8snetlab.flows.model import Check, Flow, Result
from k8snetlab.flows.verdict import Verdict
from k8snetlab.report.table import paint, table

FactRow = tuple[str, bool, bool, str, str]  # feature, ok, required, detail, fix


def check_table(verdicts: Sequence[Verdict], *, wide: bool = False, colour: bool = False) -> str:
    """One line a check; with `wide` also the address and port that packets were sent to."""
    header = ["", "TYPE", "CHECK", "PROTOCOL", "EXPECTED", "OBSERVED", "SOURCE SEEN", "REASON"]
    if wide:
        header.insert(4, "ADDRESS")
    rows = []
    for verdict in verdicts:
        check, result = verdict.check, verdict.result
        row = [
            "ok" if verdict.passed else "FAIL",
            check.type,
            check.name,
            check.flow.protocol,
            check.expected,
            result.outcome,
            _seen(check, result),
            verdict.reason,
        ]
        if wide:
            row.insert(4, _address(check.flow))
        rows.append(row)
    styles = {0: ["green" if verdict.passed else "red" for verdict in verdicts]} if colour else None
    return table(header, rows, styles)


def check_totals(verdicts: Sequence[Verdict]) -> str:
    failed = sum(1 for verdict in verdicts if not verdict.passed)
    if not verdicts:
        return "nothing to check"
    return f"{len(verdicts) - failed} of {len(verdicts)} checks passed" + (f", {failed} FAILED" if failed else "")


def check_list(checks: Sequence[Check]) -> str:
    rows = [(c.type, c.name, c.flow.protocol, _address(c.flow), c.expected, c.source or "any") for c in checks]
    return table(("TYPE", "CHECK", "PROTOCOL", "ADDRESS", "EXPECTED", "SOURCE"), rows)


def probe_text(flow: Flow, results: Sequence[Result]) -> str:
    """Each try on a line of its own, and what they come to when there are several."""
    where = f"{flow.sender} -> {flow.destination} {flow.protocol} {_address(flow)}"
    lines = [where, *(f"  {_result_line(result)}" for result in results)]
    if len(results) > 1:
        lines.append(f"  {_totals(results)}")
    return "\n".join(lines)


def facts_table(rows: Sequence[FactRow], *, colour: bool = False) -> str:
    """One line a feature: whether this host has it, and if not the fix. `NO` is needed by every lab, `no` by some."""
    words = ["yes" if ok else "NO" if required else "no" for _, ok, required, _, _ in rows]
    cells = [
        (word, feature, detail if ok else f"{detail}; {fix}" if fix else detail)
        for word, (feature, ok, _, detail, fix) in zip(words, rows, strict=True)
    ]
    shades = {"yes": "green", "NO": "red", "no": "yellow"}
    return table(("", "FEATURE", "DETAIL"), cells, {0: [shades[word] for word in words]} if colour else None)


def warning(text: str, *, colour: bool = False) -> str:
    return f"{paint('warning:', 'yellow') if colour else 'warning:'} {text}"


def _address(flow: Flow) -> str:
    host = f"[{flow.address}]" if ":" in flow.address and flow.port else flow.address
    return f"{host}:{flow.port}" if flow.port else host


def _seen(check: Check, result: Result) -> str:
    """The client address that the server saw, and whose it is when that is as expected."""
    if not result.source:
        return "-"
    own = {"pod": check.sources[:1], "client": check.sources[:1], "node": check.sources}
    right = check.source is not None and any(str(address) == result.source for address in own[check.source])
    return f"{result.source} ({check.source})" if right else result.source


def _result_line(result: Result) -> str:
    parts: list[str] = [result.outcome]
    if result.rtt_ms is not None:
        parts.append(f"{result.rtt_ms:.3f} ms")
    if result.server:
        parts.append(f"answered by {result.server}")
    if result.source:
        parts.append(f"saw {result.source}")
    if result.reason:
        parts.append(f"({result.reason})")
    return "  ".join(parts)


def _totals(results: Sequence[Result]) -> str:
    times = [result.rtt_ms for result in results if result.rtt_ms is not None]
    outcomes = dict.fromkeys(result.outcome for result in results)
    counts = ", ".join(f"{sum(r.outcome == outcome for r in results)} {outcome}" for outcome in outcomes)
    servers = {
        server: sum(r.server == server for r in results) for server in sorted({r.server for r in results} - {""})
    }
    parts = [f"{len(results)} tries: {counts}"]
    if times:
        parts.append(f"median {median(times):.3f} ms")
    if servers:
        parts.append("answered by " + ", ".join(f"{server} x{number}" for server, number in servers.items()))
    return "; ".join(parts)
