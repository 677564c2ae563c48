"""IPVS mode in the lab's other networks, families and schedulers: what was planned is there, and every check passes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

pytestmark = pytest.mark.vm

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
metadata: {{name: variant}}
spec: {{nodes: 2, kubeProxyMode: ipvs, {lab}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: nginx, ports: [{{containerPort: 8080}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {{app: web}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
  - {{name: dns, port: 53, targetPort: 5353, protocol: UDP}}
  - {{name: sctp, port: 90, targetPort: 9000, protocol: SCTP}}
---
apiVersion: v1
kind: Service
metadata: {{name: none}}
spec: {{ipFamilyPolicy: PreferDualStack, selector: {{app: nobody}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{containers: [{{name: client, image: nginx}}]}}
"""


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True, scope="module")
def _gone_at_the_end(run: Run) -> Iterator[None]:
    yield
    run("down", "--all")


@pytest.mark.parametrize(
    "lab",
    [
        pytest.param("backend: vxlan", id="vxlan"),
        pytest.param("ipFamily: ipv6", id="ipv6"),
        pytest.param("ipFamily: dual, backend: vxlan", id="dual-vxlan"),
    ],
)
def test_network(run: Run, lab: str) -> None:
    """From the second one on, a running lab turns into another: of the old family no rule, set or server may stay."""
    made = run("up", "-f", "-", stdin=MANIFESTS.format(lab=lab))
    assert made.returncode == 0, made.stderr
    assert json.loads(run("status", "-o", "json").stdout)["drift"] == {"missing": [], "extra": []}
    found = json.loads(run("check", "-o", "json").stdout)
    assert [check for check in found["checks"] if not check["passed"]] == []
    assert found["passed"] > 30


@pytest.mark.parametrize(
    "scheduler", ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "fo", "ovf", "mh"]
)
def test_scheduler(run: Run, scheduler: str) -> None:
    """From the second one on, a running lab's virtual servers change their scheduler in place."""
    made = run("up", "-f", "-", "-o", "json", stdin=MANIFESTS.format(lab=f"ipvsScheduler: {scheduler}"))
    assert made.returncode == 0, made.stderr
    assert run("status").returncode == 0
    answered = run("probe", "pod/client", "svc/web", "--port", "80", "--count", "3")
    assert answered.returncode == 0, answered.stdout


def test_a_scheduler_that_is_not_there_is_named(run: Run) -> None:
    run("down", "--all")
    made = run("up", "-f", "-", stdin=MANIFESTS.format(lab="ipvsScheduler: nosuch"))
    assert made.returncode == 3
    assert "no IPVS scheduler nosuch" in made.stderr
    assert "modprobe ip_vs_nosuch" in made.stderr
    assert run("list", "-o", "name").stdout == ""
