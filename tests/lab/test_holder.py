"""The lab's process: what it is, and that nothing of it remains however it ends."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from k8snetlab.errors import HostError
from k8snetlab.kernel import syscalls
from k8snetlab.lab import holder, life, publish
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked
from k8snetlab.lab.start import start

pytestmark = pytest.mark.root


def remains(running: Holder, run_dir: Path) -> list[str]:
    """What of the lab the host still has."""
    found = [f"link {path.name}" for path in links(running.lab)]
    found += [f"file {path}" for path in run_dir.rglob("*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = (process / "ns/pid").readlink() if process.name != str(running.pid) else None
        except OSError:
            continue
        if inside is not None and str(inside) == str(namespaces_of.get(running.pid)):
            found.append(f"process {process.name}")
    return found


namespaces_of: dict[int, Path] = {}


def links(lab: str) -> list[Path]:
    directory = Path("/run/netns")
    return sorted(directory.glob(f"{lab}.*")) if directory.is_dir() else []


def populate(running: Holder) -> None:
    """A published namespace and a server, started by a process that has long ended."""
    namespaces_of[running.pid] = (running.root / "proc/1/ns/pid").readlink()
    run_in(running, _populate)
    publish.publish(running.lab, running.pid, ["node1"])


def _populate() -> None:
    subprocess.run(["ip", "netns", "add", "node1"], check=True)
    subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL).returncode = 0


def entries(directory: str) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def _inode() -> int:
    return Path("/run/netns/node1").stat().st_ino


def await_end(pid: int, start_time: int) -> None:
    with holder.open_process(pid, start_time) as pidfd:
        if pidfd is not None:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            assert poller.poll(5000), f"{pid} has not ended"


def test_lives_in_namespaces_of_its_own(running: Holder) -> None:
    for kind in ("mnt", "net", "pid", "ipc", "uts"):
        assert Path(f"/proc/{running.pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    assert Path(f"/proc/{running.pid}/cmdline").read_bytes() == b"sleep\0infinity\0"
    assert run_in(running, os.getpid) > 1
    assert run_in(running, entries, "/run") == ["k8snetlab", "lock", "netns"]
    assert run_in(running, entries, "/sys/class/net") == ["lo"]


def test_holds_no_descriptor_of_its_starter(running: Holder) -> None:
    open_files = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{running.pid}/fd").iterdir()}
    assert {open_files.pop(number) for number in "012"} == {"/dev/null"}
    assert [target.split(":")[0] for target in open_files.values()] == ["pipe"]  # to the janitor


def test_reaps_orphans(running: Holder) -> None:
    def orphan() -> int:
        reader, writer = os.pipe()
        if os.fork() == 0:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.write(writer, str(pid).encode())
            os._exit(0)
        os.wait()
        return int(os.read(reader, 16))

    pid = run_in(running, orphan)
    states = [path.read_text().split()[2] for path in (running.root / "proc").glob("[0-9]*/stat")]
    assert pid > 0
    assert "Z" not in states


def test_stop_leaves_nothing(running: Holder, run_dir: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    populate(running)
    assert len(links(running.lab)) == 1
    assert life.down(running.lab) is True
    assert remains(running, run_dir) == []
    assert Path("/proc/self/mounts").read_text() == before
    assert life.down(running.lab) is False


def test_kill_of_the_holder_leaves_nothing(running: Holder, run_dir: Path) -> None:
    populate(running)
    os.kill(running.pid, signal.SIGKILL)
    await_end(running.janitor, running.janitor_start)
    assert remains(running, run_dir) == []


def test_a_lab_survives_its_janitor(running: Holder, run_dir: Path) -> None:
    populate(running)
    os.kill(running.janitor, signal.SIGKILL)
    await_end(running.janitor, running.janitor_start)
    assert life.find(running.lab) == running
    assert run_in(running, entries, "/run/netns") == ["node1"]
    life.down(running.lab)
    assert remains(running, run_dir) == []


@pytest.mark.parametrize("command", ["list", "down", "up"])
def test_next_command_sweeps_when_both_were_killed(running: Holder, run_dir: Path, command: str) -> None:
    populate(running)
    for pid, started in ((running.janitor, running.janitor_start), (running.pid, running.start)):
        os.kill(pid, signal.SIGKILL)
        await_end(pid, started)
    assert len(remains(running, run_dir)) >= 3  # a link, the holder file, the lock
    if command == "list":
        assert life.labs() == ()
        assert remains(running, run_dir) == []
    elif command == "down":
        assert life.down(running.lab) is False
        assert remains(running, run_dir) == []
    else:
        with locked(running.lab):
            assert links(running.lab) == []
            again = start(running.lab)
            assert life.find(running.lab) == again != running


def test_a_pid_taken_by_somebody_else_is_not_the_lab(running: Holder) -> None:
    impostor = Holder(running.lab, os.getpid(), running.start)
    holder.write_holder(impostor)
    assert life.find(running.lab) is None
    holder.stop(impostor)  # must not kill this very process
    holder.write_holder(running)


def test_a_starter_can_be_captured(name: str) -> None:
    """The caller's pipes must not stay open in the lab: this would hang until the timeout."""
    script = f"from k8snetlab.lab import lock, start\nwith lock.locked({name!r}): start.start({name!r})\nprint('made')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "made\n"
    assert life.find(name) is not None


@pytest.mark.parametrize("call", ["unshare", "mount"])
def test_what_the_kernel_refuses_is_said(call: str, name: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the starting processes meets it: by then each has other descriptors."""

    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), call)

    monkeypatch.setattr(syscalls, call, refuse)
    with pytest.raises(HostError, match=f"Operation not permitted: '{call}'") as raised, locked(name):
        start(name)
    assert "run as root" in raised.value.hint
    assert list(run_dir.rglob("*")) == []


def test_published_namespaces_serve_ip_netns(running: Holder) -> None:
    populate(running)
    shown = subprocess.run(
        ["ip", "netns", "exec", f"{running.lab}.node1", "ip", "-br", "link"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split()[0] == "lo"
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"{running.lab}.node1" in listed
    publish.publish(running.lab, running.pid, [])
    assert links(running.lab) == []


def test_a_foreign_name_is_not_taken(running: Holder) -> None:
    publish.publish(running.lab, running.pid, ["node1"])
    foreign = Path(f"/run/netns/{running.lab}.node2")
    foreign.touch()
    try:
        with pytest.raises(HostError, match="not this lab's"):
            publish.publish(running.lab, running.pid, ["node1", "node2"])
        assert foreign.is_file()
    finally:
        foreign.unlink()


@pytest.mark.parametrize("kind", ["file in the way", "read-only"])
def test_unwritable_run_directory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    base = tmp_path / "file" / "run" if kind == "file in the way" else Path("/proc/k8snetlab")
    monkeypatch.setenv("K8SNETLAB_RUN_DIR", str(base))
    with pytest.raises(HostError, match="cannot write the run directory") as raised, locked("nowhere"):
        pass
    assert "K8SNETLAB_RUN_DIR" in raised.value.hint


def test_two_labs_share_no_namespace(running: Holder) -> None:
    other_name = f"{running.lab}-b"
    with locked(other_name):
        other = start(other_name)
        try:
            for lab in (running, other):
                run_in(lab, _populate)
            numbers = [run_in(lab, _inode) for lab in (running, other)]
            assert numbers[0] != numbers[1]
            assert [lab.lab for lab in life.labs()] == [running.lab, other_name]
        finally:
            holder.stop(other)


@pytest.mark.parametrize("moment", range(24))
def test_a_starter_killed_at_any_moment_leaves_nothing(
    moment: int, name: str, run_dir: Path, fork: Callable[..., int]
) -> None:
    """Killed while it starts the holder: either the lab is there, known and whole, or nothing of it is."""
    child = fork(lock_and_start, name)
    poller = select.poll()
    pidfd = os.pidfd_open(child)
    poller.register(pidfd, select.POLLIN)
    poller.poll(moment * 0.5)  # milliseconds
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pidfd)
    with locked(name):
        found = life.find(name)
        if found is not None:
            assert run_in(found, entries, "/run/netns") == []
    life.down(name)
    assert list(run_dir.rglob("*")) == []
    for janitor in janitors(name):  # one whose starter died before it wrote the holder file ends by itself
        await_end(janitor, holder.process_start(janitor) or 0)


def lock_and_start(lab: str) -> None:
    with locked(lab):
        start(lab)


def janitors(lab: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"k8snetlab-janitor" in arguments and any(word.endswith(f"/{lab}".encode()) for word in arguments):
            found.append(int(process.name))
    return found
