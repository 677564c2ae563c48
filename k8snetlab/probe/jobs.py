"""Run many short programs at once, each in a network namespace of its own, and collect what they say.

A child enters the namespace and becomes the program; the parent waits on pidfds. Output goes to memory files, so
nothing has to be read before the end and no program can block on a full pipe.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from k8snetlab.kernel import netns
from k8snetlab.kernel.identity import Identity, assume

Progress = Callable[[str, int, int], None]
LIMIT = 1 << 20  # of a program's output, in bytes


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: a program (`argv`) or a function, in `netns`; `seconds` is its utmost time."""

    netns: str
    seconds: float
    argv: tuple[str, ...] = ()
    function: Callable[[], bytes] | None = None
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: `code` as a shell has it negative for a signal; None when it was killed for taking too long.

    `failure` says why it could not be started at all.
    """

    code: int | None
    out: bytes = b""
    err: bytes = b""
    failure: str = ""


@dataclass(slots=True)
class _Child:
    index: int
    pid: int
    pidfd: int
    out: int
    err: int
    deadline: float


def run(jobs: Sequence[Job], parallel: int, progress: Progress) -> list[Ended]:
    """Run all jobs, at most `parallel` at a time; what came of them, in order."""
    ended: dict[int, Ended] = {}
    waiting = iter(enumerate(jobs))
    with _children() as (children, poller):
        _start_some(jobs, waiting, children, poller, parallel)
        while children:
            first = min(child.deadline for child in children.values())
            for pidfd, _ in poller.poll(max(0.0, first - time.monotonic()) * 1000):
                child = children.pop(pidfd)
                ended[child.index] = _collect(child, poller)
            for child in [child for child in children.values() if child.deadline <= time.monotonic()]:
                _kill(child)
                del children[child.pidfd]
                ended[child.index] = Ended(None, *_collected(child, poller))
            progress("probes", len(ended), len(jobs))
            _start_some(jobs, waiting, children, poller, parallel)
    return [ended[index] for index in range(len(jobs))]


@contextmanager
def _children() -> Iterator[tuple[dict[int, _Child], select.poll]]:
    """The programs that run, by pidfd; none outlives the block."""
    children: dict[int, _Child] = {}
    poller = select.poll()
    try:
        yield children, poller
    finally:
        for child in children.values():
            _kill(child)
            _collected(child, poller)


def _start_some(
    jobs: Sequence[Job],
    waiting: Iterator[tuple[int, Job]],
    children: dict[int, _Child],
    poller: select.poll,
    parallel: int,
) -> None:
    while len(children) < parallel:
        index, job = next(waiting, (len(jobs), None))
        if job is None:
            return
        child = _start(index, job)
        children[child.pidfd] = child
        poller.register(child.pidfd, select.POLLIN)


def _start(index: int, job: Job) -> _Child:
    out, err = os.memfd_create("out"), os.memfd_create("err")
    pid = os.fork()
    if pid == 0:
        _become(job, out, err)
    return _Child(index, pid, os.pidfd_open(pid), out, err, time.monotonic() + job.seconds)


def _become(job: Job, out: int, err: int) -> NoReturn:
    """In the child: exit code 126 with a word on `err` says that it could not be started."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        netns.enter(netns.open_netns(job.netns))
        if job.identity is not None:
            assume(job.identity)
        if job.function is not None:
            os.write(1, job.function())
            os._exit(0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(job.argv[0], job.argv)
    except BaseException as error:  # noqa: BLE001  (the child's last word; the parent turns it into an outcome)
        os.write(2, f"\0{type(error).__name__}: {error}".encode())
    finally:
        os._exit(126)


def _kill(child: _Child) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)


def _collect(child: _Child, poller: select.poll) -> Ended:
    status = os.waitpid(child.pid, 0)[1]
    out, err = _read(child, poller)
    if b"\0" in err:
        return Ended(126, failure=err.rpartition(b"\0")[2].decode(errors="replace"))
    return Ended(os.waitstatus_to_exitcode(status), out, err)


def _collected(child: _Child, poller: select.poll) -> tuple[bytes, bytes]:
    os.waitpid(child.pid, 0)
    return _read(child, poller)


def _read(child: _Child, poller: select.poll) -> tuple[bytes, bytes]:
    poller.unregister(child.pidfd)
    out, err = os.pread(child.out, LIMIT, 0), os.pread(child.err, LIMIT, 0)
    for fd in (child.pidfd, child.out, child.err):
        os.close(fd)
    return out, err
