"""The cluster's DNS in a plan: the lab's own server, or files for Knot and CoreDNS."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.dns import dns
from k8snetlab.plan.state import DnsName, DnsServer, File, Process

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2, dns: %s, ipFamily: dual}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.50, 'fd00:10:96::32'], ipFamilyPolicy: RequireDualStack, ports: [{name: http, port: 80}]}
"""


def cluster(lab_dns: str, name: str = "web") -> Cluster:
    text = (MANIFESTS % lab_dns).replace("name: web", f"name: {name}")
    return resolve(load_text(text.encode(), "t.yaml"), with_addons=True)


def files(given: Cluster) -> dict[str, str]:
    return {item.path: item.content for item in dns(given) if isinstance(item, File)}


def test_embedded() -> None:
    objects = list(dns(cluster("{}")))
    servers = [item for item in objects if isinstance(item, DnsServer)]
    assert [(each.view, [*map(str, each.upstreams)], each.echo_pods) for each in servers] == [
        ("internet", [], False),
        ("cluster", ["198.51.100.10"], True),
        ("cluster", ["198.51.100.10"], True),
    ]
    known = {(each.view, each.name) for each in objects if isinstance(each, DnsName)}
    assert {("internet", "example.com"), ("cluster", "web.shop.svc.cluster.local")} <= known
    assert files(cluster("{}")) == {}


@pytest.mark.parametrize(("mode", "echo"), [("insecure", True), ("verified", False), ("disabled", False)])
def test_only_insecure_pods_are_echoed(mode: str, echo: bool) -> None:
    servers = [item for item in dns(cluster(f"{{pods: {mode}}}")) if isinstance(item, DnsServer)]
    assert servers[-1].echo_pods is echo


def test_none() -> None:
    """The internet has its own all the same."""
    assert {item.view for item in dns(cluster("none")) if isinstance(item, DnsServer | DnsName)} == {"internet"}


def programs(given: Cluster) -> list[tuple[str, ...]]:
    return [item.argv for item in build(given).objects if isinstance(item, Process)]


def test_knot(is_golden: Callable[..., None]) -> None:
    given = cluster("knot")
    assert programs(given) == [("knotd", "-c", "/run/files/dns/knot.conf")] * 2
    is_golden("knot.txt", "".join(f"== {path}\n{content}" for path, content in files(given).items()))


def test_coredns(is_golden: Callable[..., None]) -> None:
    given = cluster("{coredns: /opt/coredns}")
    assert programs(given) == [("/opt/coredns", "-conf", "/run/files/dns/Corefile")] * 2
    is_golden("coredns.txt", files(given)["dns/Corefile"])


def test_coredns_sees_a_change_by_the_serial_number() -> None:
    def serial(given: Cluster) -> str:
        return files(given)["dns/cluster.local.zone"].split(" SOA ")[1].split()[2]

    same = cluster("{coredns: c}")
    assert serial(same) == serial(cluster("{coredns: c}")) != serial(cluster("{coredns: c}", "other"))
    assert 0 < int(serial(same)) < 2**31
