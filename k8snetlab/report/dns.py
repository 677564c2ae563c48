"""What a resolver asked, as a table and as JSON."""

from __future__ import annotations

from k8snetlab.flows.walk import Asked, Walk
from k8snetlab.report.table import table


def walk_text(name: str, sender: str, walk: Walk) -> str:
    """The pod's resolv.conf, a line for each question in order, and what came of it."""
    lines = [f"{sender} looks up {name}", *(f"  {line}" for line in walk.resolv_conf.splitlines())]
    rows = [
        (
            str(number),
            asked.name or ".",
            asked.type,
            f"{asked.server} {asked.protocol}",
            _code(asked),
            "-" if asked.ms is None else f"{asked.ms:.2f} ms",
            ", ".join(asked.answers) or "-",
        )
        for number, asked in enumerate(walk.asked, 1)
    ]
    if rows:
        lines.append(table(("#", "QUESTION", "TYPE", "SERVER", "CODE", "TIME", "ANSWER"), rows))
    lost = sum(1 for asked in walk.asked if not asked.answers)
    count = f"{len(rows)} question{'' if len(rows) == 1 else 's'}, {lost} of them in vain, {walk.ms:.1f} ms"
    found = ", ".join(walk.found) if walk.found else f"not found ({walk.reason})"
    return "\n".join([*lines, f"{count}: {found}"])


def _code(asked: Asked) -> str:
    """NODATA is no code of its own: it is NOERROR without an answer (RFC 2308, 2.2)."""
    if asked.ms is None:
        return "no answer"
    if asked.truncated:
        return "truncated"
    return "NODATA" if asked.code == "NOERROR" and not asked.answers else asked.code


def walk_json(name: str, sender: str, kind: str, walk: Walk) -> dict[str, object]:
    """`dns-trace -o json`."""
    return {
        "name": name,
        "from": sender,
        "type": kind,
        "found": list(walk.found),
        "reason": walk.reason,
        "ms": round(walk.ms, 3),
        "queries": [
            {
                "name": asked.name,
                "type": asked.type,
                "server": asked.server,
                "protocol": asked.protocol,
                "at_ms": round(asked.at_ms, 3),
                "code": asked.code,
                "answers": list(asked.answers),
                "ms": None if asked.ms is None else round(asked.ms, 3),
            }
            for asked in walk.asked
        ],
    }
