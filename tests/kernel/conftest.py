"""What every test of the kernel's rooms needs: a mount namespace with a /run of its own, as a lab has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8snetlab.kernel import syscalls
from k8snetlab.kernel.netns import returning


@pytest.fixture(name="lab")
def lab_fixture() -> Iterator[None]:
    """The test's thread in a mount namespace with an empty /run/netns, and back at the end.

    With the mount namespace die the network namespaces named in it, and their links.
    """
    home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)
    directory = Path.cwd()
    try:
        with returning():
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
            syscalls.mount("tmpfs", "/run", "tmpfs")
            Path("/run/netns").mkdir()
            yield
    finally:
        _await_other_threads()
        syscalls.setns(home, syscalls.CLONE_NEWNS)
        os.chdir(directory)
        os.close(home)


def _await_other_threads() -> None:
    """setns(2) to a mount namespace wants a file system state that no thread shares, and a thread that was joined lets
    go of it a moment after join() has returned: when the kernel has taken it off the list."""
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:  # noqa: PTH208
        os.sched_yield()
