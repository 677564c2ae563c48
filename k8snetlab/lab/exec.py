"""Run a program in a pod, a node or an external host, as the user's own: terminal, signals, exit code."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import BinaryIO, NoReturn

from k8snetlab.errors import LabError
from k8snetlab.kernel import identity as identities
from k8snetlab.kernel import netns as namespaces
from k8snetlab.kernel import syscalls
from k8snetlab.kernel.identity import Identity
from k8snetlab.lab.enter import join, rebuild_error, reduce_error, stand_by, step_in
from k8snetlab.lab.holder import Holder

_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
# The terminal sends these to the whole foreground group: the program gets them itself, and only it decides.
_LEFT_TO_IT = (signal.SIGINT, signal.SIGQUIT)


class NotStartedError(LabError):
    """The program cannot be run; the exit code is the shell's: 127 not found, 126 found but not executable."""

    def __init__(self, program: str, error: OSError) -> None:
        found = not isinstance(error, FileNotFoundError)
        super().__init__(f"{program}: {error.strerror if found else 'command not found'}")
        self.exit_code = 126 if found else 127


def execute(holder: Holder, netns: str, identity: Identity, argv: Sequence[str]) -> int:
    """Run a program in the lab's namespace `netns` with this process' terminal and files; return its exit code.

    128 + n when signal n ended it. Its directory is the caller's where the lab has it. Raises NotStartedError,
    LabError when the lab has ended, KernelError when there is no such namespace.
    """
    reader, writer = os.pipe()
    parent, children = os.getpid(), list[int]()
    with _signals_to(children), _terminal_kept():
        child = os.fork()
        if child == 0:
            os.close(reader)
            with open(writer, "wb", buffering=0) as failure:  # noqa: PTH123
                _supervise(holder, parent, netns, identity, argv, failure, children)
        children.append(child)
        os.close(writer)
        with open(reader, "rb") as failure:  # noqa: PTH123
            problem = failure.read()  # ends when the program runs: its end of the pipe closes on exec
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if problem:
        raise rebuild_error(pickle.loads(problem))
    return status if status >= 0 else 128 - status


def _move_to(netns: str) -> None:
    fd = namespaces.open_netns(netns)
    syscalls.setns(fd, syscalls.CLONE_NEWNET)
    os.close(fd)


def _supervise(
    holder: Holder,
    parent: int,
    netns: str,
    identity: Identity,
    argv: Sequence[str],
    failure: BinaryIO,
    children: list[int],
) -> NoReturn:
    """The child outside the PID namespace: sets the stage, forks the program into it and ends as it ends."""
    status = 1
    try:
        stand_by(parent, children, signal.SIGUSR1)
        directory = os.getcwd()  # noqa: PTH109
        try:
            join(holder)
            _move_to(netns)
            identities.assume(identity)
        except (LabError, OSError) as error:
            failure.write(pickle.dumps(reduce_error(error)))
            os._exit(1)
        program = os.fork()
        if program == 0:
            _become(argv, directory, failure)
        failure.close()
        children.append(program)
        code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
        status = code if code >= 0 else 128 - code
    finally:
        os._exit(status)


def _become(argv: Sequence[str], directory: str, failure: BinaryIO) -> NoReturn:
    try:
        step_in()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # those that Python ignores and exec would hand on
            signal.signal(number, signal.SIG_DFL)
        try:
            os.chdir(directory)
        except OSError:  # a directory of the host's /run, say
            os.chdir("/")
        try:
            os.execvp(argv[0], list(argv))
        except OSError as error:
            failure.write(pickle.dumps(reduce_error(NotStartedError(argv[0], error))))
    finally:
        os._exit(1)


@contextmanager
def _signals_to(children: list[int]) -> Iterator[None]:
    """Hand on what is sent to this process alone; leave to the program what the terminal sends to all."""

    def forward(number: int, _frame: FrameType | None) -> None:
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, number)

    previous = {number: signal.signal(number, forward) for number in _FORWARDED}
    previous |= {number: signal.signal(number, signal.SIG_IGN) for number in _LEFT_TO_IT}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal back to this process' group: an interactive shell inside takes it and cannot return it, since
    our group has no number in its PID namespace."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        yield
        return
    own = os.getpgrp()
    foreground = os.tcgetpgrp(terminal) == own
    try:
        yield
    finally:
        if foreground and os.tcgetpgrp(terminal) != own:
            previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # sent to a background group that does this
            os.tcsetpgrp(terminal, own)
            signal.signal(signal.SIGTTOU, previous)
        os.close(terminal)
