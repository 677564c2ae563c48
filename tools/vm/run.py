#!/usr/bin/env python3
"""Run a command as root under the test guest's kernel, with this machine's files: `tools/vm/run.py COMMAND...`.

The guest is User-Mode Linux, a process (see `build`): it boots in about a second and has no network card. Run this as
root: the guest sees the host's files with the rights of who runs it. The command's output streams to stdout, both
streams in one; the exit status is the command's, 124 when it took too long, 125 when the guest died without a result.
All that it writes is gone with the guest, except what is in the directory $VM_OUT, kept with --out.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k8snetlab" / "uml"
PASSED_ON = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST_ADDOPTS", "CI")
TIMED_OUT, DIED, INTERRUPTED = 124, 125, 130
CONSOLE_TAIL = 40


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", type=Path, default=CACHE, metavar="DIR", help="where `build` has put it")
    parser.add_argument("--memory", default="2G", help="the guest's; taken as it is used")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep what the command leaves in $VM_OUT here")
    parser.add_argument("--console", action="store_true", help="show the kernel's messages at the end")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    chosen.command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not chosen.command:
        parser.error("no command")
    if not (chosen.kernel / "linux.uml").exists():
        parser.exit(DIED, f"vm: no kernel in {chosen.kernel}: tools/vm/build makes it\n")
    return chosen


def main() -> int:
    chosen = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    run = Path(tempfile.mkdtemp(prefix="k8snetlab-vm.", dir="/var/tmp"))
    try:
        write_command(run, chosen.command)
        code = boot(chosen, run)
        if chosen.out and (run / "out").is_dir():
            shutil.copytree(run / "out", chosen.out, dirs_exist_ok=True)
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        shutil.rmtree(run, ignore_errors=True)


def write_command(run: Path, command: list[str]) -> None:
    """What init runs: the environment, the working directory, the command."""
    (run / "out").mkdir()
    names = [name for name in os.environ if name in PASSED_ON or name.startswith("K8SNETLAB_")]
    lines = [f"export {name}={shlex.quote(os.environ[name])}" for name in names]
    lines += [f"export K8SNETLAB_VM=uml VM_OUT={run}/out"]
    lines += [f"cd {shlex.quote(str(Path.cwd()))} || exit 126", f"exec {shlex.join(command)}"]
    (run / "command.sh").write_text("\n".join(lines) + "\n")


def boot(chosen: argparse.Namespace, run: Path) -> int:
    """Run the guest to its end and return what its command returned."""
    # One processor is all that User-Mode Linux has: kept on one of ours it is twice as fast at switching processes.
    os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
    # The guest's memory is a file in TMPDIR, which must not be mounted noexec, as containers mount /dev/shm.
    environment = {**os.environ, "TMPDIR": "/var/tmp"}
    console = run / "console"
    with console.open("wb") as messages:
        guest = subprocess.Popen(
            guest_command(chosen, run),
            stdin=subprocess.DEVNULL,
            stderr=messages,
            env=environment,
            start_new_session=True,
        )
        try:
            guest.wait(chosen.timeout)
        except subprocess.TimeoutExpired:
            complain(console, f"timed out after {chosen.timeout:g} s")
            return TIMED_OUT
        finally:
            guest.kill()  # unshare takes the guest's other processes along
            guest.wait()
    if chosen.console:
        sys.stderr.write(console.read_text(errors="replace"))
    try:
        return int((run / "exit-code").read_text())
    except (OSError, ValueError):
        complain(console, f"the guest ended without a result (status {guest.returncode})")
        return DIED


def guest_command(chosen: argparse.Namespace, run: Path) -> list[str]:
    return [
        # The guest goes when we go, even by SIGKILL, and its helper processes with it: they share a PID namespace.
        "setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--pid", "--kill-child", "--",
        # User-Mode Linux must not be PID 1 there: on panic it aborts, and a PID 1 ignores that.
        "sh", "-c", '"$@"; exit $?', "sh", str(chosen.kernel / "linux.uml"),
        f"mem={chosen.memory}", "umid=vm", f"uml_dir={run}/uml/", "quiet", "panic=-1",
        "rootfstype=hostfs", "rootflags=/", "ro", f"init={HERE}/init",
        f"vm.kernel={chosen.kernel.resolve()}", f"vm.run={run}", "con=null", "con0=null,fd:2", "con1=null,fd:1",
    ]  # fmt: skip


def complain(console: Path, what: str) -> None:
    tail = console.read_text(errors="replace").splitlines()[-CONSOLE_TAIL:]
    sys.stderr.write("\n".join((f"vm: {what}; the kernel's last words:", *tail)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
