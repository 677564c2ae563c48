"""What is promised of host ports: where they are open, who answers and whom the pod sees."""

from __future__ import annotations

from textwrap import dedent

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.flows.model import Check
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.derive import derive, of_types

TYPES = ("external-to-hostport", "pod-to-hostport", "node-to-hostport")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {nodeName: node1, containers: [{name: c, ports: [{containerPort: 80, hostPort: 8080HOSTIP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: beside}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: away}
spec: {nodeName: node2, containers: [{name: c}]}
"""


def cluster(text: str) -> Cluster:
    return resolve(load_text(dedent(text).encode(), "t.yaml"), Overrides(nodes=2))


def checks(text: str) -> dict[tuple[str, str], Check]:
    found = of_types(derive(cluster(text)), TYPES)
    return {(check.flow.sender.name, check.flow.address): check for check in found}


def test_everybody_is_asked_and_who_keeps_its_address() -> None:
    found = checks(POD.replace("HOSTIP", ""))
    sources = {key: check.source for key, check in found.items()}
    assert sources == {
        ("client", "172.18.0.2"): "client",
        ("client", "172.18.0.3"): None,
        ("default/web", "172.18.0.2"): "node",
        ("default/beside", "172.18.0.2"): "node",
        ("default/away", "172.18.0.2"): "pod",
        ("node1", "127.0.0.1"): "node",
        ("node1", "172.18.0.2"): "node",
    }
    assert found["client", "172.18.0.3"].expected == "refused"
    assert all(check.servers == ("default/web",) for check in found.values() if check.expected == "ok")


@pytest.mark.parametrize(
    ("host_ip", "asked"),
    [
        pytest.param(", hostIP: 127.0.0.1", {("node1", "127.0.0.1")}, id="loopback"),
        pytest.param(', hostIP: "::1"', set(), id="other-family"),
        pytest.param(", hostIP: 10.244.0.1", set(), id="an-address-that-is-not-asked"),
    ],
)
def test_only_where_the_address_is(host_ip: str, asked: set[tuple[str, str]]) -> None:
    assert set(checks(POD.replace("HOSTIP", host_ip))) == asked


def test_a_node_port_of_the_same_number_leaves_nothing_to_promise() -> None:
    service = """
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
"""
    assert checks(POD.replace("8080HOSTIP", "30080"))
    assert not checks(POD.replace("8080HOSTIP", "30080") + service)


def test_the_other_node_is_not_asked_where_it_has_the_port_too() -> None:
    first = POD.replace("HOSTIP", "")
    twin = first.split("---")[0].replace("web", "twin").replace("node1", "node2")
    assert all(check.expected == "ok" for check in checks(f"{first}---{twin}").values())
