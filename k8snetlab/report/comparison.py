"""The table and the JSON of `compare`: the same flows under several variants of a lab, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k8snetlab.dataclass import dataclass
from k8snetlab.oracle.comparison import Answer, Question
from k8snetlab.oracle.divergences import Divergence
from k8snetlab.report.table import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the lab. `missing` says why this host cannot, empty when it can; `seconds` is what `up` took."""

    name: str
    network: str
    backend: str
    proxy_mode: str
    seconds: float = 0.0
    missing: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One question with the answer of each variant (by name) that could run, and what a difference comes from."""

    question: Question
    answers: Mapping[str, Answer]
    differs: bool
    divergence: Divergence | None


def comparison_table(variants: Sequence[Variant], rows: Sequence[Compared]) -> str:
    """One line a flow and a column a variant; one that cannot run here has its column all the same."""
    header = ["FROM", "TO", "SERVICE", "PROTOCOL", *(variant.name.upper() for variant in variants), "WHY"]
    lines = [
        [
            row.question.client,
            _destination(row.question),
            row.question.service or "-",
            row.question.flow.protocol,
            *(_cell(row, variant) for variant in variants),
            _why(row),
        ]
        for row in rows
    ]
    return table(header, lines)


def divergences_text(rows: Sequence[Compared]) -> str:
    """What the names in the last column mean, each once: what happens, why, and where that is written."""
    found = dict.fromkeys(row.divergence for row in rows if row.divergence is not None)
    return "\n".join(
        f"{each.name} ({', '.join(each.modes)}): {each.summary}\n    why: {each.reason}\n    source: {each.source}"
        for each in found
    )


def totals(rows: Sequence[Compared]) -> str:
    differing = [row for row in rows if row.differs]
    unexplained = sum(1 for row in differing if row.divergence is None)
    text = f"{len(rows)} flows under each, {len(differing)} of them differ"
    return f"{text}, {unexplained} WITHOUT a documented reason" if unexplained else text


def comparison_json(variants: Sequence[Variant], rows: Sequence[Compared]) -> dict[str, object]:
    """`compare -o json`; `results` has one entry for each variant that could run, in the order of `variants`."""
    return {
        "variants": [
            {
                "name": each.name,
                "network": each.network,
                "backend": each.backend,
                "proxyMode": each.proxy_mode,
                "ran": not each.missing,
                "seconds": each.seconds,
                "reason": each.missing,
                "fix": each.fix,
            }
            for each in variants
        ],
        "differing": sum(1 for row in rows if row.differs),
        "flows": [_row_json(row, variants) for row in rows],
    }


def _row_json(row: Compared, variants: Sequence[Variant]) -> dict[str, object]:
    question, flow = row.question, row.question.flow
    return {
        "client": question.client,
        "destination": question.destination,
        "service": question.service,
        "from": str(flow.sender),
        "address": flow.address,
        "protocol": flow.protocol,
        "port": flow.port,
        "results": [
            {
                "variant": variant.name,
                "outcome": found.result.outcome,
                "source": found.result.source,
                "whose": found.whose,
                "server": found.result.server,
                "reason": found.result.reason,
            }
            for variant in variants
            if (found := row.answers.get(variant.name)) is not None
        ],
        "differs": row.differs,
        "divergence": row.divergence.name if row.divergence else "",
        "reason": row.divergence.reason if row.divergence else "",
        "reference": row.divergence.source if row.divergence else "",
    }


def _destination(question: Question) -> str:
    flow = question.flow
    host = f"[{flow.address}]" if ":" in flow.address and flow.port else flow.address
    return f"{question.destination} {host}:{flow.port}" if flow.port else f"{question.destination} {host}"


def _cell(row: Compared, variant: Variant) -> str:
    found = row.answers.get(variant.name)
    if found is None:
        return "cannot run"
    source = found.result.source
    shown = f"{source} ({found.whose})" if found.whose != source else source
    return f"{found.result.outcome}, sees {shown}" if source else found.result.outcome


def _why(row: Compared) -> str:
    if not row.differs:
        return "-"
    return row.divergence.name if row.divergence else "NOT DOCUMENTED"
