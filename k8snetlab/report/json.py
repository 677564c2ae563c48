"""The JSON that scripts rely on: keys as the command line's contract has them, nothing renamed, nothing left out."""

from __future__ import annotations

from collections.abc import Sequence

from k8snetlab.flows.model import Check, Flow, Result
from k8snetlab.flows.verdict import Verdict

Json = dict[str, object]


def check_json(lab: str, verdicts: Sequence[Verdict]) -> Json:
    """`check -o json`."""
    failed = sum(1 for verdict in verdicts if not verdict.passed)
    return {
        "lab": lab,
        "passed": len(verdicts) - failed,
        "failed": failed,
        "skipped": 0,  # nothing is ever skipped: what cannot be run has failed
        "checks": [_verdict(verdict) for verdict in verdicts],
    }


def check_list_json(lab: str, checks: Sequence[Check]) -> Json:
    """`check --list -o json`."""
    return {"lab": lab, "checks": [_check(check) for check in checks]}


def probe_json(flow: Flow, results: Sequence[Result]) -> Json:
    """`probe -o json`; one result a try."""
    return {
        "from": str(flow.sender),
        "to": str(flow.destination),
        "protocol": flow.protocol,
        "port": flow.port,
        "results": [
            {
                "outcome": result.outcome,
                "rtt_ms": result.rtt_ms,
                "server": result.server,
                "source": result.source,
                "reason": result.reason,
            }
            for result in results
        ],
    }


def _check(check: Check) -> Json:
    return {
        "type": check.type,
        "name": check.name,
        "from": str(check.flow.sender),
        "to": str(check.flow.destination),
        "protocol": check.flow.protocol,
        "port": check.flow.port,
        "expected": check.expected,
    }


def _verdict(verdict: Verdict) -> Json:
    return {
        **_check(verdict.check),
        "observed": verdict.result.outcome,
        "source": verdict.result.source,
        "passed": verdict.passed,
        "reason": verdict.reason,
    }
