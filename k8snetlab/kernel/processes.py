"""Programs of the host, run in a network namespace of the lab.

The calling thread steps into the namespace, spawns, and steps back: the child inherits where it was born, and no copy
of this Python process is made. What a program reads and says goes through anonymous files in memory, so a full pipe
can block nobody and several programs can be waited for at once, each by its pidfd.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Self

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netns as namespaces

# Python ignores these two; a program that inherits that (a ping in a pipe, say) would never end by them.
_DEFAULT_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: its exit code, or minus the number of the signal that killed it, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class Running:
    """A program that runs; made by `spawn`, which also closes it. `pidfd` is readable once it has ended."""

    argv: tuple[str, ...]
    pid: int
    pidfd: int
    _stdout: int
    _stderr: int

    def wait(self, timeout: float) -> Completed:
        """Wait for the end, at most `timeout` seconds; then kill it and raise KernelError."""
        if not wait(self.pidfd, timeout):
            self.kill()
            raise KernelError("run", subject=self.argv[0], reason=f"has not ended after {timeout:g} seconds")
        status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        returncode = 0
        if status is not None:
            returncode = status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
        return Completed(returncode, _content(self._stdout), _content(self._stderr))

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


@contextmanager
def spawn(
    argv: Sequence[str], netns: str = "", *, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Start a program in a namespace (empty: where the caller is) and take it down, if need be, at the end.

    Raises HostError when there is no such program, KernelError when it cannot be started.
    """
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        _write(files[0], stdin)
        pid = _spawn(argv, netns, files, env)
        pidfd = os.pidfd_open(pid)
        running = Running(tuple(argv), pid, pidfd, files[1], files[2])
        try:
            yield running
        finally:
            running.kill()
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
    finally:
        for file in files:
            os.close(file)


def run(
    argv: Sequence[str],
    netns: str = "",
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Completed:
    """Run a program in a namespace to its end. Errors as `spawn` and `Running.wait`; its exit code is the caller's."""
    with spawn(argv, netns, stdin=stdin, env=env) as running:
        return running.wait(timeout)


@dataclass(frozen=True, slots=True)
class Command:
    """A program to be run: its argv, the namespace (empty: the caller's) and what it reads."""

    argv: Sequence[str]
    netns: str = ""
    stdin: bytes = b""


class Pool:
    """Programs run side by side while the caller does something else, at most `parallel` at a time.

    Nothing happens but in `advance`: it collects what has ended and starts what comes next.
    """

    def __init__(self, commands: Iterable[Command], *, parallel: int = 4, timeout: float = 60.0) -> None:
        self._waiting = iter(enumerate(commands))
        self._parallel = parallel
        self._timeout = timeout
        self._running: dict[int, tuple[int, Running, ExitStack, float]] = {}
        self._everything = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._everything.close()

    def advance(self, *, block: bool = False) -> list[tuple[int, Completed]]:
        """Those that have ended since the last call, each with its place among the commands.

        With `block` it waits until there is one; an empty list then means that all have ended. Errors as `spawn` and
        `Running.wait`.
        """
        self._start()
        ended = []
        for pidfd in self._ended(block):
            place, program, own, _ = self._running.pop(pidfd)
            ended.append((place, program.wait(0)))
            own.close()
        self._start()
        return ended

    def _start(self) -> None:
        while len(self._running) < self._parallel and (following := next(self._waiting, None)) is not None:
            place, command = following
            own = self._everything.enter_context(ExitStack())
            program = own.enter_context(spawn(command.argv, command.netns, stdin=command.stdin))
            self._running[program.pidfd] = (place, program, own, time.monotonic() + self._timeout)

    def _ended(self, block: bool) -> list[int]:
        if not self._running:
            return []
        poll = select.poll()
        for pidfd in self._running:
            poll.register(pidfd, select.POLLIN)
        left = min(deadline for *_, deadline in self._running.values()) - time.monotonic()
        ended = [fd for fd, _ in poll.poll(max(0.0, left) * 1000 if block else 0)]
        # Past the deadline: the one it belongs to is asked for its end, and its `wait` says so.
        return ended or ([min(self._running, key=lambda fd: self._running[fd][3])] if left <= 0 or block else [])


def run_many(commands: Sequence[Command], *, parallel: int = 4, timeout: float = 60.0) -> list[Completed]:
    """Run programs side by side to their ends; results in the order of the commands.

    Errors as `run`, at once: those still running are killed.
    """
    results: dict[int, Completed] = {}
    with Pool(commands, parallel=parallel, timeout=timeout) as pool:
        while ended := pool.advance(block=True):
            results.update(ended)
    return [results[place] for place in range(len(commands))]


def start(
    argv: Sequence[str],
    netns: str = "",
    *,
    log: str = os.devnull,
    env: Mapping[str, str] | None = None,
    setup: Callable[[], None] | None = None,
) -> int:
    """Start a program that outlives the caller, in a session of its own; returns its pid.

    Standard input is /dev/null, output and errors are appended to `log`, nothing else is inherited. It is a child of
    the caller; when that ends, the lab's PID 1 adopts it. `setup` runs in the child just before the program, inside
    the namespace (mounts, host name). Raises HostError when there is no such program, KernelError when it cannot start.
    """
    descriptors = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    try:
        descriptors += [os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)] * 2
        if setup is None:
            return _spawn(argv, netns, descriptors, env, new_session=True)
        return _fork(argv, netns, descriptors, env, setup)
    except OSError as error:
        raise KernelError("open", subject=log, reason=str(error.strerror)) from error
    finally:
        for descriptor in set(descriptors):
            os.close(descriptor)


def wait(pidfd: int, timeout: float) -> bool:
    """Whether the process has ended, waiting for that at most `timeout` seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _spawn(
    argv: Sequence[str],
    netns: str,
    descriptors: Sequence[int],
    env: Mapping[str, str] | None,
    *,
    new_session: bool = False,
) -> int:
    actions: list[tuple[int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(descriptors)
    ]
    if new_session:
        actions += [(os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable()]
    environment = os.environ if env is None else env
    try:
        with _at(netns):
            return os.posix_spawnp(
                argv[0], list(argv), environment, file_actions=actions, setsid=new_session, setsigdef=_DEFAULT_SIGNALS
            )
    except OSError as error:
        raise _not_started(argv[0], netns, error) from error


def _fork(
    argv: Sequence[str],
    netns: str,
    descriptors: Sequence[int],
    env: Mapping[str, str] | None,
    setup: Callable[[], None],
) -> int:
    """Fork, set up, exec. The pipe closes when exec has worked, or brings the error number and what was refused."""
    reader, writer = os.pipe()
    with _at(netns):
        pid = os.fork()
        if pid == 0:
            _become(list(argv), descriptors, os.environ if env is None else env, setup, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        failure = pipe.read().decode()
    if failure:
        os.waitpid(pid, 0)
        code, _, what = failure.partition(" ")
        raise _not_started(argv[0], netns, OSError(int(code), os.strerror(int(code)), what))
    return pid


def _become(
    argv: list[str], descriptors: Sequence[int], env: Mapping[str, str], setup: Callable[[], None], failure: int
) -> NoReturn:
    """In the child: turn into the program; if that fails, tell the parent and end."""
    refused = ""
    try:
        os.setsid()
        for signum in _DEFAULT_SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        setup()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in _inheritable():
            os.close(descriptor)
        refused = argv[0]
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(failure, f"{error.errno} {refused or error.filename or 'setup'}".encode())
    finally:
        os._exit(127)


def _inheritable() -> list[int]:
    """The open files past the standard three that a program would get: what the caller itself has inherited."""
    found = []
    with os.scandir("/proc/self/fd") as entries:
        for entry in entries:
            with suppress(OSError):  # the listing's own is there no more, or will not be
                if int(entry.name) > 2 and os.get_inheritable(int(entry.name)):
                    found.append(int(entry.name))
    return found


@contextmanager
def _at(netns: str) -> Iterator[None]:
    if netns:
        with namespaces.inside(netns):
            yield
    else:
        yield


def _not_started(program: str, netns: str, error: OSError) -> HostError | KernelError:
    if isinstance(error, FileNotFoundError) and error.filename == program:
        return HostError(f"there is no program {program} on this host", hint=f"install {program}")
    what = f" ({error.filename})" if error.filename != program else ""
    return KernelError("start", netns=netns, subject=program, reason=f"{error.strerror}{what}")


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)


def _content(file: int) -> bytes:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0) if size else b""
