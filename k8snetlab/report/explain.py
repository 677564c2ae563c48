"""`explain`: the reasoning on one flow, beside what its packet did."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.flows.model import Flow, Result
from k8snetlab.oracle.explanation import Explanation, Judgement, agrees
from k8snetlab.oracle.reasons import Step, reason
from k8snetlab.report.table import paint

Json = dict[str, object]

_VERDICTS = {
    "allowed": "allowed",
    "denied": "denied",
    "some": "some endpoints are allowed, some denied",
    "open": "not decided by Kubernetes' rules",
}
_AGREES = {True: "as the policies say", False: "NOT as the policies say", None: "the policies do not say which"}


def explain_text(flow: Flow, explanation: Explanation, result: Result | None, *, colour: bool = False) -> str:
    """Each step on a line of its own, one block a pod or endpoint, then the verdict and the packet."""
    port = f" {flow.port}" if flow.port else ""
    lines = [f"{flow.sender} -> {flow.destination} {flow.protocol}{port}"]
    if explanation.translated:
        lines.append(explanation.translated)
    for judgement in explanation.judgements:
        lines += ["", *_judgement_lines(judgement)]
    lines += ["", f"policies: {_painted(explanation, colour=colour)}"]
    if result is not None:
        who = f" by {result.server}" if result.server else ""
        lines.append(f"packet:   {result.outcome}{who}{f' ({result.reason})' if result.reason else ''}")
        lines.append(f"          {_AGREES[agrees(explanation, result)]}")
    return "\n".join(lines)


def _painted(explanation: Explanation, *, colour: bool) -> str:
    shade = {"allowed": "green", "denied": "red"}.get(explanation.expected, "yellow")
    word = _VERDICTS[explanation.expected]
    text = paint(word, shade) if colour else word
    return f"{text}: {explanation.reason}" if explanation.judgements else text


def _judgement_lines(judgement: Judgement) -> Iterator[str]:
    address = f"[{judgement.address}]" if judgement.address.version == 6 else judgement.address
    port = f" {judgement.verdict.protocol} {judgement.port}" if judgement.port else " ICMP"
    name = f"{judgement.destination} ({address})" if judgement.destination != str(judgement.address) else address
    yield f"to {name}{port}"
    direction = None
    for step in judgement.steps:
        if step.direction != direction and step.direction is not None:
            subject = judgement.verdict.source if step.direction == "egress" else judgement.verdict.destination
            yield f"  {step.direction} of {subject}"
        direction = step.direction
        yield f"  {'  ' if step.direction else ''}{'  ' if step.rule else ''}{step.text}{_where(step)}"


def _where(step: Step) -> str:
    return f" ({step.source})" if step.source is not None else ""


def explain_json(flow: Flow, explanation: Explanation, result: Result | None) -> Json:
    """`explain -o json`. `observed` is null when no packet was sent, `agrees` when nothing can be said of it."""
    return {
        "from": str(flow.sender),
        "to": str(flow.destination),
        "protocol": flow.protocol,
        "port": flow.port,
        "expected": explanation.expected,
        "reason": explanation.reason,
        "destinations": [_judgement(judgement) for judgement in explanation.judgements],
        "observed": None if result is None else result.outcome,
        "observed_reason": "" if result is None else result.reason,
        "server": "" if result is None else result.server,
        "agrees": None if result is None else agrees(explanation, result),
    }


def _judgement(judgement: Judgement) -> Json:
    return {
        "destination": judgement.destination,
        "address": str(judgement.address),
        "port": judgement.port,
        "allowed": judgement.allowed,
        "reason": reason(judgement.verdict),
        "steps": [
            {
                "direction": step.direction,
                "policy": step.policy,
                "rule": step.rule,
                "source": "" if step.source is None else str(step.source),
                "matched": step.matched,
                "text": step.text,
            }
            for step in judgement.steps
        ],
    }
