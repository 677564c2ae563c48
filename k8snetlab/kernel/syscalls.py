"""The system calls that Python's `os` lacks (3.11 has neither unshare nor setns), as functions that raise OSError.

Each error carries the call and its argument as `filename`, so `str(error)` says what was refused:
`[Errno 1] Operation not permitted: 'mount /sys'`.
"""

from __future__ import annotations

import ctypes
import os

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MNT_DETACH = 0x2
_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_CMD_CREATE = 6

# asm-generic/unistd.h: system calls since 5.2 have one number on every architecture but alpha. glibc has them since
# 2.36 only, and Ubuntu 22.04 is older.
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)


def unshare(flags: int) -> None:
    """Move this process into new namespaces of the kinds in `flags` (a new PID namespace is for its children only)."""
    _check(_libc.unshare(flags), f"unshare {flags:#x}")


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace of an nsfs file, or those kinds in `flags` of the process of a pidfd (Linux 5.8)."""
    _check(_libc.setns(fd, flags), f"setns {flags:#x}")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2); empty strings stand for NULL."""
    arguments = [text.encode() if text else None for text in (source, fstype, data)]
    _check(_libc.mount(arguments[0], os.fsencode(target), arguments[1], flags, arguments[2]), f"mount {target}")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def detached_mount(fstype: str) -> int:
    """A new file system that is mounted nowhere: an fd of its root, which the caller closes, and it is gone."""
    context = _libc.syscall(_SYS_FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC)
    _check(min(context, 0), f"fsopen {fstype}")
    try:
        _check(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), f"fsconfig {fstype}")
        root: int = _libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        _check(min(root, 0), f"fsmount {fstype}")
        return root
    finally:
        os.close(context)


def sethostname(name: str) -> None:
    """Set the host name of this process' UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), f"sethostname {name}")


def prctl(option: int, value: int) -> None:
    """prctl(2) for the options with one argument."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")
