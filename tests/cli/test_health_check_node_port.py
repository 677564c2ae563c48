"""healthCheckNodePort: what a load balancer is told of each node (conformance 1.8 #8, 1.10 #8, #14)."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from k8snetlab.cluster import names
from k8snetlab.kernel.netns import inside

pytestmark = pytest.mark.root

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30900
  selector: {app: web}
  ports:
  - {name: a, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: b, port: 81, targetPort: 8080, nodePort: 30081}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec: {nodeName: NODE, containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
"""
PODS = [("one", "node1"), ("two", "node1"), ("three", "node2")]
MANIFESTS = "---".join(
    [
        "\napiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {nodes: 3}\n",
        SERVICE,
        *(POD.replace("NAME", name).replace("NODE", node) for name, node in PODS),
    ]
)
KILL = "kill -9 $(cut -d' ' -f1 /run/k8snetlab/podserver.pid)"
NODE1, NODE2, NODE3 = "172.18.0.2", "172.18.0.3", "172.18.0.4"


class Lab:
    def __init__(self, run: Any, name: str) -> None:
        self._run, self.name = run, name
        self("up", "-f", "-", stdin=MANIFESTS)

    def __call__(self, command: str, *words: str, stdin: str = "", code: int = 0) -> str:
        done = self._run(command, "--lab", self.name, *words, stdin=stdin)
        assert done.returncode == code, done.stderr
        text: str = done.stdout
        return text

    def pid(self) -> str:
        return str(json.loads(self("status", "-o", "json"))["pid"])

    def connect(self, address: str) -> HTTPConnection:
        """A connection of the balancer, which is outside, to a node's health check port."""
        connection = HTTPConnection(address, 30900, timeout=5)
        with inside(f"{self.name}.{names.CLIENT}"):
            connection.connect()
        return connection

    def ask(self, address: str) -> tuple[int, int, str]:
        connection = self.connect(address)
        try:
            return judge(get(connection))
        finally:
            connection.close()


def get(connection: HTTPConnection, path: str = "/") -> tuple[HTTPResponse, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response, response.read()


def judge(found: tuple[HTTPResponse, bytes]) -> tuple[int, int, str]:
    """Status, how many local endpoints the body tells, and the weight in the header."""
    response, body = found
    return response.status, json.loads(body)["localEndpoints"], response.headers["X-Load-Balancing-Endpoint-Weight"]


@pytest.fixture(name="lab", scope="module")
def lab_fixture(shared_run: Any, lab_name: Callable[[], str]) -> Lab:
    return Lab(shared_run, lab_name())


@pytest.mark.parametrize("path", ["/", "/healthz", "/hostname"])
def test_the_words_are_kube_proxys(lab: Lab, path: str) -> None:
    connection = lab.connect(NODE1)
    response, body = get(connection, path)
    connection.close()
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["X-Load-Balancing-Endpoint-Weight"] == "2"
    assert json.loads(body) == {
        "service": {"namespace": "default", "name": "web"},
        "localEndpoints": 2,  # two pods, however many ports
        "serviceProxyHealthy": True,
    }
    assert body.startswith(b'{\n\t"service": {\n\t\t"namespace": "default",')


def test_each_node_speaks_for_itself(lab: Lab) -> None:
    assert lab.ask(NODE1) == (200, 2, "2")
    assert lab.ask(NODE2) == (200, 1, "1")
    assert lab.ask(NODE3) == (503, 0, "0")


def test_it_follows_readiness_even_on_an_open_connection(lab: Lab) -> None:
    connection = lab.connect(NODE2)
    assert judge(get(connection)) == (200, 1, "1")
    lab("set-ready", "three", "false")
    assert judge(get(connection)) == (503, 0, "0")
    lab("set-ready", "three", "true")
    assert judge(get(connection)) == (200, 1, "1")
    connection.close()


def test_terminating_endpoints_serve_but_do_not_count(lab: Lab) -> None:
    """TERM.6: the balancer is sent away while what still arrives is answered."""
    leaving = (
        POD.replace("NAME", "three")
        .replace("NODE", "node2")
        .replace("name: three,", 'name: three, deletionTimestamp: "2024-01-01T00:00:00Z",')
    )
    lab("apply", "-f", "-", stdin=leaving)
    assert lab.ask(NODE2) == (503, 0, "0")
    found = json.loads(lab("probe", "external/client", "node/node2", "--port", "30080", "-o", "json"))
    assert [(each["outcome"], each["server"]) for each in found["results"]] == [("ok", "default/three")]
    lab("apply", "-f", "-", stdin=MANIFESTS)
    assert lab.ask(NODE2) == (200, 1, "1")


def test_a_server_that_was_killed_is_drift_and_comes_back(lab: Lab) -> None:
    assert json.loads(lab("status", "-o", "json"))["drift"] == {"missing": [], "extra": []}
    with subprocess.Popen(["nsenter", "-t", lab.pid(), "-m", "-p", "sh", "-c", KILL]) as killer:
        assert killer.wait() == 0
    drift = json.loads(lab("status", "-o", "json", code=1))["drift"]
    assert [each["port"] for each in drift["missing"] if each["type"] == "HealthCheck"] == [30900] * 3
    lab("up", "-f", "-", stdin=MANIFESTS)
    assert lab.ask(NODE1) == (200, 2, "2")


def test_with_the_policy_the_port_goes_and_comes(lab: Lab) -> None:
    """LB.14: switching to Cluster frees the port."""
    cluster = SERVICE.replace("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster")
    lab("apply", "-f", "-", stdin=cluster.replace("  healthCheckNodePort: 30900\n", ""))
    with pytest.raises(ConnectionRefusedError), inside(f"{lab.name}.{names.CLIENT}"):
        socket.create_connection((NODE1, 30900), timeout=5)
    lab("apply", "-f", "-", stdin=SERVICE)
    assert lab.ask(NODE1) == (200, 2, "2")
