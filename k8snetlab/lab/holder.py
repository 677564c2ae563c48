"""The process that is the lab: who it is, whether it lives, and how it ends. `start` makes it.

Every namespace, server, mount and file of the lab lives in its namespaces, so killing it by any means gives everything
back to the kernel. Outside, its janitor then removes what the lab has on the host: the published links and its run
directory. When the janitor was killed too, `sweep_lab` does the same at the next command.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from k8snetlab import __version__
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import LabError
from k8snetlab.lab import publish
from k8snetlab.lab.rundir import lab_directory

STOP_SECONDS = 10.0
_PF_EXITING = 0x4  # linux/sched.h: the process has begun to die, though its pidfd does not say so yet


@dataclass(frozen=True, slots=True)
class Holder:
    """A lab's process. A pid alone may be somebody else's by now: `start` is its start time, in ticks since boot."""

    lab: str
    pid: int
    start: int
    janitor: int = 0
    janitor_start: int = 0
    rootless: bool = False
    version: str = __version__

    @property
    def root(self) -> Path:
        """The lab's file system, seen from the host."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def state(self) -> Path:
        """The directory, in the lab's own tmpfs, that holds what the lab knows about itself."""
        return self.root / "run/k8snetlab"

    def line(self) -> str:
        """The holder file. Its first two words are read by the janitor's shell."""
        words = (self.pid, self.start, self.janitor, self.janitor_start, int(self.rootless), self.version)
        return " ".join(str(word) for word in words) + "\n"


def find(lab: str) -> Holder | None:
    """The lab's living holder, or None. One that is just dying is waited for."""
    holder = read_holder(lab)
    if holder is None:
        return None
    with open_process(holder.pid, holder.start) as pidfd:
        if pidfd is None:
            return None
        if _flags(holder.pid) & _PF_EXITING:
            _wait(pidfd, STOP_SECONDS, f"the process of lab {lab} ({holder.pid})")
            return None
        return holder


def read_holder(lab: str) -> Holder | None:
    """What the holder file says, whether or not that process lives."""
    try:
        words = (lab_directory(lab) / "holder").read_text().split()
    except FileNotFoundError:
        return None
    if len(words) != 6:
        raise LabError(
            f"the holder file of lab {lab} is damaged", hint=f"remove {lab_directory(lab)} once no lab runs there"
        )
    pid, start, janitor, janitor_start, rootless = (int(word) for word in words[:5])
    return Holder(lab, pid, start, janitor, janitor_start, bool(rootless), words[5])


def write_holder(holder: Holder) -> None:
    directory = lab_directory(holder.lab)
    new = directory / "holder.new"
    new.write_text(holder.line())
    new.rename(directory / "holder")


def stop(holder: Holder) -> None:
    """Kill the lab, wait until the kernel has ended all its processes and the janitor has cleaned the host."""
    with open_process(holder.pid, holder.start) as pidfd:
        if pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            # Readable when every process of the PID namespace is gone: its init is the last one to die.
            _wait(pidfd, STOP_SECONDS, f"the process of lab {holder.lab} ({holder.pid})")
    # Not by way of the holder file: the janitor may have removed that already, and still be at work on the rest.
    _clean_up_after(holder)


def sweep_lab(lab: str) -> None:
    """Remove what a dead holder left on the host; does nothing to a living lab. The caller owns the lab's lock."""
    holder = read_holder(lab)
    if holder is not None and find(lab) is None:
        _clean_up_after(holder)


def _clean_up_after(holder: Holder) -> None:
    """Let the janitor finish, so that it cannot touch what a new lab of that name makes; then do what it has not."""
    lab = holder.lab
    with open_process(holder.janitor, holder.janitor_start) as pidfd:
        if pidfd is not None and not _readable(pidfd, 2.0):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _wait(pidfd, STOP_SECONDS, f"the janitor of lab {lab} ({holder.janitor})")
    _reap(holder.janitor, holder.janitor_start)
    publish.withdraw(lab, holder.pid)
    directory = lab_directory(lab)
    for file in ("holder.new", "holder"):
        (directory / file).unlink(missing_ok=True)


def process_start(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot (proc(5), stat field 22); None when there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


@contextmanager
def open_process(pid: int, start: int) -> Iterator[int | None]:
    """A pidfd of the process that has this pid *and* start time and is not dead; None otherwise."""
    try:
        pidfd = os.pidfd_open(pid) if pid > 0 else None
    except ProcessLookupError:
        pidfd = None
    try:
        # The start time is read while the pidfd pins the process, so both belong together. A zombie is dead.
        alive = pidfd is not None and process_start(pid) == start and not _readable(pidfd, 0)
        yield pidfd if alive else None
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second may contain spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _flags(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[6]) if fields else _PF_EXITING


def _reap(pid: int, start: int) -> None:
    """Take the exit status of a dead janitor that this very process started."""
    if process_start(pid) == start:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _readable(fd: int, seconds: float) -> bool:
    poller = select.poll()  # select() refuses descriptors above 1023
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _wait(pidfd: int, seconds: float, subject: str) -> None:
    if not _readable(pidfd, seconds):
        raise LabError(f"{subject} has not ended after {seconds:g} seconds", hint="run the command again")
