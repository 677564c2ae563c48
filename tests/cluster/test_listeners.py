from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


def pod(name: str, container: str = "", spec: str = "", rest: str = "") -> str:
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\n"
        f"spec: {{{spec}containers: [{{name: c, image: x{container}}}]}}\n{rest}"
    )


PORTS = ", ports: [{name: http, containerPort: 80}, {containerPort: 53, protocol: UDP}]"


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        pytest.param("", [], id="none"),
        pytest.param(PORTS, [("TCP", 80), ("UDP", 53)], id="declared"),
        pytest.param(", readinessProbe: {httpGet: {port: 8080}}", [("TCP", 8080)], id="readiness"),
        pytest.param(", livenessProbe: {tcpSocket: {port: 81}}", [("TCP", 81)], id="liveness"),
        pytest.param(", startupProbe: {grpc: {port: 82}}", [("TCP", 82)], id="startup-grpc"),
        pytest.param(PORTS + ", readinessProbe: {httpGet: {port: http}}", [("TCP", 80), ("UDP", 53)], id="named"),
        pytest.param(", livenessProbe: {exec: {command: [x]}}", [], id="exec"),
    ],
)
def test_declared_ports_and_probes(build: Build, container: str, expected: list[tuple[str, int]]) -> None:
    assert listeners(build(pod("p", container))) == {"default/p": tuple(expected)}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param("[{port: 80}]", [("TCP", 80)], id="port"),
        pytest.param("[{port: 80, targetPort: 8080}]", [("TCP", 8080)], id="number"),
        pytest.param("[{port: 80, targetPort: http}]", [], id="name"),
        pytest.param("[{port: 53, protocol: UDP}]", [("UDP", 53)], id="udp"),
    ],
)
def test_target_ports_of_services(build: Build, service: Yaml, ports: str, expected: list[tuple[str, int]]) -> None:
    assert listeners(build(pod("p") + service("web", ports=ports))) == {"default/p": tuple(expected)}


def test_a_service_of_another_namespace_does_not_count(build: Build, service: Yaml) -> None:
    assert listeners(build(pod("p") + service("web", namespace="other"))) == {"default/p": ()}


def test_nothing_stands_in_for_a_program_that_really_runs(build: Build, service: Yaml) -> None:
    real = pod("p", ", ports: [{containerPort: 80}]").replace("image: x", "image: host/usr/bin/python3")
    assert listeners(build(real + service("web", ports="[{port: 81}]"))) == {"default/p": ()}


def test_a_pod_that_has_ended_listens_on_nothing(build: Build) -> None:
    assert listeners(build(pod("p", PORTS, rest="status: {phase: Failed}\n"))) == {"default/p": ()}


def test_two_host_network_pods_cannot_bind_one_port(build: Build, service: Yaml) -> None:
    """The ports come from a Service, so no scheduler and no kubelet sees the clash beforehand."""
    spec = "hostNetwork: true, nodeName: node1, "
    cluster = build(pod("b", spec=spec) + pod("a", spec=spec) + pod("c", spec=spec.replace("1", "2")) + service("web"))
    assert listeners(cluster) == {"default/a": (("TCP", 80),), "default/b": (), "default/c": (("TCP", 80),)}
    assert {pod.name: pod.ready for pod in cluster.pods} == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(
    ("container", "ready"),
    [
        pytest.param(", readinessProbe: {httpGet: {port: 8080}}", True, id="number"),
        pytest.param(", readinessProbe: {httpGet: {port: nowhere}}", False, id="unknown-name"),
        pytest.param(", readinessProbe: {exec: {command: ['false']}}", True, id="exec"),
    ],
)
def test_readiness_follows_the_probe(build: Build, container: str, ready: bool) -> None:
    assert build(pod("p", container)).pods[0].ready is ready
