"""The one way into a lab: fork, enter its namespaces, call, bring the value or the error back.

The calling process never changes namespace. Forking copies the arguments for free; only the answer is pickled.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import BinaryIO, NoReturn, TypeVar, cast

from k8snetlab.errors import LabError
from k8snetlab.kernel import syscalls
from k8snetlab.lab.holder import Holder, find, open_process

T = TypeVar("T")
_HEADER = struct.Struct("<cI")  # kind of frame, length of the pickle that follows
# What a terminal sends to the whole foreground group, and what stops a process.
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_PROGRESS, _VALUE, _ERROR = b"p", b"v", b"e"


def run_in(
    holder: Holder,
    function: Callable[..., T],
    *args: object,
    progress: Callable[..., None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> T:
    """Call `function(*args)` inside the lab: its mount, PID, net, ipc and UTS namespaces; return its value.

    With `progress`, the function also gets a keyword argument `progress`; each call of it there is made here with the
    same arguments. `meanwhile` is called here while the work goes on there. Exceptions arrive as they were raised,
    those that are no LabError with a note of the traceback. LabError when the lab has ended or the child was killed.
    When this process is interrupted or killed, the child is killed too. Fork is used: no other threads, please.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _enter_and_call(holder, parent, reader, writer, function, args, progress is not None)
    os.close(writer)
    with open(reader, "rb") as answers:  # noqa: PTH123
        try:
            if meanwhile is not None:
                meanwhile()
            frame = _read_frames(answers, progress)
        except BaseException:
            # It ends when the one inside has: nobody works there any more when the caller lets go of the lab's lock.
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if frame is None:
        raise _ended(holder, status)
    kind, answer = frame
    if kind == _ERROR:
        raise rebuild_error(answer)
    return cast(T, answer)


def join(holder: Holder) -> None:
    """Enter the lab's namespaces with this process; the PID namespace only with children forked from now on.

    Raises LabError when the lab has ended.
    """
    flags = (
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWPID
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | (syscalls.CLONE_NEWUSER if holder.rootless else 0)
    )
    with open_process(holder.pid, holder.start) as pidfd:
        if pidfd is None:
            raise _gone(holder)
        try:
            syscalls.setns(pidfd, flags)
        except ProcessLookupError:
            raise _gone(holder) from None


def stand_by(parent: int, children: Sequence[int], last_word: signal.Signals) -> None:
    """Make this process the outside parent of one inside, which it must outlive to take its exit status.

    A PID namespace cannot end before each of its processes has been waited for, by a parent outside too; so this one
    ignores what a terminal sends to all, does not stop, and at `last_word`, which the kernel sends when `parent` dies,
    kills the `children` (those known by then) instead of leaving them to the host's init.
    """

    def end(_signal: int, _frame: FrameType | None) -> None:
        if not children:
            os._exit(1)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    for number in FROM_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(last_word, end)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, last_word)
    if os.getppid() != parent:  # it died before it could be asked for
        os._exit(1)


def step_in() -> None:
    """What the process inside does first: die with its parent, and meet signals as any program does."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (*FROM_TERMINAL, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def _enter_and_call(
    holder: Holder,
    parent: int,
    reader: int,
    writer: int,
    function: Callable[..., object],
    args: tuple[object, ...],
    with_progress: bool,
) -> NoReturn:
    """The first child: enters, forks the one that calls (a PID namespace is entered by birth only), waits for it."""
    status = 1
    try:
        os.close(reader)
        children: list[int] = []
        stand_by(parent, children, signal.SIGTERM)
        with open(writer, "wb", buffering=0) as answers:
            try:
                join(holder)
            except (LabError, OSError) as error:
                _send(answers, _ERROR, reduce_error(error))
                os._exit(0)
            if (inside := os.fork()) == 0:
                _call(answers, function, args, with_progress)
            children.append(inside)
        code = os.waitstatus_to_exitcode(os.waitpid(inside, 0)[1])
        status = code if code >= 0 else 128 - code
    finally:
        os._exit(status)


def _call(
    answers: BinaryIO, function: Callable[..., object], args: tuple[object, ...], with_progress: bool
) -> NoReturn:
    """The second child, inside the lab."""
    try:
        # The parent is outside this PID namespace, where getppid() is 0 for a living one and for a dead one: ask the
        # pipe instead, whose reader is the process that waits for the answer.
        step_in()
        if _reader_is_gone(answers.fileno()):
            os._exit(1)
        keywords = {"progress": lambda *message: _send(answers, _PROGRESS, message)} if with_progress else {}
        try:
            _send(answers, _VALUE, function(*args, **keywords))
        except BaseException as error:  # noqa: BLE001  (raised again in the parent)
            _send(answers, _ERROR, reduce_error(error))
    finally:
        os._exit(0)


def _send(answers: BinaryIO, kind: bytes, value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    frame = memoryview(_HEADER.pack(kind, len(data)) + data)
    while frame:
        frame = frame[answers.write(frame) :]


def _read_frames(answers: BinaryIO, progress: Callable[..., None] | None) -> tuple[bytes, object] | None:
    """The answer, after handing on each progress message; None when the child ended without one."""
    while len(header := answers.read(_HEADER.size)) == _HEADER.size:
        kind, length = _HEADER.unpack(header)
        data = answers.read(length)
        if len(data) < length:
            return None
        if kind != _PROGRESS:
            return kind, pickle.loads(data)
        if progress is not None:
            progress(*pickle.loads(data))
    return None


def reduce_error(error: BaseException) -> tuple[type[BaseException], tuple[object, ...], dict[str, object]]:
    """An exception in parts: an exception class with an `__init__` of its own does not survive pickle as it is."""
    state = dict(vars(error))
    if not isinstance(error, LabError):
        text = "".join(traceback.format_exception(error)).rstrip()
        state["__notes__"] = [*getattr(error, "__notes__", ()), f"inside the lab:\n{text}"]
    args = error.__reduce__()[1]  # an OSError's has the file name, its `args` has not
    assert isinstance(args, tuple)
    parts = (type(error), args, state)
    try:
        pickle.dumps(parts)
    except (pickle.PicklingError, TypeError, AttributeError):
        return RuntimeError, (f"{type(error).__name__}: {error}",), {"__notes__": state.get("__notes__", [])}
    return parts


def rebuild_error(parts: object) -> BaseException:
    """The exception that `reduce_error` took apart."""
    assert isinstance(parts, tuple)
    kind, args, state = parts
    error = kind.__new__(kind, *args)
    assert isinstance(error, BaseException)
    if not isinstance(error, OSError):
        error.args = args
    vars(error).update(state)
    return error


def _ended(holder: Holder, status: int) -> LabError:
    if find(holder.lab) != holder:
        return _gone(holder)
    how = f"killed by signal {signal.Signals(status - 128).name}" if status > 128 else f"ended with {status}"
    return LabError(f"the process that worked in lab {holder.lab} was {how}", hint="run the command again")


def _gone(holder: Holder) -> LabError:
    return LabError(f"lab {holder.lab} has ended: its process {holder.pid} is gone", hint="make it anew with up")


def _reader_is_gone(pipe: int) -> bool:
    poller = select.poll()
    poller.register(pipe, 0)  # POLLERR is always reported
    return bool(poller.poll(0))
