"""One writer a lab."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from k8snetlab.errors import LabError, UsageError
from k8snetlab.lab.lock import locked


def _hold(name: str, ready: int, word: tuple[int, int]) -> None:
    """Own the lock until `word` says something or has no other end."""
    os.close(word[1])
    with locked(name):
        os.write(ready, b"x")
        os.read(word[0], 1)


@contextmanager
def another_process_holds(name: str, fork: Callable[..., int]) -> Iterator[int]:
    """A child that owns the lock until it is told to let go; yields its pid."""
    ready, word = os.pipe(), os.pipe()
    child = fork(_hold, name, ready[1], word)
    os.close(word[0])
    os.read(ready[0], 1)
    try:
        yield child
    finally:
        for fd in (*ready, word[1]):
            os.close(fd)
        os.waitpid(child, 0)


def test_leaves_no_file(run_dir: Path) -> None:
    with locked("a"):
        assert (run_dir / "a/lock").read_text() == str(os.getpid())
    assert list(run_dir.iterdir()) == []


def test_a_second_one_is_refused_and_told_whom_it_waits_for(fork: Callable[..., int]) -> None:
    told: list[int] = []
    with another_process_holds("a", fork) as owner:
        with (
            pytest.raises(LabError, match=f"being changed by process {owner}"),
            locked("a", wait=0.05, on_wait=told.append),
        ):
            pass
        assert told == [owner]


def test_a_second_one_waits(run_dir: Path, fork: Callable[..., int]) -> None:
    """The owner lets go only when the other has begun to wait; it then also removes the directory."""
    with another_process_holds("a", fork) as owner:
        with locked("a", wait=10, on_wait=lambda pid: os.kill(pid, signal.SIGKILL)):
            assert (run_dir / "a/lock").read_text() == str(os.getpid())
        assert owner > 0
    assert list(run_dir.iterdir()) == []


def test_waiting_on_a_lock_file_that_is_removed_means_taking_the_new_one(
    run_dir: Path, fork: Callable[..., int]
) -> None:
    ready = os.pipe()
    word = os.pipe()
    child = fork(_hold, "a", ready[1], (word[0], os.dup(word[1])))  # removes its lock file at the end
    os.read(ready[0], 1)
    with (
        os.fdopen(word[1], "w") as told,
        locked("a", wait=10, on_wait=lambda _pid: print(end="x", file=told, flush=True)),
    ):
        assert (run_dir / "a/lock").exists()
    os.waitpid(child, 0)
    assert list(run_dir.iterdir()) == []


def test_ten_at_once_take_turns(run_dir: Path, fork: Callable[..., int]) -> None:
    counter = run_dir.parent / "counter"
    counter.write_text("0")

    def count_to_five() -> None:
        for _ in range(5):
            with locked("a"):
                counter.write_text(str(int(counter.read_text()) + 1))

    children = [fork(count_to_five) for _ in range(10)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    assert counter.read_text() == "50"
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.b", "-a", "a-", "a b", "x" * 51, "ä", "a\n"])
def test_names_that_are_not_file_names(name: str) -> None:
    with pytest.raises(UsageError), locked(name):
        pass
