"""Network namespaces by name: bind mounts in /run/netns, as `ip netns` makes them.

The caller's mount namespace must have a /run/netns of its own (the lab's tmpfs): the names made here are visible to
whoever shares that mount namespace. Entering a namespace costs a microsecond and concerns only the calling thread, so
nothing here forks.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from k8snetlab.errors import KernelError
from k8snetlab.kernel import syscalls

DIRECTORY: Final = "/run/netns"
# Not /proc/self: that is the thread group's leader, which may be in another namespace than the calling thread.
_CURRENT: Final = "/proc/thread-self/ns/net"


def names() -> frozenset[str]:
    """Every namespace of /run/netns. A file that no namespace is mounted on (a creation cut short) is not one."""
    try:
        directory = _device(DIRECTORY)
        with os.scandir(DIRECTORY) as entries:
            return frozenset(entry.name for entry in entries if _device(entry.path) != directory)
    except FileNotFoundError:
        return frozenset()


def create(name: str) -> int:
    """Make a namespace, leave the calling thread inside it and return an fd of it.

    Everything opened before the next step out of it, sockets above all, belongs to the new namespace. Wrap the call in
    `returning()` to come back. Raises KernelError when the name is taken or the kernel refuses.
    """
    path = f"{DIRECTORY}/{name}"
    try:
        os.close(_placeholder(path))
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount(_CURRENT, path, flags=syscalls.MS_BIND)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("create network namespace", subject=name, reason=_reason(error)) from error


def remove(name: str) -> None:
    """Take the name away; without processes, sockets or fds in it the namespace dies, and its links with it."""
    path = f"{DIRECTORY}/{name}"
    try:
        try:
            syscalls.umount(path, syscalls.MNT_DETACH)
        except OSError as error:
            if error.errno != errno.EINVAL:  # not a mount point: what a creation cut short has left
                raise
        os.unlink(path)  # noqa: PTH108 (a thousand of them: no Path each)
    except OSError as error:
        raise KernelError("remove network namespace", subject=name, reason=_reason(error)) from error


def open_netns(name: str) -> int:
    """An fd of the namespace; the caller closes it. Raises KernelError when there is none of that name."""
    path = f"{DIRECTORY}/{name}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open network namespace", subject=name, reason=_reason(error)) from error
    if os.fstat(fd).st_dev == _device(DIRECTORY):
        os.close(fd)
        raise KernelError("open network namespace", subject=name, reason="no namespace is mounted there")
    return fd


def enter(fd: int) -> None:
    """Bring the calling thread into the namespace, to stay; wrap the call in `returning()` to come back."""
    syscalls.setns(fd, syscalls.CLONE_NEWNET)


@contextmanager
def returning() -> Iterator[None]:
    """Bring the calling thread back, at the end, to the network namespace it is in now."""
    home = os.open(_CURRENT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(home)


@contextmanager
def inside(netns: str | int) -> Iterator[None]:
    """Run the body in a namespace, given by name or by fd. Of this process only the calling thread goes there."""
    fd = open_netns(netns) if isinstance(netns, str) else netns
    try:
        with returning():
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
            yield
    finally:
        if isinstance(netns, str):
            os.close(fd)


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have: a build keeps two a namespace."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _placeholder(path: str) -> int:
    """The empty file that the namespace is mounted on; one left by a creation cut short is used again."""
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, 0o444)
    except FileExistsError:
        if _device(path) != _device(DIRECTORY):
            raise
        return os.open(path, flags, 0o444)


def _device(path: str) -> int:
    """The file system of a file: that of namespaces (nsfs) is another than that of the directory they are named in."""
    return os.stat(path).st_dev  # noqa: PTH116 (a thousand of them: no Path each)


def _reason(error: OSError) -> str:
    return f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
