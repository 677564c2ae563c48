"""The commands as a user runs them: a lab comes up, is proven by packets, equals its plan, and goes without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
SCENARIOS = Path(__file__).parents[2] / "scenarios"

MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx, ports: [{containerPort: 8080}]}]}
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Run]:
    """`lab(command, …)` runs k8snetlab on a lab of this test's own, which is gone afterwards."""
    name = f"cli{os.getpid()}-{abs(hash(request.node.name)) % 100000}"
    monkeypatch.setenv("K8SNETLAB_RUN_DIR", str(tmp_path / "run"))

    def run(command: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "k8snetlab", command, "--lab", name, *words]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=120)

    yield run
    run("down")


@pytest.mark.root
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="host-gw"),
        pytest.param(("--backend", "vxlan"), id="vxlan"),
        pytest.param(("--ip-family", "ipv6"), id="ipv6"),
        pytest.param(("--ip-family", "dual", "--backend", "vxlan"), id="dual-vxlan"),
        pytest.param(("--proxy-mode", "nftables"), id="nftables"),
    ],
)
def test_a_lab_is_what_was_planned_and_every_check_passes(lab: Run, options: tuple[str, ...]) -> None:
    made = lab("up", "-f", "-", "-o", "json", *options, stdin=MANIFESTS)
    assert made.returncode == 0, made.stderr
    answer = json.loads(made.stdout)
    assert set(answer) == {"lab", "nodes", "pods", "services", "changed", "seconds"}
    assert (answer["nodes"], answer["pods"], answer["services"]) == (3, 3, 2)
    status = lab("status", "-o", "json")
    assert json.loads(status.stdout)["drift"] == {"missing": [], "extra": []}
    assert status.returncode == 0
    checked = lab("check", "-o", "json")
    found = json.loads(checked.stdout)
    assert [each for each in found["checks"] if not each["passed"]] == []
    assert set(found) == {"lab", "passed", "failed", "skipped", "checks"}
    assert set(found["checks"][0]) == {
        "type", "name", "from", "to", "protocol", "port", "expected", "observed", "source", "passed", "reason",
    }  # fmt: skip
    assert {"refused", "ok"} == {each["observed"] for each in found["checks"]}
    again = json.loads(lab("up", "-f", "-", "-o", "json", *options, stdin=MANIFESTS).stdout)
    assert again["changed"] == {"created": 0, "deleted": 0, "updated": 0}


@pytest.mark.root
def test_drift_is_shown_and_mended(lab: Run) -> None:
    assert lab("up", "-f", "-", stdin=MANIFESTS).returncode == 0
    lab("exec", "node/node1", "--", "ip", "route", "del", "10.244.1.0/24")
    lab("exec", "node/node2", "--", "iptables", "-t", "nat", "-F", "KUBE-SERVICES")
    lab("exec", "node/node3", "--", "ip", "link", "set", "cni0", "address", "0a:58:0a:f4:02:99")
    assert lab("status").returncode == 1
    assert lab("check").returncode == 1
    assert lab("up", "-f", "-", stdin=MANIFESTS).returncode == 0
    assert lab("status").returncode == 0
    assert lab("check").returncode == 0


@pytest.mark.root
def test_a_running_lab_is_changed(lab: Run) -> None:
    lab("up", "-f", "-", stdin=MANIFESTS)
    assert lab("scale", "deploy/web", "--replicas", "5").returncode == 0
    pods = json.loads(lab("get", "pods", "-o", "json").stdout)["items"]
    assert len(pods) == 5
    name = pods[0]["metadata"]["name"]
    assert lab("set-ready", name, "false").returncode == 0
    endpoints = json.loads(lab("get", "endpoints", "web", "-o", "json").stdout)
    ready = {address["ip"] for subset in endpoints["subsets"] for address in subset.get("addresses", ())}
    assert pods[0]["status"]["podIP"] not in ready
    # The unready one is the first to go, and who comes in its place is another pod.
    assert lab("scale", "deploy/web", "--replicas", "4").returncode == 0
    assert lab("get", "pod", name).returncode == 2
    assert lab("scale", "deploy/web", "--replicas", "5").returncode == 0
    endpoints = json.loads(lab("get", "endpoints", "web", "-o", "json").stdout)
    assert sum(len(subset.get("addresses", ())) for subset in endpoints["subsets"]) == 5
    assert lab("delete", "service", "none").returncode == 0
    assert lab("status").returncode == 0
    assert lab("check").returncode == 0


@pytest.mark.root
def test_exec_and_probe(lab: Run) -> None:
    lab("up", "-f", "-", stdin=MANIFESTS)
    assert lab("exec", "deploy/web", "--", "sh", "-c", "exit 7").returncode == 7
    assert "10.96.0.10" in lab("exec", "deploy/web", "--", "cat", "/etc/resolv.conf").stdout
    probed = lab("probe", "external/client", "node/node1", "--port", "80", "-o", "json")
    assert json.loads(probed.stdout)["results"][0]["outcome"] == "refused"
    assert probed.returncode == 1
    answered = json.loads(lab("probe", "deploy/web", "svc/web", "--count", "3", "-o", "json").stdout)
    assert {result["outcome"] for result in answered["results"]} == {"ok"}
    assert set(answered["results"][0]) == {"outcome", "rtt_ms", "server", "source", "reason"}
    unknown = lab("probe", "web-nobody", "svc/web")
    assert unknown.returncode == 2
    assert "no pod default/web-nobody" in unknown.stderr


PROGRAM = """
apiVersion: v1
kind: Pod
metadata: {name: real, labels: {app: real}}
spec:
  containers:
    - name: server
      image: host/python3
      args:
        - -c
        - |
          import socket
          server = socket.create_server(("", 8080))
          while True:
              server.accept()[0].sendall(socket.gethostname().encode())
      ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: real}
spec: {selector: {app: real}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 9, protocol: SCTP}]}]}
"""


@pytest.mark.root
def test_a_program_of_the_host_runs_in_its_pod(lab: Run) -> None:
    made = lab("up", "-f", "-", stdin=PROGRAM)
    assert made.returncode == 0, made.stderr
    assert lab("status").returncode == 0
    asking = "import socket, sys; sys.stdout.write(socket.create_connection((sys.argv[1], 80)).recv(99).decode())"
    address = json.loads(lab("get", "service", "real", "-o", "json").stdout)["spec"]["clusterIP"]
    assert lab("exec", "client", "--", sys.executable, "-c", asking, address).stdout == "real"
    checked = json.loads(lab("check", "-o", "json").stdout)
    assert [each for each in checked["checks"] if not each["passed"]] == []


@pytest.mark.root
def test_scenarios_pass() -> None:
    argv = [sys.executable, "-m", "k8snetlab", "test", str(SCENARIOS)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout


def test_wrong_input_is_refused_with_file_and_line(tmp_path: Path, lab: Run) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{protcol: TCP, port: 80}]\n"
    )
    refused = lab("plan", "-f", str(file))
    assert refused.returncode == 2
    said = f"{file}:5: Service default/web: spec.ports[0].protcol: unknown field; did you mean protocol?"
    assert said in refused.stderr
    assert refused.stdout == ""
