"""kube-proxy's IPVS mode with real packets: whole labs, one statement of Kubernetes' or kube-proxy's a test."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.vm

Run = Callable[..., subprocess.CompletedProcess[str]]
Probe = Callable[..., list[dict[str, Any]]]

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx
        ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}, {containerPort: 9000, protocol: SCTP}]
---
apiVersion: v1
kind: Pod
metadata: {name: lone, labels: {app: lone}}
spec: {nodeName: node2, containers: [{name: lone, image: nginx, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: client, image: nginx}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger}
spec: {nodeName: node3, containers: [{name: stranger, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: dns, port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053}
  - {name: sctp, port: 90, targetPort: 9000, protocol: SCTP, nodePort: 30090}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {sessionAffinity: ClientIP, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec:
  type: NodePort
  selector: {app: nobody}
  ports: [{name: http, port: 80, nodePort: 30082}, {name: dns, port: 53, protocol: UDP, nodePort: 30083}]
---
apiVersion: v1
kind: Service
metadata: {name: lone}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: lone}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: ranged}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [10.244.0.0/24]
  loadBalancerIP: 172.18.255.77
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""


@pytest.fixture(scope="module", name="shop", autouse=True)
def shop_fixture(run: Run) -> Iterator[None]:
    """The lab of all tests here; one that changes it changes it back."""
    made = run("up", "-f", "-", "--proxy-mode", "ipvs", stdin=MANIFESTS)
    assert made.returncode == 0, made.stderr
    yield
    assert run("down", "--all").returncode == 0


def outcomes(results: list[dict[str, Any]]) -> set[str]:
    return {result["outcome"] for result in results}


def servers(results: list[dict[str, Any]]) -> Counter[str]:
    assert outcomes(results) == {"ok"}, results
    return Counter(result["server"] for result in results)


def sources(results: list[dict[str, Any]]) -> set[str]:
    assert outcomes(results) == {"ok"}, results
    return {result["source"] for result in results}


def address_of(run: Run, pod: str) -> str:
    found: str = json.loads(run("get", "pod", pod, "-o", "json").stdout)["status"]["podIP"]
    return found


def in_node(run: Run, node: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run("exec", f"node/{node}", "--", *words)


def test_the_kernel_has_what_was_planned(run: Run) -> None:
    done = run("status", "-o", "json")
    assert json.loads(done.stdout)["drift"] == {"missing": [], "extra": []}
    assert done.returncode == 0


def test_every_check_passes(run: Run) -> None:
    found = json.loads(run("check", "-o", "json").stdout)
    assert [check for check in found["checks"] if not check["passed"]] == []
    assert found["passed"] > 60
    assert {check["protocol"] for check in found["checks"]} >= {"HTTP", "UDP", "SCTP", "ICMP"}


def test_a_second_up_has_nothing_to_do(run: Run) -> None:
    done = run("up", "-f", "-", "--proxy-mode", "ipvs", "-o", "json", stdin=MANIFESTS)
    assert json.loads(done.stdout)["changed"] == {"created": 0, "deleted": 0, "updated": 0}


@pytest.mark.parametrize("sender", ["pod/client", "node/node1"])
def test_connections_are_dealt_out_in_turn(probe: Probe, sender: str) -> None:
    counts = servers(probe(sender, "svc/web", 80, count=30))
    assert sorted(counts.values()) == [10, 10, 10]  # rr: no chance in it


def test_a_client_with_affinity_stays(probe: Probe) -> None:
    assert len(servers(probe("pod/client", "svc/sticky", 80, count=12))) == 1


@pytest.mark.parametrize(
    ("sender", "target", "port", "protocol"),
    [
        pytest.param("pod/client", "svc/none", 80, "TCP", id="pod-TCP"),
        pytest.param("node/node1", "svc/none", 80, "TCP", id="node-TCP"),
        pytest.param("pod/client", "svc/none", 53, "UDP", id="pod-UDP"),
        pytest.param("external/client", "node/node1", 30082, "TCP", id="node-port-TCP"),
        pytest.param("external/client", "node/node1", 30083, "UDP", id="node-port-UDP"),
        pytest.param("pod/client", "svc/web", 81, "TCP", id="a-port-the-Service-has-not"),
        pytest.param("node/node1", "svc/web", 81, "TCP", id="a-port-the-Service-has-not-from-a-node"),
    ],
)
def test_refused_at_once(probe: Probe, sender: str, target: str, port: int, protocol: str) -> None:
    assert outcomes(probe(sender, target, port, protocol=protocol)) == {"refused"}


def test_a_server_of_the_node_is_not_reached_by_a_service_address(run: Run) -> None:
    """The address is the node's own now, and a server on 0.0.0.0 would have it too (kubernetes #72236)."""
    listening = "import socket,sys; s=socket.create_server(('0.0.0.0', 7777)); c=socket.create_connection(sys.argv[1:])"
    address = json.loads(run("get", "service", "web", "-o", "json").stdout)["spec"]["clusterIP"]
    own = in_node(run, "node1", "python3", "-c", listening, "172.18.0.2", "7777")
    assert own.returncode == 0, own.stderr
    virtual = in_node(run, "node1", "python3", "-c", listening, address, "7777")
    assert "ConnectionRefusedError" in virtual.stderr


def test_a_ping_to_a_cluster_ip_is_refused(probe: Probe) -> None:
    """The node would answer it, but that KUBE-IPVS-FILTER heeds no protocol (since 1.27: website #41002)."""
    assert outcomes(probe("pod/client", "svc/web", protocol="ICMP")) == {"refused"}


def test_a_node_port_is_not_served_on_the_loopback(run: Run) -> None:
    refused = in_node(run, "node1", "curl", "-s", "--max-time", "3", "http://127.0.0.1:30080/")
    assert refused.returncode == 7  # curl: failed to connect
    assert in_node(run, "node1", "curl", "-s", "--max-time", "3", "http://172.18.0.2:30080/").returncode == 0


def test_a_pod_reaches_itself_and_sees_its_node(run: Run, probe: Probe) -> None:
    assert servers(probe("pod/lone", "svc/lone", 80, count=3)) == {"default/lone": 3}
    assert sources(probe("pod/lone", "svc/lone", 80, count=3)) == {"10.244.1.1"}


def test_who_the_server_sees(run: Run, probe: Probe) -> None:
    client = address_of(run, "client")
    assert sources(probe("pod/client", "svc/web", 80, count=6)) == {client}
    assert sources(probe("node/node1", "svc/web", 80, count=6)) <= {"172.18.0.2", "10.244.0.1"}
    assert sources(probe("external/client", "node/node1", 30080, count=6)) <= {"172.18.0.2", "10.244.0.1"}


def test_the_local_policy_keeps_the_client_and_another_node_says_nothing(probe: Probe) -> None:
    assert sources(probe("external/client", "node/node2", 30081, count=3)) == {"203.0.113.10"}
    # Sent on unmasqueraded (kubernetes #97081), the answer comes from an address that the client never asked.
    assert outcomes(probe("external/client", "node/node1", 30081)) == {"timeout"}
    assert servers(probe("pod/client", "node/node1", 30081)) == {"default/lone": 1}


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        pytest.param("pod/client", "ok", id="in-the-range"),
        pytest.param("pod/stranger", "timeout", id="outside"),
        pytest.param("node/node1", "timeout", id="a-node-outside"),
    ],
)
def test_source_ranges_guard_the_balancers_address(probe: Probe, sender: str, expected: str) -> None:
    assert outcomes(probe(sender, "172.18.255.77", 80)) == {expected}


@pytest.mark.parametrize(
    ("sender", "target", "port"),
    [
        pytest.param("pod/client", "deploy/web", 9000, id="pod-to-pod"),
        pytest.param("pod/client", "svc/web", 90, id="cluster-IP"),
        pytest.param("node/node1", "svc/web", 90, id="node-to-cluster-IP"),
        pytest.param("external/client", "node/node1", 30090, id="node-port"),
    ],
)
def test_sctp(probe: Probe, sender: str, target: str, port: int) -> None:
    assert outcomes(probe(sender, target, port, protocol="SCTP", count=3)) == {"ok"}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("ipset", "flush", "KUBE-CLUSTER-IP"), id="a-set-flushed"),
        pytest.param(("ipset", "add", "KUBE-IPVS-IPS", "9.9.9.9"), id="an-entry-too-much"),
        pytest.param(("ip", "address", "flush", "dev", "kube-ipvs0"), id="addresses-gone"),
        pytest.param(("ip", "link", "delete", "kube-ipvs0"), id="the-link-gone"),
        pytest.param(("ip", "link", "set", "kube-ipvs0", "up"), id="the-link-up"),
    ],
)
def test_damage_is_seen_and_mended(run: Run, probe: Probe, damage: tuple[str, ...]) -> None:
    assert in_node(run, "node1", *damage).returncode == 0
    assert run("status").returncode == 1
    mended = run("up", "-f", "-", "--proxy-mode", "ipvs", stdin=MANIFESTS)
    assert mended.returncode == 0, mended.stderr
    assert run("status").returncode == 0
    assert outcomes(probe("pod/client", "svc/web", 80)) == {"ok"}


def test_a_service_that_goes_takes_all_that_was_its_own(run: Run, probe: Probe) -> None:
    address = json.loads(run("get", "service", "sticky", "-o", "json").stdout)["spec"]["clusterIP"]
    assert run("delete", "service", "sticky").returncode == 0
    assert run("status").returncode == 0
    for tool in (("ip", "address", "show", "kube-ipvs0"), ("ipset", "save")):
        assert address not in in_node(run, "node1", *tool).stdout
    assert run("apply", "-f", "-", stdin=MANIFESTS).returncode == 0
    assert run("status").returncode == 0
    assert outcomes(probe("pod/client", "svc/sticky", 80)) == {"ok"}


def test_another_mode_leaves_nothing_of_this_one(run: Run, probe: Probe) -> None:
    for mode in ("nftables", "iptables"):
        assert run("up", "-f", "-", "--proxy-mode", mode, stdin=MANIFESTS).returncode == 0
        assert run("status").returncode == 0
        assert in_node(run, "node1", "ipset", "save").stdout == ""
        assert in_node(run, "node1", "ip", "link", "show", "kube-ipvs0").returncode == 1
        assert len(servers(probe("pod/client", "svc/web", 80, count=30))) == 3
    assert run("up", "-f", "-", "--proxy-mode", "ipvs", stdin=MANIFESTS).returncode == 0
    assert run("status").returncode == 0
    assert sorted(servers(probe("pod/client", "svc/web", 80, count=30)).values()) == [10, 10, 10]
