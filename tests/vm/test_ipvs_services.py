"""ipvs mode where it differs from the others, or where a change must reach the flows that there are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.vm

Run = Callable[..., subprocess.CompletedProcess[str]]
Probe = Callable[..., list[dict[str, Any]]]
Ask = Callable[[], str]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec:
  nodeName: NODE
  containers: [{name: c, image: x, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]
"""
MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: NodePort
  clusterIP: 10.96.0.53
  selector: {app: web}
  ports: [{port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053}]
---
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {internalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: LoadBalancer
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  healthCheckNodePort: 30900
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---""" + "---".join(POD.replace("NAME", name).replace("NODE", node) for name, node in (("a", "node2"), ("b", "node3")))

# One connected UDP socket; a line on stdin sends a datagram, and who answered it is printed.
CLIENT = """
import json, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], int(sys.argv[2])))
sock.settimeout(2)
for line in sys.stdin:
    try:
        sock.send(b"who\\n")
        print(json.loads(sock.recv(4096))["pod"], flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture(scope="module", name="lab", autouse=True)
def lab_fixture(run: Run) -> Iterator[None]:
    made = run("up", "-f", "-", "--proxy-mode", "ipvs", stdin=MANIFESTS)
    assert made.returncode == 0, made.stderr
    yield
    assert run("down", "--all").returncode == 0


@contextmanager
def client(sender: str, address: str, port: int) -> Iterator[Ask]:
    argv = [sys.executable, "-m", "k8snetlab", "exec", sender, "--", "python3", "-c", CLIENT, address, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        write, read = process.stdin, process.stdout

        def ask() -> str:
            write.write("\n")
            write.flush()
            return read.readline().strip()

        yield ask
        write.close()


def test_every_check_passes_with_policies_local(run: Run) -> None:
    """LOCAL_WITHOUT_ENDPOINTS and LOCAL_SHORT_CIRCUIT: node1 has no endpoint, and the oracle knows what that means."""
    found = json.loads(run("check", "-o", "json").stdout)
    assert [check for check in found["checks"] if not check["passed"]] == []
    outcomes = {(c["type"], c["name"]): c["expected"] for c in found["checks"] if "both" in c["name"]}
    assert set(outcomes.values()) == {"ok", "timeout"}
    assert "refused" in {c["expected"] for c in found["checks"] if "default/inside" in c["name"]}


@pytest.mark.parametrize(
    ("sender", "address", "port"),
    [
        pytest.param("pod/client", "10.96.0.53", 53, id="pod-to-cluster-IP"),
        pytest.param("external/client", "172.18.0.2", 30053, id="outside-to-node-port"),
    ],
)
def test_a_replaced_udp_endpoint_loses_its_flows(run: Run, sender: str, address: str, port: int) -> None:
    assert run("set-ready", "b", "false").returncode == 0
    with client(sender, address, port) as ask:
        assert ask() == "a"
        assert run("set-ready", "b", "true").returncode == 0
        assert run("set-ready", "a", "false").returncode == 0
        # The kernel notices with the next packet that the backend is gone and drops it (expire_nodest_conn).
        assert [ask() for _ in range(3)][1:] == ["b", "b"]
    assert run("set-ready", "a", "true").returncode == 0
    assert run("status").returncode == 0


@pytest.mark.parametrize(("node", "status"), [("172.18.0.2", "503"), ("172.18.0.3", "200")])
def test_the_health_check_is_let_through(run: Run, node: str, status: str) -> None:
    words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", f"http://{node}:30900/"]
    assert run("exec", "external/client", "--", *words).stdout == status


def test_a_refused_backend_names_its_service(run: Run) -> None:
    """An endpoint that IPVS cannot have: the broadcast address. What there was stays."""
    slice_ = """
apiVersion: v1
kind: Service
metadata: {name: odd}
spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: odd-1, labels: {kubernetes.io/service-name: odd}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [255.255.255.255]}]
"""
    failed = run("apply", "-f", "-", stdin=slice_)
    assert failed.returncode == 3, failed.stderr
    assert "(Service default/odd, -:2)" in failed.stderr
    with client("pod/client", "10.96.0.53", 53) as ask:
        assert ask() in ("a", "b")
    assert run("up", "-f", "-", "--proxy-mode", "ipvs", stdin=MANIFESTS).returncode == 0
    assert run("status").returncode == 0
