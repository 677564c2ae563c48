"""The engine: how many at a time, deadlines, errors, and that nothing is left open."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.flows.model import Result
from k8snetlab.probe.engine import Attempt, Waiting, drive


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


NOTHING: tuple[Waiting, ...] = ()  # to wait for


def instant(reason: str) -> Attempt:
    yield from NOTHING
    return Result(outcome="ok", reason=reason)


def waiting(log: list[str], name: str, seconds: float) -> Attempt:
    """Waits for a pipe that nobody writes to."""
    reader, writer = os.pipe()
    try:
        log.append(f"start {name}")
        ready = yield Waiting(reader, time.monotonic() + seconds)
        log.append(f"end {name}")
        return Result(outcome="ok" if ready else "timeout", reason=name)
    finally:
        os.close(reader)
        os.close(writer)
        log.append(f"close {name}")


def test_none() -> None:
    assert list(drive([], 4)) == []


def test_many_that_end_at_once() -> None:
    ended = dict(drive((instant(str(number)) for number in range(2000)), 3))
    assert [ended[number].reason for number in range(2000)] == [str(number) for number in range(2000)]


def test_goes_on_when_its_file_is_ready(pipe: tuple[int, int]) -> None:
    def attempt() -> Attempt:
        ready = yield Waiting(pipe[0], time.monotonic() + 10)
        return Result(outcome="ok" if ready else "timeout")

    os.write(pipe[1], b"x")
    assert list(drive([attempt()], 1)) == [(0, Result(outcome="ok"))]


def test_goes_on_at_its_deadline_while_others_wait() -> None:
    log: list[str] = []
    ended = list(drive([waiting(log, "long", 0.2), waiting(log, "short", 0.02)], 2))
    assert [(place, result.outcome) for place, result in ended] == [(1, "timeout"), (0, "timeout")]


def test_not_more_at_a_time_than_asked() -> None:
    log: list[str] = []
    list(drive([waiting(log, name, 0.02) for name in "abcde"], 2))
    at_once = most = 0
    for line in log:
        at_once += {"start": 1, "end": -1, "close": 0}[line.split()[0]]
        most = max(most, at_once)
    assert most == 2


def test_errors_are_results() -> None:
    def refused() -> Attempt:
        yield from NOTHING
        raise KernelError("open network namespace", subject="x", reason="no such file")

    def failing() -> Attempt:
        yield from NOTHING
        raise OSError(24, "Too many open files")

    ended = dict(drive([refused(), failing(), instant("fine")], 1))
    assert ended[0] == Result(outcome="error", reason="open network namespace x: no such file")
    assert ended[1] == Result(outcome="error", reason="[Errno 24] Too many open files")
    assert ended[2].outcome == "ok"


def test_a_bug_ends_all_and_lets_go_of_everything() -> None:
    def bug() -> Attempt:
        yield from NOTHING
        raise ZeroDivisionError

    log: list[str] = []
    with pytest.raises(ZeroDivisionError):
        list(drive([waiting(log, "a", 10), bug()], 2))
    assert log == ["start a", "close a"]
