"""run_in: values, errors, progress and interruption across the border of a lab."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from k8snetlab.errors import KernelError, LabError, ManifestError, Problem, Source
from k8snetlab.lab import holder
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked
from k8snetlab.lab.start import start

pytestmark = pytest.mark.root


def test_returns_the_value(running: Holder) -> None:
    before = Path("/proc/self/ns/mnt").readlink()
    assert run_in(running, lambda a, b: (a, b, os.getpid() > 1), "x", {"y": 1}) == ("x", {"y": 1}, True)
    assert Path("/proc/self/ns/mnt").readlink() == before


def test_a_value_larger_than_a_pipe(running: Holder) -> None:
    assert run_in(running, lambda: b"x" * 5_000_000) == b"x" * 5_000_000


def test_progress_arrives_in_order(running: Holder) -> None:
    def work(count: int, progress: object = None) -> str:
        assert callable(progress)
        for number in range(count):
            progress(number, count)
        return "done"

    seen: list[tuple[int, int]] = []
    assert run_in(running, work, 3, progress=lambda done, total: seen.append((done, total))) == "done"
    assert seen == [(0, 3), (1, 3), (2, 3)]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(LabError("no", hint="do this"), id="plain"),
        pytest.param(KernelError("add", netns="node1", subject="Veth", reason="why", hint="h"), id="kernel"),
        pytest.param(ManifestError((Problem(Source("a.yaml", 3), "Pod a/b", "spec", "bad"),)), id="manifests"),
    ],
)
def test_lab_errors_arrive_intact(running: Holder, error: LabError) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run_in(running, fail)
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)
    assert vars(raised.value) == vars(error)


def test_other_errors_arrive_with_their_traceback(running: Holder) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        run_in(running, Path("/nowhere/at/all").read_text)
    assert raised.value.filename == "/nowhere/at/all"
    assert "read_text" in raised.value.__notes__[0]


def test_an_error_that_cannot_be_pickled_still_arrives(running: Holder) -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("only here")

    with pytest.raises(RuntimeError, match="LocalError: only here"):
        run_in(running, fail)


def test_a_child_that_is_killed_is_an_error(running: Holder) -> None:
    with pytest.raises(LabError, match="killed by signal SIGKILL"):
        run_in(running, lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_lab_that_has_ended_is_an_error(running: Holder) -> None:
    with locked(running.lab):
        holder.stop(running)
    with pytest.raises(LabError, match="has ended"):
        run_in(running, os.getpid)


def test_a_lab_that_ends_meanwhile_is_an_error(running: Holder, fork: Callable[..., int]) -> None:
    def end() -> None:
        os.kill(running.pid, 0) if Path(f"/proc/{running.pid}").exists() else None
        signal.pause()

    def kill_when_somebody_works_there() -> None:
        children = running.root / "proc"
        while sum(entry.name.isdigit() for entry in children.iterdir()) < 2:
            select.select([], [], [], 0.001)
        os.kill(running.pid, signal.SIGKILL)

    pid = fork(kill_when_somebody_works_there)
    with pytest.raises(LabError, match="has ended"):
        run_in(running, end)
    os.waitpid(pid, 0)


def test_interruption_ends_the_work_inside(running: Holder) -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in(running, signal.pause)
    finally:
        signal.signal(signal.SIGALRM, previous)
    await_alone(running)


def test_the_callers_death_ends_the_work_inside(running: Holder, fork: Callable[..., int]) -> None:
    reader, writer = os.pipe()
    caller = fork(run_in, running, _write_and_pause, writer)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    assert os.read(reader, 1) == b""  # every process that had the other end is dead


def test_entering_a_thousand_times_leaves_no_descriptor_and_no_child(running: Holder) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    own = children.read_text()
    started = time.perf_counter()
    for _ in range(50):
        run_in(running, int)
    assert (time.perf_counter() - started) / 50 < 0.1
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert children.read_text() == own


def test_an_ordinary_users_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same shape in a user namespace: one flag. Run by a child that has become an ordinary user."""
    base = tmp_path / "rootless"
    base.mkdir()
    for directory in (base, *base.parents):
        if directory == Path("/tmp"):
            break
        directory.chmod(0o755)
    os.chown(base, 65534, 65534)
    monkeypatch.setenv("K8SNETLAB_RUN_DIR", str(base))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # Dropping privileges made /proc/self root's; a program started by the user would own it.
        from k8snetlab.kernel import syscalls

        syscalls.prctl(4, 1)  # PR_SET_DUMPABLE
        try:
            with locked("mine"):
                mine = start("mine", rootless=True)
                inside = run_in(mine, lambda: (os.getuid(), subprocess.call(["ip", "netns", "add", "n1"])))
                holder.stop(mine)
            os.write(writer, repr((inside, list(base.iterdir()))).encode())
        except LabError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode() == "((0, 0), [])"


def await_alone(running: Holder) -> None:
    """Wait until the lab has no process but the holder; one that is dead stays listed for a moment."""
    poller = select.poll()
    deadline = time.monotonic() + 5
    while [entry.name for entry in (running.root / "proc").iterdir() if entry.name.isdigit()] != ["1"]:
        assert time.monotonic() < deadline
        poller.poll(1)


def _write_and_pause(fd: int) -> None:
    os.write(fd, b"x")
    signal.pause()
