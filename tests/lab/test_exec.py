"""Programs run as a pod's: what they see, and how they end."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k8snetlab.errors import KernelError, LabError
from k8snetlab.kernel.identity import Identity
from k8snetlab.lab import holder
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.exec import NotStartedError, execute
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked

pytestmark = pytest.mark.root

API = Identity("api-0", "nameserver 10.96.0.10\n", "127.0.0.1\tlocalhost\n10.244.0.2\tapi-0\n")
SHOW = "hostname; cat /etc/hostname /etc/resolv.conf /etc/hosts"
SHOWN = f"api-0\napi-0\n{API.resolv_conf}{API.hosts}"


@pytest.fixture
def lab(running: Holder) -> Holder:
    """A lab with the namespace shop_api."""
    run_in(running, add_namespace)
    return running


def add_namespace() -> None:
    subprocess.run(["ip", "netns", "add", "shop_api"], check=True)
    subprocess.run(["ip", "-n", "shop_api", "link", "add", "eth0", "type", "bridge"], check=True)


def output(lab: Holder, *argv: str) -> str:
    done = subprocess.run(script(lab, list(argv)), capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_sees_its_own_files_and_name(lab: Holder) -> None:
    before = [Path("/etc", name).read_bytes() for name in ("resolv.conf", "hosts", "hostname")]
    mounts = Path("/proc/self/mounts").read_text()
    assert output(lab, "sh", "-c", SHOW) == SHOWN
    assert [Path("/etc", name).read_bytes() for name in ("resolv.conf", "hosts", "hostname")] == before
    assert Path("/proc/self/mounts").read_text() == mounts
    assert os.uname().nodename != "api-0"


def test_sees_its_own_network_and_processes(lab: Holder) -> None:
    assert output(lab, "ls", "/sys/class/net").split() == ["eth0", "lo"]
    assert output(lab, "sh", "-c", "cat /proc/1/cmdline") == "sleep\0infinity\0"
    assert output(lab, "ls", "/run/k8snetlab").split() == ["hostname", "hosts", "resolv.conf"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("rm /etc/resolv.conf /etc/hostname", id="missing"),
        pytest.param("ln -sfn ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf", id="symlink into run"),
        pytest.param("ln -sfn /nowhere/resolv.conf /etc/resolv.conf", id="symlink to nothing"),
        pytest.param("cp /etc/resolv.conf /etc/real; ln -sfn real /etc/resolv.conf", id="symlink to a file"),
    ],
)
def test_whatever_the_hosts_etc_is_like(lab: Holder, damage: str) -> None:
    """A copy of /etc stands in the lab for a host of that kind."""
    copy = f"mkdir /run/etc; cp -a /etc/. /run/etc/; mount --bind /run/etc /etc; {damage}; ls -A /etc | wc -l"
    entries = int(run_in(lab, lambda: subprocess.check_output(["sh", "-euc", copy])))
    assert output(lab, "sh", "-c", SHOW) == SHOWN
    assert output(lab, "sh", "-c", "getent passwd root").startswith("root:")
    assert int(run_in(lab, lambda: len(list(Path("/run/etc").iterdir())))) == entries


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        pytest.param(["true"], 0, id="zero"),
        pytest.param(["sh", "-c", "exit 7"], 7, id="seven"),
        pytest.param(["sh", "-c", "kill -9 $$"], 137, id="killed"),
        pytest.param(["sh", "-c", "kill -TERM $$"], 143, id="terminated"),
    ],
)
def test_exit_code(lab: Holder, argv: list[str], code: int) -> None:
    assert execute(lab, "shop_api", API, argv) == code


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        pytest.param("no-such-program", 127, "no-such-program: command not found", id="not found"),
        pytest.param("/etc/hostname.not", 127, "/etc/hostname.not: command not found", id="no such file"),
        pytest.param("/etc", 126, "/etc: Permission denied", id="not executable"),
    ],
)
def test_not_started(lab: Holder, program: str, code: int, message: str) -> None:
    with pytest.raises(NotStartedError) as raised:
        execute(lab, "shop_api", API, [program])
    assert (raised.value.exit_code, str(raised.value)) == (code, message)


def test_errors_before_the_program(lab: Holder) -> None:
    with pytest.raises(KernelError, match="shop_nobody"):
        execute(lab, "shop_nobody", API, ["true"])
    with locked(lab.lab):
        holder.stop(lab)
    with pytest.raises(LabError, match="has ended"):
        execute(lab, "shop_api", API, ["true"])


def script(lab: Holder, argv: list[str]) -> list[str]:
    """The command line of a Python that executes `argv` as the CLI does, for tests that need another process."""
    text = (
        "import sys; from k8snetlab.lab import exec, holder; from k8snetlab.kernel.identity import Identity\n"
        f"sys.exit(exec.execute(holder.find({lab.lab!r}), 'shop_api', {API!r}, {argv!r}))"
    )
    return [sys.executable, "-c", text]


def test_input_output_and_directory(lab: Holder, tmp_path: Path) -> None:
    done = subprocess.run(
        script(lab, ["sh", "-c", "cat; pwd; echo problem >&2"]),
        input="hello\n", capture_output=True, text=True, cwd=tmp_path, check=True, timeout=20,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"hello\n{tmp_path}\n", "problem\n")


def test_a_broken_pipe_ends_it(lab: Holder) -> None:
    """`exec … -- yes | head -1`: the program must find SIGPIPE as a shell leaves it, not ignored as Python has it."""
    with subprocess.Popen(script(lab, ["yes"]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(2)
        process.stdout.close()
        assert process.wait(10) == 128 + signal.SIGPIPE


def test_term_is_handed_on(lab: Holder) -> None:
    trap = ["sh", "-c", "trap 'echo got; exit 5' TERM; echo ready; sleep 1000 >/dev/null & wait"]
    with subprocess.Popen(script(lab, trap), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "got\n"
        assert process.wait(10) == 5
        run_in(lab, end_sleeps)


def end_sleeps() -> None:
    for process in Path("/proc").glob("[0-9]*"):
        if process.name != "1" and (process / "cmdline").read_bytes() == b"sleep\0001000\0":
            os.kill(int(process.name), signal.SIGKILL)


def test_the_callers_death_ends_it(lab: Holder) -> None:
    with subprocess.Popen(script(lab, ["sh", "-c", "echo ready; exec sleep 1000"]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        assert process.stdout.read() == b""  # nobody has it open any more


def test_a_terminal_stays_a_terminal(lab: Holder) -> None:
    """An interactive shell takes the terminal and gives it back; Ctrl-C reaches the program and not the caller."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(
            sys.executable,
            script(lab, ["sh", "-c", "trap 'echo in''terrupted' INT; echo re''ady; read x; tty; exit 3"]),
        )
    try:
        assert "ready" in read_until(terminal, "ready")
        os.write(terminal, b"\x03")
        read_until(terminal, "interrupted")
        os.write(terminal, b"go\n")
        read_until(terminal, "/dev/")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    finally:
        os.close(terminal)


def read_until(terminal: int, word: str) -> str:
    text = ""
    while word not in text:
        assert select.select([terminal], [], [], 10)[0], f"waited for {word!r}, got {text!r}"
        text += os.read(terminal, 4096).decode()
    return text


def test_is_quick(lab: Holder) -> None:
    times = []
    for _ in range(15):
        started = time.perf_counter()
        execute(lab, "shop_api", API, ["true"])
        times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 2] < 0.05
