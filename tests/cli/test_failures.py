"""How it must fail: a host that lacks something, and commands that are interrupted or killed at any moment."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
SMALL = PODS.replace("REPLICAS", "6")


def test_a_full_pod_range(run: Any, lab_name: Callable[[], str]) -> None:
    name = lab_name()
    done = run("up", "--lab", name, "-f", "-", "--nodes", "1", stdin=PODS.replace("REPLICAS", "254"))
    assert done.returncode == 2
    # For one of them there is none anyway; how many are named depends on the pods of the cluster's DNS.
    assert "-:2: Deployment default/web: no address left for" in done.stderr
    assert "use more nodes, or a smaller nodeCIDRMaskSize" in done.stderr
    assert run("list", "-o", "json").stdout == "[]\n"


def test_an_unwritable_run_directory(run: Any, lab_name: Callable[[], str]) -> None:
    done = run("up", "--lab", lab_name(), "-f", "-", stdin=SMALL, K8SNETLAB_RUN_DIR="/proc/k8snetlab")
    assert done.returncode == 3
    assert "cannot write the run directory /proc/k8snetlab" in done.stderr
    assert "K8SNETLAB_RUN_DIR" in done.stderr


def test_no_iptables(run: Any, lab_name: Callable[[], str], tmp_path: Path) -> None:
    """In a mount namespace of its own, where only the programs of iptables are missing."""
    hide = (
        'for p in /usr/sbin/* ; do case $p in */iptables*|*/ip6tables*|*/xtables*) mount --bind "$0" "$p";; esac; done;'
        ' exec "$@"'
    )
    nothing = tmp_path / "nothing"
    nothing.touch(mode=0o644)
    prefix = ("unshare", "--mount", "sh", "-euc", hide, str(nothing))
    done = run("up", "--lab", lab_name(), "-f", "-", stdin=SMALL, prefix=prefix)
    assert done.returncode == 3
    assert done.stderr.startswith(
        "error: this host has no nf_tables variant of iptables-restore\nhint: install iptables"
    )
    assert run("list", "-o", "json").stdout == "[]\n"


def test_a_host_that_uses_the_pods_subnet_itself(run: Any, lab_name: Callable[[], str]) -> None:
    """What the host has in its own namespace is none of the lab's business."""
    occupied = (
        "ip link set lo up; ip link add cni0 type bridge; ip link set cni0 up; ip address add 10.244.0.1/16 dev cni0;"
        ' ip address add 172.18.0.2/16 dev cni0; ip route add blackhole 10.96.0.0/12; exec "$@"'
    )
    prefix = ("unshare", "--net", "sh", "-euc", occupied, "sh")
    name = lab_name()
    assert run("up", "--lab", name, "-f", "-", stdin=SMALL, prefix=prefix).returncode == 0
    assert run("check", "--lab", name, prefix=prefix).returncode == 0
    assert run("down", name, prefix=prefix).returncode == 0


RANDOM = random.Random(20261125)
# An `up` takes some 400 ms on a quiet machine: interpreter and YAML, then the holder, then the kernel's objects.
MOMENTS = [round(RANDOM.uniform(0.02, 0.7), 3) for _ in range(7)]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL", "the lab"])
@pytest.mark.parametrize("seconds", MOMENTS)
def test_up_ended_at_any_moment(
    how: str, seconds: float, run: Any, lab_name: Callable[[], str], tmp_path: Path
) -> None:
    """Whatever is there then, the next command puts right."""
    name, directory = lab_name(), tmp_path / "run"
    environment = os.environ | {"K8SNETLAB_RUN_DIR": str(directory)}
    argv = [sys.executable, "-m", "k8snetlab", "up", "--lab", name, "-f", "-"]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        process_group=0,
    ) as up:
        assert up.stdin is not None
        up.stdin.write(SMALL)
        up.stdin.close()
        up.stdin = None
        pidfd = os.pidfd_open(up.pid)
        select.select([pidfd], [], [], seconds)
        os.close(pidfd)
        end(how, up.pid, directory / name / "holder")
        _, said = up.communicate(timeout=60)
    if how == "Ctrl-C" and up.returncode:
        # Before any line of ours has run, Python itself ends with a traceback and 1.
        assert up.returncode in (130, -signal.SIGINT) or "/k8snetlab/" not in said, said
        # The lab goes again (the janitor may be at it still), or it was whole already when the interruption came.
        if run("status", "--lab", name).returncode != 0:
            await_no(lambda: published(name))
    if seconds > sorted(MOMENTS)[len(MOMENTS) // 2]:
        assert run("up", "--lab", name, "-f", "-", stdin=SMALL).returncode == 0
        assert run("status", "--lab", name).returncode == 0
    assert run("down", name).returncode == 0
    await_no(lambda: published(name) or list(directory.rglob("*")))


def end(how: str, pid: int, holder: Path) -> None:
    """As a terminal interrupts: the whole group. The rest: one process, which may have ended already."""
    try:
        if how == "Ctrl-C":
            os.killpg(pid, signal.SIGINT)
        elif how == "the lab":
            os.kill(int(holder.read_text().split()[0]), signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError, IndexError):
        return


def published(name: str) -> list[str]:
    directory = Path("/run/netns")
    return sorted(path.name for path in directory.glob(f"{name}.*")) if directory.is_dir() else []


def await_no(what: Callable[[], Any]) -> None:
    """A holder whose starter was killed before it was written down ends by itself: nobody can wait for it."""
    deadline = time.monotonic() + 10
    while found := what():
        assert time.monotonic() < deadline, found
        select.select([], [], [], 0.02)


def test_two_ups_at_once(run: Any, lab_name: Callable[[], str], tmp_path: Path) -> None:
    """One waits for the other, says so, and finds nothing left to do."""
    name = lab_name()
    argv = [sys.executable, "-m", "k8snetlab", "up", "--lab", name, "-o", "json", "-f", "-"]
    environment = os.environ | {"K8SNETLAB_RUN_DIR": str(tmp_path / "run")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    ups = [subprocess.Popen(argv, env=environment, text=True, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for up in ups:
        up.stdin.write(SMALL)
        up.stdin.close()
        up.stdin = None
    told = [up.communicate(timeout=60) for up in ups]
    assert [up.returncode for up in ups] == [0, 0, 0], told
    created = sorted(json.loads(stdout)["changed"]["created"] for stdout, _ in told)
    assert created[:2] == [0, 0]
    assert created[2] > 50
    assert run("status", "--lab", name).returncode == 0
