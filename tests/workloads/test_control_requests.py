"""Requests of the control socket that make trouble: ports that change hands, and lines that make no sense."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.root

GOOD: dict[str, Any] = {
    "netns": "node1",
    "pod": "shop/api",
    "node": "node1",
    "hostname": "api",
    "listeners": [["TCP", 80]],
}
WRONG: dict[str, dict[str, Any]] = {
    "port-too-high": {"listeners": [["TCP", 65536]]},
    "port-zero": {"listeners": [["TCP", 0]]},
    "port-is-text": {"listeners": [["TCP", "80"]]},
    "protocol-unknown": {"listeners": [["ICMP", 80]]},
    "namespace-is-a-path": {"netns": "../node1"},
    "namespace-with-nul": {"netns": "node1\0"},
    "namespace-empty": {"netns": ""},
}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as-listed", "reversed"])
def test_two_pods_of_a_node_can_swap_their_ports(
    namespaces: Any, server: Any, entry: Callable[..., dict[str, Any]], order: tuple[int, int]
) -> None:
    namespaces.add("node1")
    before = [entry("node1", [("TCP", 80)], pod="shop/a"), entry("node1", [("TCP", 81)], pod="shop/b")]
    after = [entry("node1", [("TCP", 81)], pod="shop/a"), entry("node1", [("TCP", 80)], pod="shop/b")]
    assert server.set(*before) == {"errors": []}
    assert server.set(*(after[number] for number in order)) == {"errors": []}
    assert server.listening() == {("node1", "shop/a"): [("TCP", 81)], ("node1", "shop/b"): [("TCP", 80)]}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no json", id="no-json"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"[" * 100_000, id="too-deep"),
        pytest.param(b'{"set": 1}', id="set-is-no-list"),
        pytest.param(b'{"remove": [1]}', id="remove-is-no-pair"),
        *(pytest.param(json.dumps({"set": [{**GOOD, **wrong}]}).encode(), id=name) for name, wrong in WRONG.items()),
    ],
)
def test_a_line_that_makes_no_sense_is_refused_and_changes_nothing(namespaces: Any, server: Any, line: bytes) -> None:
    namespaces.add("node1")
    assert server.set(GOOD) == {"errors": []}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(server.control))
        sock.sendall(line + b"\n")
        with sock.makefile("rb") as answers:
            assert json.loads(answers.readline())["refused"]
    assert server.listening() == {("node1", "shop/api"): [("TCP", 80)]}


def test_a_good_entry_beside_a_bad_one_is_not_carried_out(namespaces: Any, server: Any) -> None:
    namespaces.add("node1")
    assert server.set(GOOD) == {"errors": []}
    moved = GOOD | {"listeners": [["TCP", 81]]}
    assert server.set(moved, GOOD | {"pod": "shop/b", "listeners": [["TCP", -1]]})["refused"]
    assert server.listening() == {("node1", "shop/api"): [("TCP", 80)]}


def test_a_namespace_that_is_not_there_is_an_error_of_its_listeners_only(namespaces: Any, server: Any) -> None:
    namespaces.add("node1")
    lost = GOOD | {"netns": "nowhere", "pod": "shop/lost"}
    error = {"netns": "nowhere", "pod": "shop/lost", "protocol": "TCP", "port": 80, "error": errno.errorcode[2]}
    assert server.set(lost, GOOD) == {"errors": [error]}
    assert server.listening() == {("node1", "shop/api"): [("TCP", 80)]}
