"""Start a lab's holder and its janitor.

The holder is `sleep infinity` with SIGCHLD ignored (so the kernel reaps its orphans), PID 1 of a PID namespace with
mount, net, ipc and UTS namespaces of its own, and a user namespace when rootless. The janitor is its parent outside: a
shell of 0.2 MB that waits for the holder's end and cleans the host.

In order, so that no moment of death of the starter leaves anything:
  starter   forks the janitor, which forks (through a child that unshares) the holder;
  holder    mounts, reports, and waits for a word from the starter: without it, it ends;
  starter   writes the holder file and gives the word; the holder becomes `sleep`, and its report pipe closes.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from k8snetlab.errors import HostError
from k8snetlab.kernel import syscalls
from k8snetlab.lab.holder import Holder, process_start, write_holder
from k8snetlab.lab.publish import MADE_MARK
from k8snetlab.lab.rundir import DEFAULT_BASE, base_directory, lab_directory

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LIFELINE = 3  # the descriptor of the pipe between the two: the holder keeps one end, the janitor reads the other
_NAMESPACES = (
    syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
)

# $1 holder's pid, $2 its start time, $3 the lab's directory, $4 the run directory when it is ours to remove, $5 the
# mark beside the labs that says we made /run/netns. `read` returns when the holder has died. The holder's pid cannot be
# another process' yet: this shell is its parent (a subreaper) and has not waited for it. The lock goes first and the
# holder file last: see lab/lock.py.
_JANITOR = r"""
read -r _ <&3
find /run/netns -maxdepth 1 -lname "/proc/$1/root/run/netns/*" -delete 2>/dev/null
if read -r pid start _ <"$3/holder" && [ "$pid $start" = "$1 $2" ]; then
    rm -f -- "$3/lock" && rm -f -- "$3/holder"
    rmdir -- "$3"
fi
[ -e "$5" ] && rmdir /run/netns && rm -f -- "$5"
[ -n "$4" ] && rmdir -- "$4"
"""


class _Pipe(NamedTuple):
    read: int
    write: int


class _Pipes(NamedTuple):
    """`report`: children to starter, lines. `word`: starter to holder. `lifeline`: its end tells of the holder's."""

    report: _Pipe
    word: _Pipe
    lifeline: _Pipe


def start(lab: str, *, rootless: bool = False) -> Holder:
    """Start the lab's process; the caller owns the lab's lock and knows that no holder lives.

    Raises HostError when the kernel refuses a namespace or a mount. When this process dies meanwhile, nothing remains.
    """
    pipes = _Pipes(*(_Pipe(*os.pipe()) for _ in range(3)))
    janitor = os.fork()
    if janitor == 0:
        _run_child(lambda: _become_janitor(lab, rootless, pipes), pipes.report.write)
    for fd in (pipes.report.write, pipes.word.read, *pipes.lifeline):
        os.close(fd)
    try:
        return _make_known(lab, rootless, janitor, pipes)
    except HostError:
        os.waitpid(janitor, 0)  # it has the holder's end to see, and what is left to clean up
        raise


def _make_known(lab: str, rootless: bool, janitor: int, pipes: _Pipes) -> Holder:
    """Write down a holder that is ready, and let it go on."""
    # Whatever is raised below closes `word` unsaid: the holder then ends, and the janitor after it.
    with open(pipes.word.write, "wb", buffering=0) as word, open(pipes.report.read) as report:  # noqa: PTH123
        pid = _await_ready(report)
        holder = Holder(lab, pid, process_start(pid) or 0, janitor, process_start(janitor) or 0, rootless)
        write_holder(holder)
        word.write(b"go\n")
        if failure := report.read():  # ended by the holder's exec
            raise _refused(failure)
    return holder


def _await_ready(report: Iterable[str]) -> int:
    """The holder's pid, once its mounts are made."""
    pid, ready = 0, False
    for line in report:
        kind, _, value = line.rstrip("\n").partition(" ")
        if kind == "failed":
            raise _refused(value)
        pid, ready = (int(value), ready) if kind == "pid" else (pid, True)
        if pid and ready:
            return pid
    raise _refused("its process ended without a word")


def _refused(reason: str) -> HostError:
    return HostError(
        f"cannot start the lab's process: {reason.strip()}",
        hint="run as root on a host that allows new namespaces (in a container: a privileged one)",
    )


def _run_child(function: Callable[[], None], report: int) -> NoReturn:
    """In a forked child: run `function`, which ends in exec or returns, say what the kernel refused, and end."""
    try:
        function()
        os._exit(0)
    except OSError as error:
        os.write(report, f"failed {error}\n".encode())
    finally:
        os._exit(1)


def _become_janitor(lab: str, rootless: bool, pipes: _Pipes) -> None:
    base, directory = base_directory().absolute(), lab_directory(lab).absolute()
    os.setsid()
    os.chdir("/")
    # Children whose parent dies come to this process instead of init: the holder's pid stays taken while we clean up.
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    told = _Pipe(*os.pipe())
    child = os.fork()
    if child == 0:
        _run_child(lambda: _fork_holder(rootless, pipes, told.write), pipes.report.write)
    os.close(told.write)
    pid = int(os.read(told.read, 16) or 0)
    os.waitpid(child, 0)
    if not pid:
        return
    os.write(pipes.report.write, f"pid {pid}\n".encode())
    _keep([pipes.lifeline.read])
    os.set_inheritable(_LIFELINE, True)
    removable = str(base) if base == DEFAULT_BASE else ""
    arguments = [str(pid), str(process_start(pid)), str(directory), removable, str(base / MADE_MARK)]
    os.execve("/bin/sh", ["sh", "-c", _JANITOR, "k8snetlab-janitor", *arguments], {"PATH": PATH})


def _fork_holder(rootless: bool, pipes: _Pipes, told: int) -> None:
    """Make the namespaces, and the holder in them; a PID namespace is entered only by being born into it."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(_NAMESPACES | (syscalls.CLONE_NEWUSER if rootless else 0))
    if rootless:
        # user_namespaces(7): an ordinary user may map only himself, and only after giving up setgroups.
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{file}").write_text(text)
    pid = os.fork()
    if pid == 0:
        _run_child(lambda: _become_holder(rootless, pipes), pipes.report.write)
    os.write(told, str(pid).encode())


def _become_holder(rootless: bool, pipes: _Pipes) -> NoReturn:
    lifeline, report, word = _keep([pipes.lifeline.write, pipes.report.write, pipes.word.read])
    # Of the descriptors only these are left, so what is refused from here on is said by the new number.
    _run_child(lambda: _hold(rootless, lifeline, report, word), report)


def _hold(rootless: bool, lifeline: int, report: int, word: int) -> None:
    _mount_all(rootless)
    os.write(report, b"ready\n")
    if not os.read(word, 3):
        return
    os.set_inheritable(lifeline, True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # survives exec: the kernel reaps the orphans that PID 1 inherits
    try:
        os.execvpe("sleep", ["sleep", "infinity"], {"PATH": PATH})
    except OSError as error:
        os.write(report, f"sleep: {error}\n".encode())


def _mount_all(rootless: bool) -> None:
    # Slave, not private: nothing of ours reaches the host, but what the host unmounts is not kept busy by the lab.
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_SLAVE)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", "/run", "tmpfs", flags, "mode=755")
    for directory, mode in (("netns", 0o755), ("lock", 0o755), ("k8snetlab", 0o700)):
        Path("/run", directory).mkdir(mode=mode)
    syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)
    # A sysfs shows the network devices of the namespace of whoever mounts it. In a user namespace the kernel refuses
    # it where the host has mounts below /sys that it would uncover (mount_too_revealing).
    with suppress(PermissionError) if rootless else nullcontext():
        syscalls.mount("sysfs", "/sys", "sysfs", flags | syscalls.MS_NOEXEC)


def _keep(fds: Sequence[int]) -> range:
    """Make `fds` the descriptors 3, 4, …, the null device 0 to 2, and close all others: no caller's pipe stays open."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
    null = os.open(os.devnull, os.O_RDWR)
    for target in range(3):
        os.dup2(null, target)
    kept = range(_LIFELINE, _LIFELINE + len(fds))
    for target, fd in zip(kept, high, strict=True):
        os.dup2(fd, target, inheritable=False)
    os.closerange(kept.stop, os.sysconf("SC_OPEN_MAX"))
    return kept
