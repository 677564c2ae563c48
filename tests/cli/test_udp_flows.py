"""A UDP client that keeps its socket while the endpoints of its Service change (conformance 1.13), in every mode."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from k8snetlab.cluster import names

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: dns}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: dns}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: dns}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.53
  loadBalancerIP: 172.18.255.53
  externalIPs: [198.51.100.53]
  selector: {app: dns}
  ports: [{port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053}]
"""
MODES = [
    pytest.param("kubeProxyMode: iptables", id="iptables"),
    pytest.param("kubeProxyMode: nftables", id="nftables"),
    pytest.param("kubeProxyMode: nftables, nftablesLayout: flat", id="nftables-flat"),
]
# One connected socket; a line on stdin sends a datagram, and who answered it is printed.
CLIENT = """
import json, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], int(sys.argv[2])))
sock.settimeout(1)
for line in sys.stdin:
    try:
        sock.send(b"who\\n")
        print(json.loads(sock.recv(4096))["pod"], flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


POD = names.pod_netns("default", "client")


class Lab:
    def __init__(self, run: Any, name: str, lab_document: str) -> None:
        self._run, self.name = run, name
        self.manifests = MANIFESTS.replace("nodes: 2", f"nodes: 2, {lab_document}")
        self("up", "-f", "-", stdin=self.manifests)

    def __call__(self, command: str, *words: str, stdin: str = "", code: int = 0) -> str:
        done = self._run(command, "--lab", self.name, *words, stdin=stdin)
        assert done.returncode == code, done.stderr
        text: str = done.stdout
        return text

    def only(self, *ready: str) -> None:
        for pod in ("a", "b"):
            self("set-ready", pod, "true" if pod in ready else "false")

    @contextmanager
    def client(self, netns: str, address: str, port: int) -> Iterator[Callable[[], str]]:
        """`ask()` sends one more datagram from the same socket and says who answered."""
        argv = ["ip", "netns", "exec", f"{self.name}.{netns}", sys.executable, "-c", CLIENT, address, str(port)]
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


@pytest.fixture(name="lab", scope="module", params=MODES)
def lab_fixture(request: pytest.FixtureRequest, shared_run: Any, lab_name: Callable[[], str]) -> Lab:
    return Lab(shared_run, lab_name(), request.param)


def test_a_replaced_endpoint_loses_its_flows(lab: Lab) -> None:
    """CT.1, CT.3: the same socket, the same source port, and yet the new endpoint answers, whatever the address."""
    lab.only("a")
    with ExitStack() as stack:
        clients = {
            (netns, address): stack.enter_context(lab.client(netns, address, port))
            for netns, address, port in (
                (POD, "10.96.0.53", 53),
                ("node1", "10.96.0.53", 53),
                (POD, "172.18.0.3", 30053),
                (names.CLIENT, "172.18.0.2", 30053),
                (POD, "172.18.255.53", 53),
                (POD, "198.51.100.53", 53),
            )
        }
        assert {ask() for ask in clients.values()} == {"a"}
        lab("set-ready", "b", "true")  # an endpoint that comes takes nothing from another
        assert {answer for ask in clients.values() for answer in (ask(), ask(), ask())} == {"a"}
        lab("set-ready", "a", "false")
        assert {answer for ask in clients.values() for answer in (ask(), ask(), ask())} == {"b"}


def test_a_client_from_before_the_first_endpoint_gets_through(lab: Lab) -> None:
    """CT.2: what was sent while there was no endpoint must not bind the flow to nowhere."""
    lab.only()
    for netns, address, port in ((POD, "10.96.0.53", 53), (names.CLIENT, "172.18.0.3", 30053)):
        with lab.client(netns, address, port) as ask:
            assert ask() == "ConnectionRefusedError"
            lab("set-ready", "b", "true")
            assert "b" in [ask(), ask()]  # the first may still report the last refusal
            lab("set-ready", "b", "false")


def test_flows_of_other_services_stay(lab: Lab) -> None:
    """Only what the change is about is looked through: another Service's stale flow is no business of this change."""
    lab.only("a", "b")
    other = MANIFESTS.split("---")[-1].replace("name: dns", "name: log").replace("10.96.0.53", "10.96.0.54")
    for address in ("172.18.255.53", "198.51.100.53"):
        other = other.replace(address, address.replace(".53", ".54"))
    lab("apply", "-f", "-", stdin=other.replace("30053", "30054"))
    with lab.client(POD, "10.96.0.54", 53) as ask:
        first = ask()
        lab("delete", "service", "dns")
        assert [ask() for _ in range(3)] == [first] * 3
    lab("apply", "-f", "-", stdin=MANIFESTS.split("---")[-1])
    lab("delete", "service", "log")


def test_a_stale_flow_is_drift_that_up_mends(lab: Lab) -> None:
    """Whoever writes one by hand sees it named, and the next up takes it away."""
    lab.only("a")
    entry = ["conntrack", "-I", "-p", "udp", "-s", "10.244.0.9", "-d", "10.96.0.53", "--sport", "5000", "--dport", "53"]
    entry += ["--reply-src", "10.244.7.7", "--reply-dst", "10.244.0.9", "--reply-port-src", "5353"]
    lab("exec", "node/node1", "--", *entry, "--reply-port-dst", "5000", "-t", "60")
    drift = json.loads(lab("status", "-o", "json", code=1))["drift"]
    assert [(each["type"], each["address"], each["servers"]) for each in drift["extra"]] == [
        ("UdpDestination", "10.96.0.53", [*drift["missing"][0]["servers"], "10.244.7.7"])
    ]
    lab("up", "-f", "-", stdin=lab.manifests)
    lab("status")
