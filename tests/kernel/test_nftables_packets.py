"""kube-proxy's nftables mode by real packets, in both layouts: what every mode promises, and where this one differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2, kubeProxyMode: nftables, nftablesLayout: LAYOUT, ipFamily: FAMILY}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: two}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 8080}]}]}
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
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {app: web}, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  selector: {app: two}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {type: NodePort, selector: {app: none}, ports: [{port: 80, nodePort: 30082}]}
---
apiVersion: v1
kind: Service
metadata: {name: guarded}
spec:
  type: LoadBalancer
  selector: {app: web}
  loadBalancerSourceRanges: [172.18.0.0/24]
  ports: [{port: 80, targetPort: 8080}]
"""


@dataclass(frozen=True, slots=True)
class Lab:
    name: str
    run_dir: Path

    def run(self, command: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "k8snetlab", command, "--lab", self.name, *words]
        env = os.environ | {"K8SNETLAB_RUN_DIR": str(self.run_dir)}
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=env)

    def results(self, sender: str, to: str, port: int, *, count: int = 1, protocol: str = "TCP") -> list[Any]:
        words = ("--port", str(port), "--count", str(count), "--protocol", protocol, "-o", "json")
        done = self.run("probe", sender, to, *words)
        assert done.stdout, done.stderr
        return list(json.loads(done.stdout)["results"])

    def service(self, name: str) -> Any:
        return json.loads(self.run("get", "service", name, "-o", "json").stdout)


@pytest.fixture(name="lab", scope="module", params=["kube-proxy", "flat"])
def lab_fixture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes with everything of MANIFESTS, for all tests of this file."""
    lab = Lab(f"nft{os.getpid()}-{request.param}", tmp_path_factory.mktemp("run"))
    made = lab.run("up", "-f", "-", stdin=MANIFESTS.replace("LAYOUT", request.param).replace("FAMILY", "ipv4"))
    try:
        assert made.returncode == 0, made.stderr
        yield lab
    finally:
        lab.run("down")


@pytest.mark.root
def test_the_kernel_has_what_was_planned(lab: Lab) -> None:
    assert json.loads(lab.run("status", "-o", "json").stdout)["drift"] == {"missing": [], "extra": []}


@pytest.mark.root
def test_every_type_of_communication(lab: Lab) -> None:
    found = json.loads(lab.run("check", "-o", "json").stdout)["checks"]
    # With session affinity a pod may be bound to another endpoint than itself for good.
    bound = {each["name"] for each in found if each["type"] == "pod-to-itself-via-service" and "sticky" in each["to"]}
    assert [each for each in found if not each["passed"] and each["name"] not in bound] == []
    types = {"pod-to-clusterip", "node-to-clusterip", "pod-to-itself-via-service", "external-to-nodeport"}
    assert types <= {each["type"] for each in found}


@pytest.mark.root
@pytest.mark.parametrize(
    ("sender", "to", "port", "outcome", "source"),
    [
        pytest.param("one", "svc/web", 80, "ok", "10.244.0.", id="pod to ClusterIP"),
        pytest.param("node/node1", "svc/web", 80, "ok", "node1", id="node to ClusterIP"),
        pytest.param("one", "svc/web", 81, "refused", "", id="pod to an undefined port"),
        pytest.param("node/node1", "svc/web", 81, "refused", "", id="node to an undefined port"),
        pytest.param("one", "10.96.200.1", 80, "timeout", "", id="pod to an unallocated ClusterIP"),
        pytest.param("one", "node/node1", 30080, "ok", "node1", id="pod to node port"),
        pytest.param("one", "node/node2", 30080, "ok", "node2", id="pod to node port of the other node"),
        pytest.param("node/node1", "node/node1", 30080, "ok", "node1", id="node to its node port"),
        pytest.param("external/client", "node/node1", 30080, "ok", "node1", id="outside to node port"),
        pytest.param("node/node1", "127.0.0.1", 30080, "refused", "", id="localhost node port"),
        pytest.param("one", "10.244.0.1", 30080, "refused", "", id="node port on the bridge's address"),
        pytest.param("two", "svc/local", 80, "ok", "10.244.1.1", id="Local ClusterIP, to itself"),
        pytest.param("node/node2", "svc/local", 80, "ok", "node2", id="Local ClusterIP from its node"),
        pytest.param("one", "svc/local", 80, "timeout", "", id="Local ClusterIP without a local endpoint"),
        pytest.param("external/client", "node/node2", 30081, "ok", "203.0.113.10", id="Local node port from outside"),
        pytest.param("external/client", "node/node1", 30081, "timeout", "", id="Local node port, nothing local"),
        pytest.param("one", "node/node1", 30081, "ok", "10.244.0.", id="Local node port, pod is short-circuited"),
        pytest.param("node/node1", "node/node1", 30081, "ok", "node1", id="Local node port, node is short-circuited"),
        pytest.param("one", "svc/none", 80, "refused", "", id="no endpoints, pod"),
        pytest.param("node/node1", "svc/none", 80, "refused", "", id="no endpoints, node"),
        pytest.param("one", "node/node1", 30082, "refused", "", id="no endpoints, pod to node port"),
        pytest.param("node/node1", "node/node1", 30082, "refused", "", id="no endpoints, node to node port"),
        pytest.param("external/client", "node/node1", 30082, "refused", "", id="no endpoints, outside to node port"),
        pytest.param("node/node1", "guarded", 80, "ok", "node1", id="balancer, in the range"),
        pytest.param("one", "guarded", 80, "timeout", "", id="balancer, not in the range"),
    ],
)
def test_outcome_and_source(lab: Lab, sender: str, to: str, port: int, outcome: str, source: str) -> None:
    if to == "guarded":
        to = lab.service("guarded")["status"]["loadBalancer"]["ingress"][0]["ip"]
    (result,) = lab.results(sender, to, port)
    assert result["outcome"] == outcome, result
    known = {"node1": ("172.18.0.2", "10.244.0.1"), "node2": ("172.18.0.3", "10.244.1.1")}
    assert result["source"].startswith(known.get(source, (source,)))


@pytest.mark.root
def test_udp(lab: Lab) -> None:
    for to, port in (("svc/web", 53), ("node/node1", 30053)):
        assert {result["outcome"] for result in lab.results("one", to, port, count=4, protocol="UDP")} == {"ok"}


@pytest.mark.root
def test_connections_spread_evenly(lab: Lab) -> None:
    """Chi-square with 2 degrees of freedom: an even spread exceeds 27.6 once in a million runs."""
    servers = Counter(result["server"] for result in lab.results("one", "svc/web", 80, count=60))
    assert len(servers) == 3
    assert sum((seen - 20) ** 2 / 20 for seen in servers.values()) < 27.6


@pytest.mark.root
def test_session_affinity(lab: Lab) -> None:
    for sender in ("one", "two"):
        assert len({result["server"] for result in lab.results(sender, "svc/sticky", 80, count=8)}) == 1


@pytest.mark.root
def test_a_lab_is_scaled_and_emptied_by_deltas(lab: Lab) -> None:
    bound = {result["server"] for result in lab.results("one", "svc/sticky", 80)}
    for replicas, outcome in ((5, "ok"), (0, "refused"), (3, "ok")):
        assert lab.run("scale", "deploy/web", "--replicas", str(replicas)).returncode == 0
        assert lab.run("status").returncode == 0
        assert {result["outcome"] for result in lab.results("one", "svc/web", 80, count=3)} == {outcome}
        if replicas == 5:
            assert {result["server"] for result in lab.results("one", "svc/sticky", 80, count=5)} == bound
            assert len({result["server"] for result in lab.results("two", "svc/web", 80, count=60)}) == 5


@pytest.mark.root
@pytest.mark.parametrize("layout", ["kube-proxy", "flat"])
def test_ipv6(layout: str, tmp_path: Path) -> None:
    lab = Lab(f"nft6{os.getpid()}-{layout}", tmp_path)
    text = MANIFESTS.replace("LAYOUT", layout).replace("FAMILY", "ipv6").replace("172.18.0.0/24", "fd00::/8")
    try:
        made = lab.run("up", "-f", "-", stdin=text)
        assert made.returncode == 0, made.stderr
        assert lab.run("status").returncode == 0
        found = json.loads(lab.run("check", "-o", "json").stdout)["checks"]
        assert [each for each in found if not each["passed"] and "sticky" not in each["to"]] == []
    finally:
        lab.run("down")
