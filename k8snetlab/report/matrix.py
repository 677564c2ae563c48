"""The matrix as people and scripts read it: one character a pair, in the field's notation."""

from __future__ import annotations

from collections.abc import Sequence

from k8snetlab.flows.matrix import Cell, MatrixOutcome, Via
from k8snetlab.report.table import GAP, paint, table

_SIGNS: dict[MatrixOutcome, str] = {"allowed": ".", "blocked": "X", "error": "!"}
_UNPROVEN = "?"
_SHOWN = 20  # differences in words under a table; `-o wide` has all
_WIDTH = 118


def matrix_table(cells: Sequence[Cell], *, colour: bool = False) -> str:
    """Senders down, receivers across. A cell that is not as expected is `observed/expected`, and said in words below.

    Where the receivers' names would not fit side by side, they are numbered like the rows.
    """
    senders = list(dict.fromkeys(cell.pair.sender for cell in cells))
    receivers = list(dict.fromkeys(cell.pair.receiver for cell in cells))
    order = sorted(dict.fromkeys((*senders, *receivers)))
    found = {(cell.pair.sender, cell.pair.receiver): cell for cell in cells}
    columns = [name for name in order if name in set(receivers)]
    numbered = sum(len(name) + 3 for name in columns) + max(map(len, senders)) > _WIDTH
    numbers = {name: str(number) for number, name in enumerate(order, 1)}
    header = [numbers[name] if numbered else name for name in columns]
    rows, styles = [], []
    for sender in (name for name in order if name in set(senders)):
        row = [found.get((sender, receiver)) for receiver in columns]
        rows.append([f"{numbers[sender]} {sender}" if numbered else sender, *(_sign(cell) for cell in row)])
        styles.append(["", *("red" if cell and not cell.as_expected else "" for cell in row)])
    painted = {column: [style[column] for style in styles] for column in range(1, len(columns) + 1)}
    grid = table(["FROM \\ TO", *header], rows, painted if colour else None, gap=" " if numbered else GAP)
    return "\n".join([grid, *_in_words(cells, colour=colour)])


def matrix_wide(cells: Sequence[Cell], *, colour: bool = False) -> str:
    """A line for each pair."""
    rows = [
        (
            _mark(cell),
            cell.pair.sender,
            cell.pair.receiver,
            _address(cell.pair.address, cell.pair.port),
            cell.expected,
            cell.observed if cell.proven else "not proven",
            cell.reason,
        )
        for cell in cells
    ]
    styles = {0: ["green" if cell.as_expected else "red" for cell in cells]} if colour else None
    return table(("", "FROM", "TO", "ADDRESS", "EXPECTED", "OBSERVED", "REASON"), rows, styles)


def matrix_json(protocol: str, port: int, via: Via, cells: Sequence[Cell]) -> dict[str, object]:
    """`matrix -o json`; `port` is null where each receiver's own was asked. `proven` and `reason` go beyond the
    contract: a block that is not proven is no evidence."""
    return {
        "protocol": protocol,
        "port": port or None,
        "via": via,
        "cells": [
            {
                "from": cell.pair.sender,
                "to": cell.pair.receiver,
                "port": cell.pair.port,
                "expected": cell.expected,
                "observed": cell.observed,
                "proven": cell.proven,
                "reason": cell.reason,
            }
            for cell in cells
        ],
    }


def legend() -> str:
    return ". allowed   X blocked   ! could not run   ? blocked, not proven   observed/expected where they differ"


def totals(cells: Sequence[Cell]) -> str:
    if not cells:
        return "nothing to test: there is no pair of pods with such a port"
    different = sum(1 for cell in cells if not cell.as_expected)
    counts = ", ".join(
        f"{sum(1 for cell in cells if cell.observed == outcome)} {outcome}"
        for outcome in _SIGNS
        if any(cell.observed == outcome for cell in cells)
    )
    verdict = f"{different} NOT as expected" if different else "all as expected"
    return f"{len(cells)} pairs: {counts}; {verdict}"


def _sign(cell: Cell | None) -> str:
    if cell is None:
        return ""
    seen = _SIGNS[cell.observed] if cell.proven else _UNPROVEN
    return seen if cell.as_expected else f"{seen}/{_SIGNS[cell.expected]}"


def _mark(cell: Cell) -> str:
    return "ok" if cell.as_expected else "DIFFERS" if cell.proven else "UNPROVEN"


def _in_words(cells: Sequence[Cell], *, colour: bool) -> list[str]:
    different = [cell for cell in cells if not cell.as_expected]
    lines = []
    for cell in different[:_SHOWN]:
        pair = cell.pair
        seen = cell.observed if cell.proven else "not proven"
        words = (
            f"{pair.sender} -> {pair.receiver} {_address(pair.address, pair.port)}: expected {cell.expected}, {seen}"
        )
        reason = cell.reason.removeprefix("not proven: ")
        lines.append((paint(words, "red") if colour else words) + (f" ({reason})" if reason else ""))
    if len(different) > _SHOWN:
        lines.append(f"and {len(different) - _SHOWN} more: see -o wide")
    return ["", *lines] if lines else []


def _address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
