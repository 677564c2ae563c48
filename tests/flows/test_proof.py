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
PLANTED = Sighting("blocked", "node1: drop control")
SILENCE = Sighting("blocked", "no answer within 1 s", silent=True)
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
        pytest.param(ALLOWED, PLANTED, "", id="both held"),
        pytest.param(
            ALLOWED, DROPPED, "a planted deny between node1 and node2 is not seen as a block",
            id="the policy itself blocked the control",
        ),
        pytest.param(
            ALLOWED, SILENCE, "a planted deny between node1 and node2 is not seen as a block",
            id="something blocked the control, and nobody knows what",
        ),
        pytest.param(ERROR, PLANTED, "it does not pass without the policies either: no way", id="something is broken"),
        pytest.param(
            DROPPED, PLANTED, "it does not pass without the policies either: node2: drop ingress",
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


def test_what_is_allowed_is_denied_rather_than_what_is_blocked() -> None:
    """Only the planted deny can have blocked it, whether it told or not."""
    seen = [ALLOWED, DROPPED, ALLOWED, ALLOWED]
    assert controls(PAIRS, seen, NODE_OF).negative == {CROSS: 2}
    for denied, proven in ((PLANTED, True), (SILENCE, True), (ALLOWED, False)):
        cells = prove(PAIRS, EXPECTED, seen, {1: ALLOWED}, {CROSS: denied}, NODE_OF)
        assert cells[1].proven is proven
