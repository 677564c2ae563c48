"""Run commands and time them, on a machine that has come to rest."""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# What contenders run in: nobody else's /run, and nothing left when the process ends.
PRIVATE = ("unshare", "--mount", "sh", "-euc", 'mount -t tmpfs tmpfs /run; mkdir /run/netns; exec "$@"', "sh")
QUIET_TIMEOUT = 60.0


def run(command: Sequence[str]) -> str:
    """Its output; what it says on stderr is shown only if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command[:12])}: exit code {done.returncode}\n{(done.stderr + done.stdout)[-2000:]}")
    return done.stdout


def stopwatch(command: Sequence[str]) -> float:
    started = time.perf_counter()
    run(command)
    return time.perf_counter() - started


@contextmanager
def quiet_kernel() -> Iterator[None]:
    """Waits until the kernel has taken apart the namespaces of the run before, about 1 ms each, in one kworker.

    It holds the lock that everything here needs. The kworker shows what it does in its name, to all who can see it.
    """
    deadline = time.monotonic() + QUIET_TIMEOUT
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        quiet = 0 if any("+netns" in name for name in kernel_threads()) else quiet + 1
        select.select([], [], [], 0.05)
    yield


def kernel_threads() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            name = path.read_text()
        except OSError:  # it ended just now
            continue
        if name.startswith("kworker"):
            yield name


def row(name: str, seconds: Sequence[float], remark: str = "") -> None:
    spread = f"({min(seconds):.2f}-{max(seconds):.2f})" if len(seconds) > 1 else ""
    print(f"  {name:<44} {statistics.median(seconds):8.3f} {spread:<14} {remark}".rstrip(), flush=True)
