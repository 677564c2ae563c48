"""What a cluster has without anybody's manifests, and when it has not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.remarks import remarks

Build = Callable[..., Cluster]

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}
---
"""
OWN_DNS = """
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {selector: {app: web}, ports: [{port: 53, protocol: UDP}]}
"""


def lab(dns: str) -> str:
    return f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: 3, dns: {dns}}}\n---\n"


def test_what_there_is(build: Build) -> None:
    cluster = build(POD, with_addons=True)
    assert [service.key for service in cluster.services] == ["default/kubernetes", "kube-system/kube-dns"]
    assert [pod.key for pod in cluster.own_pods] == ["default/web"]
    assert cluster.own_services == ()
    kubernetes, dns = cluster.services
    assert str(kubernetes.cluster_ips[0]) == "10.96.0.1"
    assert [(str(e.ip), e.port) for e in kubernetes.ports[0].endpoints] == [("172.18.0.2", 6443)]
    assert str(dns.cluster_ips[0]) == "10.96.0.10"
    assert [(port.name, port.protocol, port.port) for port in dns.ports] == [
        ("dns", "UDP", 53),
        ("dns-tcp", "TCP", 53),
        ("metrics", "TCP", 9153),
    ]
    assert len({e.node for e in dns.ports[0].endpoints}) == 2  # two replicas, apart
    assert all(e.ready for e in dns.ports[0].endpoints)


def test_port_53_is_left_to_the_dns_server(build: Build) -> None:
    cluster = build(POD, with_addons=True)
    found = [ports for key, ports in listeners(cluster).items() if key.startswith("kube-system/coredns-")]
    assert found == [(("TCP", 8080), ("TCP", 8181), ("TCP", 9153))] * 2


def test_the_users_pods_are_where_they_would_be_without(build: Build) -> None:
    many = "".join(POD.replace("name: web,", f"name: web{n}, namespace: {ns},") for n, ns in enumerate("xyzabcxyz"))
    without, cluster = build(many, nodes=3), build(many, nodes=3, with_addons=True)
    assert without.pods == cluster.own_pods
    later = POD.replace("name: web,", "name: late, namespace: zoo,")
    plain = build(many + later, without, nodes=3)
    grown = build(many + later, cluster, nodes=3, with_addons=True)
    assert [(pod.key, pod.node) for pod in grown.own_pods] == [(pod.key, pod.node) for pod in plain.pods]


@pytest.mark.parametrize(
    ("text", "remark"),
    [
        pytest.param(lab("none") + POD, "no name is resolved: the Lab says dns: none", id="none"),
        pytest.param(POD + OWN_DNS, "no name is resolved: kube-system/kube-dns is the manifests' own", id="their own"),
    ],
)
def test_no_dns(build: Build, text: str, remark: str) -> None:
    cluster = build(text, with_addons=True)
    assert not [pod for pod in cluster.pods if pod.addon == "dns"]
    assert any(each.startswith(remark) for each in remarks(cluster))


def test_nodes_that_want_nobody_still_run_them(build: Build) -> None:
    node = "{name: only, taints: [{key: a, value: b, effect: NoSchedule}]}"
    cluster = build(f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: [{node}]}}\n", with_addons=True)
    assert [pod.node for pod in cluster.pods] == ["only"] * 3


@pytest.mark.parametrize(
    ("dns", "image"),
    [
        pytest.param("knot", "host/knotd", id="knot"),
        pytest.param("{coredns: /opt/coredns}", "host//opt/coredns", id="coredns"),
    ],
)
def test_other_servers_run_for_real(build: Build, dns: str, image: str) -> None:
    cluster = build(lab(dns) + POD, with_addons=True)
    assert {pod.containers[0].image for pod in cluster.pods if pod.addon == "dns"} == {image}
    assert all(ports == () for key, ports in listeners(cluster).items() if "coredns" in key)
