"""The host's own network namespace is the same before and after each command, whatever the command does to the lab."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 80, hostPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}], sessionAffinity: ClientIP}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: c, image: host/sleep, args: ["1000"]}]}
"""
DATABASE = "{apiVersion: v1, kind: Pod, metadata: {name: db}, spec: {containers: [{name: c, image: x}]}}"
FILE = ("-f", "-")

# Everything that makes something in a kernel, and what only reads: command, standard input, exit code.
COMMANDS: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (("plan", *FILE), MANIFESTS, 0),
    (("up", *FILE), MANIFESTS, 0),
    (("up", *FILE), MANIFESTS, 0),
    (("check",), "", 0),
    (("probe", "client", "svc/web"), "", 0),
    (("probe", "external/client", "node/node1", "--port", "30080"), "", 0),
    (("exec", "client", "--", "sh", "-c", "ip link add d0 type bridge && ip link del d0"), "", 0),
    (("exec", "node/node1", "--", "sysctl", "-q", "-w", "net.ipv4.ip_default_ttl=65"), "", 0),
    (("status",), "", 0),
    (("get", "pods", "-A"), "", 0),
    (("apply", *FILE), DATABASE, 0),
    (("scale", "deploy/web", "--replicas", "3"), "", 0),
    (("scale", "deploy/web", "--replicas", "1"), "", 0),
    (("label", "pod", "db", "app=web"), "", 0),
    (("set-ready", "db", "false"), "", 0),
    (("exec", "node/node1", "--", "ip", "route", "del", "default"), "", 0),
    (("status",), "", 1),
    (("up", *FILE), MANIFESTS, 0),
    (("delete", "service", "web"), "", 0),
    (("list",), "", 0),
    (("doctor",), "", 0),
    (("down",), "", 0),
    (("up", *FILE), MANIFESTS.replace("replicas: 2", "replicas: -1"), 2),
    (("down",), "", 0),
)
MODES = {
    "iptables, vxlan, both families": ("--backend", "vxlan", "--ip-family", "dual"),
    "nftables, routes": ("--proxy-mode", "nftables"),
}


@pytest.mark.parametrize("options", [pytest.param(options, id=mode) for mode, options in MODES.items()])
def test_each_command_leaves_the_host_as_it_was(
    options: tuple[str, ...], run: Any, lab_name: Callable[[], str], host_changes: Callable[[], list[str]]
) -> None:
    name = lab_name()
    for (command, *words), stdin, code in COMMANDS:
        topology = options if command in ("up", "plan") else ()
        chosen = () if command in ("list", "doctor", "plan") else ("--lab", name) if command != "down" else (name,)
        done = run(command, *chosen, *topology, *words, stdin=stdin)
        assert done.returncode == code, f"{command} {words}: {done.stderr}{done.stdout}"
        assert host_changes() == [], f"after {command} {' '.join(words)}"


@pytest.mark.parametrize("options", [pytest.param(options, id=mode) for mode, options in MODES.items()])
def test_so_does_a_killed_lab(
    options: tuple[str, ...], run: Any, lab_name: Callable[[], str], host_changes: Callable[[], list[str]]
) -> None:
    name = lab_name()
    assert run("up", "--lab", name, *options, *FILE, stdin=MANIFESTS).returncode == 0
    pid = json.loads(run("status", "--lab", name, "-o", "json").stdout)["pid"]
    assert host_changes() == []
    holder = os.pidfd_open(pid)
    signal.pidfd_send_signal(holder, signal.SIGKILL)
    assert select.select([holder], [], [], 10)[0]
    os.close(holder)
    assert host_changes() == []
    assert run("down", name).returncode == 0
    assert host_changes() == []
