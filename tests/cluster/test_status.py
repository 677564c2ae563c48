from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.status import KINDS, render

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


@pytest.fixture(name="cluster")
def cluster_fixture(build: Build, workload: Yaml, service: Yaml) -> Cluster:
    return build(
        workload("web", 3, container=", ports: [{containerPort: 80}]")
        + workload("db", 2, kind="StatefulSet")
        + workload("agent", kind="DaemonSet", namespace="kube-system")
        + workload("once", kind="Job", spec="restartPolicy: Never, ")
        + service("web", "type: LoadBalancer, externalTrafficPolicy: Local, "),
        readiness={"default/db-1": False},
    )


def dig(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path", "expected"),
    [
        pytest.param("nodes", None, "node2", "status.addresses.0.address", "172.18.0.3", id="node-address"),
        pytest.param("nodes", None, "node2", "spec.podCIDRs", ["10.244.1.0/24"], id="pod-cidrs"),
        pytest.param("nodes", None, "node2", "status.conditions.0.type", "Ready", id="node-ready"),
        pytest.param("pods", "default", "db-0", "status.podIPs.0.ip", "10.244.0.2", id="pod-ip"),
        pytest.param("pods", "default", "db-0", "status.hostIP", "172.18.0.2", id="host-ip"),
        pytest.param("pods", "default", "db-0", "spec.nodeName", "node1", id="node-name"),
        pytest.param("pods", "default", "db-0", "status.phase", "Running", id="phase"),
        pytest.param("pods", "default", "db-1", "status.containerStatuses.0.ready", False, id="container-not-ready"),
        pytest.param("pods", "default", "db-0", "metadata.ownerReferences.0.kind", "StatefulSet", id="owner"),
        pytest.param("services", "default", "web", "spec.clusterIPs", ["10.96.1.1"], id="cluster-ip"),
        pytest.param("services", "default", "web", "spec.ports.0.nodePort", 30086, id="node-port"),
        pytest.param("services", "default", "web", "spec.healthCheckNodePort", 30087, id="health-port"),
        pytest.param("services", None, None, "status.loadBalancer.ingress.0.ip", "172.18.255.1", id="load-balancer"),
        pytest.param("endpoints", "default", "web", "subsets.0.ports.0.port", 80, id="endpoints-port"),
        pytest.param("endpointslices", "default", None, "endpoints.0.conditions.ready", True, id="slice"),
        pytest.param("deployments", "default", "web", "status.readyReplicas", 3, id="deployment"),
        pytest.param("replicasets", "default", None, "status.readyReplicas", 3, id="replica-set"),
        pytest.param("statefulsets", "default", "db", "status.readyReplicas", 1, id="stateful-set"),
        pytest.param("daemonsets", "kube-system", "agent", "status.numberReady", 3, id="daemon-set"),
        pytest.param("jobs", "default", "once", "status.active", 1, id="job"),
        pytest.param("namespaces", None, "kube-system", "status.phase", "Active", id="namespace"),
    ],
)
def test_status(
    cluster: Cluster, kind: str, namespace: str | None, name: str | None, path: str, expected: object
) -> None:
    (found,) = render(cluster, kind, namespace, name)
    assert dig(found, path) == expected


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_object_says_what_it_is(cluster: Cluster, kind: str) -> None:
    for rendered in render(cluster, kind):
        assert list(rendered)[:3] == ["apiVersion", "kind", "metadata"]


def test_readiness_is_in_the_conditions(cluster: Cluster) -> None:
    (found,) = render(cluster, "pods", "default", "db-1")
    assert {each["type"]: each["status"] for each in found["status"]["conditions"]}["Ready"] == "False"


def test_a_terminating_pod_says_so(build: Build) -> None:
    cluster = build("""
        apiVersion: v1
        kind: Pod
        metadata: {name: p, deletionTimestamp: "2026-01-01T00:00:00Z"}
        spec: {containers: [{name: c, image: x}]}
    """)
    assert render(cluster, "pods")[0]["status"]["reason"] == "Terminating"


def test_unready_addresses_are_kept_apart_in_endpoints(build: Build, workload: Yaml, service: Yaml) -> None:
    text = workload("web", 2, kind="StatefulSet") + service("web")
    (found,) = render(build(text, readiness={"default/web-1": False}), "endpoints")
    (subset,) = found["subsets"]
    assert [len(subset[part]) for part in ("addresses", "notReadyAddresses")] == [1, 1]


def test_nodes_come_by_index_and_the_rest_by_name(build: Build) -> None:
    names = [found["metadata"]["name"] for found in render(build("", nodes=11), "nodes")]
    assert names == [f"node{number}" for number in range(1, 12)]
