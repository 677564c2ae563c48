"""The matrix for people and for scripts."""

from __future__ import annotations

from k8snetlab.flows.matrix import Cell, MatrixOutcome, Pair
from k8snetlab.report.matrix import matrix_json, matrix_table, matrix_wide, totals


def cell(sender: str, receiver: str, expected: MatrixOutcome, observed: MatrixOutcome, reason: str = "") -> Cell:
    pair = Pair(
        sender=sender, receiver=receiver, netns="n", address="10.0.0.1", port=80, endpoint="10.0.0.1", target_port=80
    )
    return Cell(pair, expected, observed, reason, proven=not reason.startswith("not proven"))


CELLS = [
    cell("x/a", "x/b", "allowed", "allowed"),
    cell("x/a", "y/c", "blocked", "blocked", "node1: drop ingress"),
    cell("x/b", "x/a", "blocked", "allowed"),
    cell("x/b", "y/c", "blocked", "blocked", "not proven: it does not pass without the policies either"),
    cell("y/c", "x/a", "allowed", "error", "no way to 10.0.0.1: no route to host"),
    cell("y/c", "x/b", "blocked", "blocked", "node2: drop egress"),
]
LINES = [
    "FROM \\ TO   x/a   x/b   y/c",
    "x/a               .     X",
    "x/b         ./X         ?/X",
    "y/c         !/.   X",
    "",
    "x/b -> x/a 10.0.0.1:80: expected blocked, allowed",
    "x/b -> y/c 10.0.0.1:80: expected blocked, not proven (it does not pass without the policies either)",
    "y/c -> x/a 10.0.0.1:80: expected allowed, error (no way to 10.0.0.1: no route to host)",
]


def test_table() -> None:
    assert matrix_table(CELLS).splitlines() == LINES


def test_differences_are_red() -> None:
    painted = matrix_table(CELLS, colour=True)
    assert "\033[31m./X\033[0m" in painted
    assert "\033[31m?/X\033[0m" in painted
    assert painted.count("\033[31m") == 6


def test_nothing_but_ascii() -> None:
    assert matrix_table(CELLS).isascii()


def test_many_receivers_are_numbered() -> None:
    names = [f"namespace/pod-{number:02}" for number in range(20)]
    lines = matrix_table([cell(s, r, "allowed", "allowed") for s in names for r in names if s != r]).splitlines()
    assert lines[0].split() == ["FROM", "\\", "TO", *(str(number) for number in range(1, 21))]
    assert lines[2].startswith("2 namespace/pod-01")
    assert max(len(line) for line in lines) < 118


def test_no_more_differences_in_words_than_a_screen_holds() -> None:
    lines = matrix_table([cell("x/a", f"x/p{n:02}", "blocked", "allowed") for n in range(30)]).splitlines()
    assert lines[-1] == "and 10 more: see -o wide"


def test_wide() -> None:
    lines = matrix_wide(CELLS).splitlines()
    assert lines[0].split() == ["FROM", "TO", "ADDRESS", "EXPECTED", "OBSERVED", "REASON"]
    assert [line.split()[0] for line in lines[1:]] == ["ok", "ok", "DIFFERS", "UNPROVEN", "DIFFERS", "ok"]
    assert "not proven" in lines[4]


def test_json() -> None:
    found = matrix_json("TCP", 0, "pod", CELLS[3:4])
    assert found == {
        "protocol": "TCP",
        "port": None,
        "via": "pod",
        "cells": [
            {
                "from": "x/b",
                "to": "y/c",
                "port": 80,
                "expected": "blocked",
                "observed": "blocked",
                "proven": False,
                "reason": "not proven: it does not pass without the policies either",
            }
        ],
    }
    assert matrix_json("UDP", 53, "service", [])["port"] == 53


def test_totals() -> None:
    assert totals(CELLS) == "6 pairs: 2 allowed, 3 blocked, 1 error; 3 NOT as expected"
    assert totals(CELLS[:2]) == "2 pairs: 1 allowed, 1 blocked; all as expected"
    assert totals([]).startswith("nothing to test")
