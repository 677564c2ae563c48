"""Aligned columns, as kubectl prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GAP = "   "
_COLOURS: Mapping[str, str] = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: Mapping[int, Sequence[str]] | None = None,
    gap: str = GAP,
) -> str:
    """Rows of text under a header; columns are as wide as their widest cell, the last one is not padded.

    `styles` gives for a column's number one colour name a row, empty for none; colour takes no width.
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [_line(header, widths, gap=gap)]
    for number, row in enumerate(rows):
        colours = {column: names[number] for column, names in (styles or {}).items() if names[number]}
        lines.append(_line(row, widths, colours, gap))
    return "\n".join(lines)


def paint(text: str, colour: str) -> str:
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def _line(row: Sequence[str], widths: Sequence[int], colours: Mapping[int, str] | None = None, gap: str = GAP) -> str:
    cells = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        padding = "" if column == len(row) - 1 else " " * (width - len(cell))
        colour = (colours or {}).get(column)
        cells.append((paint(cell, colour) if colour else cell) + padding)
    return gap.join(cells).rstrip()
