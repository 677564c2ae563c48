"""The lab's own server programs: started once a lab, asked over a control socket, known by pid and start time.

The pid file is written by the program's own process before its exec, until when that process also holds the lab's lock
(an inherited descriptor, closed by exec): whoever owns the lock next finds each program that runs, also when the
starter was killed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import KernelError
from k8snetlab.kernel import control, processes
from k8snetlab.lab.holder import open_process, process_start

STATE = Path("/run/k8snetlab")
_PROGRAMS = Path(__file__).parents[1] / "workloads"


@dataclass(frozen=True, slots=True)
class Daemon:
    """`name` is that of its program in `workloads`; `title` what messages call it."""

    name: str
    title: str

    @property
    def socket(self) -> Path:
        return STATE / f"{self.name}.sock"

    @property
    def log(self) -> Path:
        return STATE / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return STATE / f"{self.name}.pid"


def start(daemon: Daemon) -> None:
    """Start it unless it lives; it is not waited for, so that its start overlaps with other work."""
    with alive(daemon) as pidfd:
        if pidfd is not None:
            return
    daemon.socket.unlink(missing_ok=True)
    # -I and -S: nothing of the user's environment, and no site-packages, which would double the start-up time.
    argv = [sys.executable, "-I", "-S", str(_PROGRAMS / f"{daemon.name}.py"), "--control", str(daemon.socket)]

    def note() -> None:
        daemon.pid_file.write_text(f"{os.getpid()} {process_start(os.getpid())}\n")

    processes.start(argv, log=str(daemon.log), setup=note)


@contextmanager
def alive(daemon: Daemon) -> Iterator[int | None]:
    """A pidfd of the living program, or None."""
    try:
        pid, begun = (int(word) for word in daemon.pid_file.read_text().split())
    except (FileNotFoundError, ValueError):  # never started, or killed while it was written down
        yield None
        return
    with open_process(pid, begun) as pidfd:
        yield pidfd


def ask(daemon: Daemon, requests: Sequence[Mapping[str, object]]) -> list[Any]:
    """Its answers to the requests, in order. Raises KernelError when it is dead, dies, or refuses one."""
    with alive(daemon) as pidfd:
        if pidfd is None:
            raise KernelError("ask", subject=daemon.title, reason="it has died", hint=_last_words(daemon))
        try:
            answers = control.ask(str(daemon.socket), requests, pidfd=pidfd)
        except KernelError as error:
            error.hint = _last_words(daemon)
            raise
    for answer in answers:
        if "refused" in answer:
            raise KernelError("listen", subject=daemon.title, reason=str(answer["refused"]))
    return answers


def _last_words(daemon: Daemon) -> str:
    lines = daemon.log.read_text(errors="replace").splitlines() if daemon.log.exists() else []
    return lines[-1] if lines else ""
