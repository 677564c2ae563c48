"""One writer a lab: an flock on `LAB/lock`, held while the lab is changed, dropped by the kernel when its owner dies.

The lock file comes and goes with the lab, so owning the lock means owning it on the file that is at that path now. The
janitor of a dead lab removes the lock first and the holder file second, without holding the lock. Whoever acquires it
therefore looks for a dead holder (and waits for its janitor) before looking whether the lock is still the right one.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from k8snetlab.errors import LabError
from k8snetlab.lab.holder import sweep_lab
from k8snetlab.lab.rundir import lab_directory, make_directory, remove_empty, unwritable

WAIT_SECONDS = 30.0


@contextmanager
def locked(name: str, *, wait: float = WAIT_SECONDS, on_wait: Callable[[int], None] | None = None) -> Iterator[None]:
    """Own the lab `name` for a change. On entry, what a dead holder left on the host is gone.

    When somebody else owns it, `on_wait` is called once with that process' id (0: unknown) and up to `wait` seconds
    pass. Raises LabError when it is still taken then. Call it from the main thread: the wait is bounded by SIGALRM.
    """
    directory = lab_directory(name)
    fd = _acquire(name, directory, wait, on_wait)
    try:
        yield
    finally:
        if not (directory / "holder").exists() and _is_current(fd, directory):
            for file in ("holder.new", "lock"):  # the first: a starter was killed while it wrote the holder file
                (directory / file).unlink(missing_ok=True)
            remove_empty(directory)
        os.close(fd)


def _acquire(name: str, directory: Path, wait: float, on_wait: Callable[[int], None] | None) -> int:
    while True:
        make_directory(directory)
        try:
            fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # the directory has just been removed with its lab
            continue
        except OSError as error:
            raise unwritable(error) from error
        try:
            _flock(name, fd, wait, on_wait)
            sweep_lab(name)
            if _is_current(fd, directory):
                os.ftruncate(fd, 0)
                os.pwrite(fd, str(os.getpid()).encode(), 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _flock(name: str, fd: int, wait: float, on_wait: Callable[[int], None] | None) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        owner = os.pread(fd, 16, 0).decode()
    if on_wait is not None:
        on_wait(int(owner or 0))
    try:
        with _alarm(wait):
            fcntl.flock(fd, fcntl.LOCK_EX)
    except TimeoutError:
        raise LabError(
            f"lab {name} is being changed by process {owner or '?'}, still after {wait:g} seconds",
            hint="wait for that command to end, or end it",
        ) from None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body after `seconds`: flock(2) has no timeout of its own, but a signal ends it."""

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _is_current(fd: int, directory: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), (directory / "lock").stat())
    except FileNotFoundError:
        return False
