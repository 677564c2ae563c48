"""Aligned columns, with and without colour."""

from __future__ import annotations

import re

import pytest

from k8snetlab.report.table import paint, table

ROWS = (("a", "long cell", ""), ("longer", "b", "end"))


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("X", "Y", "LAST"), ROWS) == "\n".join(
        [
            "X        Y           LAST",
            "a        long cell",
            "longer   b           end",
        ]
    )


def test_no_rows() -> None:
    assert table(("NAME", "AGE"), []) == "NAME   AGE"


def test_colour_takes_no_width() -> None:
    plain = table(("X", "Y", "LAST"), ROWS)
    painted = table(("X", "Y", "LAST"), ROWS, {0: ["green", ""], 2: ["", "red"]})
    assert painted != plain
    assert re.sub(r"\033\[\d+m", "", painted) == plain
    assert painted.splitlines()[1].startswith("\033[32ma\033[0m ")


def test_a_row_of_another_length_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(("X", "Y"), [("a", "b", "c")])


def test_paint_ends_what_it_begins() -> None:
    assert paint("x", "bold") == "\033[1mx\033[0m"
