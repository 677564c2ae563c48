"""Which pairs a cluster has, where their packets go, and what policies say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.errors import UsageError
from k8snetlab.oracle.matrix import cut_off, expected, left_out, pairs, question

Build = Callable[..., Cluster]

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 81}, {containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: y, labels: {app: c}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dns, namespace: kube-system, labels: {k8snetlab.dev/addon: dns}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 53}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: x}
spec:
  clusterIP: 10.96.0.21
  selector: {app: a}
  ports: [{name: one, port: 8080, targetPort: 80}, {name: two, port: 9090, targetPort: 81}]
"""
LOCAL = """
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: y}
spec: {clusterIP: 10.96.0.3, internalTrafficPolicy: Local, selector: {app: c}, ports: [{port: 80, targetPort: 8080}]}
"""
SHARED = """
---
apiVersion: v1
kind: Pod
metadata: {name: d, namespace: x, labels: {app: a}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
"""
POLICY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: x}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]}
"""


def ask(cluster: Cluster, **wanted: Any) -> list[tuple[str, str, str, int]]:
    defaults: dict[str, Any] = {"port": 0, "protocol": "TCP", "via": "pod", "namespace": "", "ip_family": None}
    asked = question(cluster, **{**defaults, **wanted})
    return [(pair.sender, pair.receiver, pair.address, pair.port) for pair in pairs(cluster, asked)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param(
            {}, [("x/b", "x/a", "10.244.0.2", 81), ("y/c", "x/a", "10.244.0.2", 81)], id="the first port declared"
        ),
        pytest.param(
            {"protocol": "UDP"},
            [("x/a", "x/b", "10.244.1.2", 53), ("y/c", "x/b", "10.244.1.2", 53)],
            id="the first port of the protocol",
        ),
        pytest.param(
            {"port": 7, "namespace": "x"},
            [("x/a", "x/b", "10.244.1.2", 7), ("x/b", "x/a", "10.244.0.2", 7)],
            id="any port, one namespace",
        ),
        pytest.param({"namespace": "kube-system"}, [], id="a pod is in no pair with itself"),
        pytest.param(
            {"via": "service"},
            [("x/b", "x/a", "10.96.0.21", 8080), ("y/c", "x/a", "10.96.0.21", 8080)],
            id="by the Service's first port",
        ),
        pytest.param(
            {"via": "service", "port": 9090},
            [("x/b", "x/a", "10.96.0.21", 9090), ("y/c", "x/a", "10.96.0.21", 9090)],
            id="by a port of the Service",
        ),
        pytest.param({"via": "service", "port": 80}, [], id="no Service has that port"),
    ],
)
def test_pairs(build: Build, wanted: dict[str, Any], found: list[tuple[str, str, str, int]]) -> None:
    cluster = build(PODS, nodes=2)
    assert ask(cluster, **wanted) == found


def test_a_service_port_that_is_local_to_a_node(build: Build) -> None:
    cluster = build(PODS + LOCAL, nodes=2)
    assert ask(cluster, via="service", port=80) == [("x/a", "y/c", "10.96.0.3", 80)]


def test_endpoints_are_counted_for_the_sender(build: Build) -> None:
    cluster = build(PODS + SHARED, nodes=2)
    asked = question(cluster, 8080, "TCP", "service", "x", None)
    found = {(pair.sender, pair.receiver): (pair.endpoints, pair.endpoint) for pair in pairs(cluster, asked)}
    assert found["x/b", "x/a"] == (2, "10.244.0.2")
    assert found["x/b", "x/d"] == (2, "10.244.1.3")


def test_what_policies_say(build: Build) -> None:
    cluster = build(PODS + POLICY, nodes=2)
    for port, verdicts in ((80, {"x/b": "allowed", "y/c": "blocked"}), (81, {"x/b": "blocked", "y/c": "blocked"})):
        asked = question(cluster, port, "TCP", "pod", "", None)
        every = pairs(cluster, asked)
        said = dict(zip([(p.sender, p.receiver) for p in every], expected(cluster, asked, every), strict=True))
        assert {sender: said[sender, "x/a"] for sender in verdicts} == verdicts


def test_through_a_service_the_target_port_counts(build: Build) -> None:
    cluster = build(PODS + POLICY, nodes=2)
    asked = question(cluster, 0, "TCP", "service", "x", None)
    every = pairs(cluster, asked)
    assert [(pair.port, pair.target_port) for pair in every] == [(8080, 80)]
    assert expected(cluster, asked, every) == ["allowed"]


def test_who_is_left_out(build: Build) -> None:
    cluster = build(PODS, nodes=2)
    asked = question(cluster, 0, "TCP", "pod", "", None)
    assert left_out(cluster, asked, pairs(cluster, asked)) == ("x/b", "y/c")


def test_pods_of_a_node_that_is_cut_off(build: Build) -> None:
    cluster = build(PODS, nodes=2)
    down = replace(cluster, nodes=(cluster.nodes[0], replace(cluster.nodes[1], ready=False)))
    assert ask(down) == [("y/c", "x/a", "10.244.0.2", 81)]
    assert (cut_off(cluster), cut_off(down)) == ((), ("node2",))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        pytest.param({"namespace": "nowhere"}, "namespace nowhere does not exist", id="namespace"),
        pytest.param({"ip_family": "ipv6"}, "the cluster has no ipv6", id="family"),
    ],
)
def test_what_cannot_be_asked(build: Build, wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(build(PODS, nodes=2), **wanted)
