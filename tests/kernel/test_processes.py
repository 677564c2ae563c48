"""Programs in namespaces: what they read, write and inherit, how they end, what happens when they cannot start."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netns, processes, syscalls

ALONE = """
import os, sys
print(os.getsid(0) == os.getpid(), sys.stdin.read() == "", flush=True)
print(sorted(os.listdir("/proc/self/fd")), file=sys.stderr)
"""


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def inode(path: str) -> int:
    return Path(path).stat().st_ino


def test_what_it_reads_and_writes() -> None:
    big = os.urandom(3_000_000)  # far more than a pipe holds, both ways
    done = processes.run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=big)
    assert (done.returncode, done.stdout, done.stderr) == (3, big, b"oops\n")


def test_killed_by_a_signal() -> None:
    assert processes.run(["sh", "-c", "kill -TERM $$"]).returncode == -signal.SIGTERM


def test_environment() -> None:
    assert processes.run(["/usr/bin/env"], env={"A": "b c"}).stdout == b"A=b c\n"


def test_it_inherits_no_files_and_no_ignored_signals(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        listing = processes.run(["ls", "-l", "/proc/self/fd"]).stdout.decode()
        assert str(tmp_path) not in listing
        assert file.name not in listing
    status = processes.run(["cat", "/proc/self/status"]).stdout.decode()
    ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def test_no_such_program() -> None:
    with pytest.raises(HostError, match="no program no-such-program") as caught:
        processes.run(["no-such-program"])
    assert caught.value.hint == "install no-such-program"


def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(KernelError, match="Permission denied"):
        processes.run([str(tmp_path / "data")])


def test_out_of_time() -> None:
    began = time.monotonic()
    with pytest.raises(KernelError, match=r"has not ended after 0\.05 seconds"):
        processes.run(["sleep", "60"], timeout=0.05)
    assert time.monotonic() - began < 5


def test_left_early_it_is_killed() -> None:
    with processes.spawn(["sleep", "60"]) as running:
        pid = running.pid
        assert not processes.wait(running.pidfd, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_descriptor_and_no_child_stays() -> None:
    before = open_files()
    for _ in range(5):
        processes.run(["true"])
        with pytest.raises(HostError):
            processes.run(["no-such-program"])
        os.waitpid(processes.start(["true"]), 0)
        os.waitpid(processes.start(["true"], setup=lambda: None), 0)
    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_many_in_the_order_of_the_commands() -> None:
    commands = [processes.Command(["sh", "-c", f"cat; exit {i}"], stdin=str(i).encode()) for i in range(12)]
    results = processes.run_many(commands, parallel=3)
    assert [(done.returncode, done.stdout) for done in results] == [(i, str(i).encode()) for i in range(12)]
    assert processes.run_many([]) == []


def test_no_more_at_a_time_than_allowed(tmp_path: Path) -> None:
    """Each program makes a file, counts all files, and takes its own away."""
    script = f"touch {tmp_path}/$$; ls {tmp_path} | wc -l; rm {tmp_path}/$$"
    results = processes.run_many([processes.Command(["sh", "-c", script])] * 20, parallel=2)
    assert max(int(done.stdout) for done in results) <= 2


def test_side_by_side_out_of_time() -> None:
    commands = [processes.Command(["true"]), processes.Command(["sleep", "60"])]
    began = time.monotonic()
    with pytest.raises(KernelError, match="run sleep: has not ended"):
        processes.run_many(commands, timeout=0.1)
    assert time.monotonic() - began < 5


def test_a_pool_works_while_the_caller_does() -> None:
    with processes.Pool([processes.Command(["sleep", "60"])] * 3, parallel=2) as pool:
        assert pool.advance() == []


@pytest.mark.parametrize("setup", [None, lambda: None], ids=["spawned", "forked"])
def test_started_it_outlives_and_is_alone(tmp_path: Path, setup: object) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    left_open = os.open("/", os.O_RDONLY)
    os.set_inheritable(left_open, True)
    pid = processes.start([sys.executable, "-c", ALONE], log=str(log), setup=None if setup is None else lambda: None)
    os.close(left_open)
    os.waitpid(pid, 0)
    first, second, third = log.read_text().splitlines()
    assert (first, second) == ("before", "True True")
    assert third == "['0', '1', '2', '3']"  # 3 is the listing's own


def test_setup_runs_in_the_child_only(tmp_path: Path) -> None:
    pid = processes.start(["touch", "here"], setup=lambda: os.chdir(tmp_path))
    os.waitpid(pid, 0)
    assert (tmp_path / "here").exists()
    assert Path.cwd() != tmp_path


def test_what_a_setup_is_refused_is_said() -> None:
    def setup() -> None:
        syscalls.mount("/no/such", "/no/such", flags=syscalls.MS_BIND)

    with pytest.raises(KernelError, match=r"start true.*mount /no/such"):
        processes.start(["true"], setup=setup)


@pytest.mark.parametrize("setup", [None, lambda: None], ids=["spawned", "forked"])
def test_start_of_no_program(setup: object) -> None:
    with pytest.raises(HostError, match="no program no-such-program"):
        processes.start(["no-such-program"], setup=None if setup is None else lambda: None)


def test_log_that_cannot_be_opened() -> None:
    with pytest.raises(KernelError, match="open /no/such/log"):
        processes.start(["true"], log="/no/such/log")


@pytest.mark.root
@pytest.mark.usefixtures("lab")
class TestInNamespaces:
    def test_it_runs_where_it_is_told_and_the_caller_stays(self) -> None:
        with netns.returning():
            os.close(netns.create("a"))
        home = inode("/proc/thread-self/ns/net")
        there = f"net:[{inode('/run/netns/a')}]"
        assert processes.run(["readlink", "/proc/self/ns/net"], "a").stdout.decode().strip() == there
        for setup in (None, lambda: None):
            pid = processes.start(["sleep", "60"], "a", setup=setup)
            try:
                assert str(Path(f"/proc/{pid}/ns/net").readlink()) == there
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        assert inode("/proc/thread-self/ns/net") == home

    def test_no_such_namespace(self) -> None:
        with pytest.raises(KernelError, match="open network namespace nowhere"):
            processes.run(["true"], "nowhere")
