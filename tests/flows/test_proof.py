"""A block counts when both controls held; else it is not proven."""

from __future__ import annotations

import pytest

from k8snetlab.flows.matrix import MatrixOutcome, Pair, Sighting
from k8snetlab.flows.proof import controls, prove

NODE_OF = {"x/a": "node1", "x/b": "node1", "x/c": "node2"}
PAIRS = [
    Pair(sender=s, receiver=r, netns=s, address=r, port=80, endpoint=r, target_port=80)
    for s, r in (("x/a", "x/b"), ("x/a", "x/c"), ("x/b", "x/c"), ("x/c", "x/a"))
]
ALLOWED, DROPPED, ERROR = Sighting("allowed"), Sighting("blocked", "node2: drop ingress"), Sighting("error", "no way")
SEEN = [ALLOWED, DROPPED, DROPPED, ERROR]
EXPECTED: list[MatrixOutcome] = ["allowed", "blocked", "blocked", "allowed"]
CROSS = "node1", "node2"


def test_every_block_is_sent_again_and_every_way_once() -> None:
    found = controls(PAIRS, SEEN, NODE_OF)
    assert found.positive == (1, 2)
    assert found.negative == {CROSS: 1}


def test_no_block_needs_no_control() -> None:
    found = controls(PAIRS, [ALLOWED] * 4, NODE_OF)
    assert (found.positive, found.negative) == ((), {})


@pytest.mark.parametrize(
    ("passed", "denied", "reason"),
    [
        pytest.param(ALLOWED, DROPPED, "", id="both held"),
        pytest.param(ERROR, DROPPED, "it does not pass without the policies either: no way", id="something is broken"),
        pytest.param(
            DROPPED, DROPPED, "it does not pass without the policies either: node2: drop ingress",
            id="something else drops it",
        ),
        pytest.param(
            ALLOWED, ALLOWED, "a planted deny between node1 and node2 is not seen as a block", id="packets go round"
        ),
        pytest.param(
            ALLOWED, ERROR, "a planted deny between node1 and node2 is not seen as a block", id="the prober is blind"
        ),
        pytest.param(None, None, "the controls were not sent", id="no controls"),
    ],
)  # fmt: skip
def test_proof(passed: Sighting | None, denied: Sighting | None, reason: str) -> None:
    cells = prove(
        PAIRS, EXPECTED, SEEN, {1: passed, 2: ALLOWED} if passed else {}, {CROSS: denied} if denied else {}, NODE_OF
    )
    assert [cell.observed for cell in cells] == ["allowed", "blocked", "blocked", "error"]
    assert cells[1].proven == (not reason)
    expected = f"not proven: {reason} (seen: node2: drop ingress)" if reason else "node2: drop ingress"
    assert cells[1].reason == expected
    assert [cell.as_expected for cell in cells] == [True, not reason, cells[2].proven, False]
