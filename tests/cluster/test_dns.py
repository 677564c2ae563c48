"""Every form of record, from manifests to text (Kubernetes DNS specification 1.1.0, conformance 1.18)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.dns import cluster_records, internet_records
from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop, labels: {app: db}}
spec:
  hostname: db-0
  subdomain: db
  nodeName: node1
  containers: [{name: c, ports: [{containerPort: 5432, name: pg}, {containerPort: 9187, name: metrics}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop, labels: {app: db}}
spec:
  nodeName: node2
  containers: [{name: c, ports: [{containerPort: 5433, name: pg}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: waits, namespace: shop, labels: {app: db}}
spec:
  nodeName: node3
  readinessGates: [{conditionType: never}]
  containers: [{name: c, ports: [{containerPort: 5432, name: pg}]}]
---
"""
HEADLESS = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  selector: {app: db}
  ports: [{name: pg, port: 5, targetPort: pg}, {name: m, port: 6, targetPort: 7}]
"""
WEB = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.50
  ports: [{name: http, port: 80, targetPort: 8080}, {name: quic, port: 443, protocol: UDP}]
"""


def below(cluster: Cluster, name: str) -> dict[str, tuple[str, ...]]:
    """The names that end so, without that end."""
    found = cluster_records(cluster).items()
    return {each.removesuffix(name).rstrip("."): records for each, records in found if f".{each}".endswith(f".{name}")}


def test_service(build: Build) -> None:
    cluster = build(WEB)
    own = "web.shop.svc.cluster.local."
    assert below(cluster, "web.shop.svc.cluster.local") == {
        "": ("5 A 10.96.0.50", f"5 SRV 0 100 80 {own}", f"5 SRV 0 100 443 {own}"),
        "_tcp": (),
        "_http._tcp": (f"5 SRV 0 100 80 {own}",),
        "_udp": (),
        "_quic._udp": (f"5 SRV 0 100 443 {own}",),
    }
    assert cluster_records(cluster)["50.0.96.10.in-addr.arpa"] == (f"5 PTR {own}",)


def test_unnamed_port_has_no_name_of_its_own(build: Build) -> None:
    cluster = build(
        WEB.replace(
            "[{name: http, port: 80, targetPort: 8080}, {name: quic, port: 443, protocol: UDP}]", "[{port: 80}]"
        )
    )
    assert list(below(cluster, "web.shop.svc.cluster.local")) == [""]


def test_headless(build: Build) -> None:
    """Only ready endpoints; SRV with each endpoint's own port; a pointer only to a pod with a host name."""
    cluster = build(PODS + HEADLESS, nodes=3)
    first, second = "db-0.db.shop.svc.cluster.local.", "10-244-1-2.db.shop.svc.cluster.local."
    assert below(cluster, "db.shop.svc.cluster.local") == {
        "": (
            "5 A 10.244.0.2", f"5 SRV 0 50 5432 {first}", f"5 SRV 0 50 7 {first}",
            "5 A 10.244.1.2", f"5 SRV 0 50 5433 {second}", f"5 SRV 0 50 7 {second}",
        ),
        "10-244-1-2": ("5 A 10.244.1.2",),
        "_tcp": (),
        "_m._tcp": (f"5 SRV 0 50 7 {first}", f"5 SRV 0 50 7 {second}"),
        "_pg._tcp": (f"5 SRV 0 50 5432 {first}", f"5 SRV 0 50 5433 {second}"),
        "db-0": ("5 A 10.244.0.2",),
    }  # fmt: skip
    pointers = {name: records for name, records in cluster_records(cluster).items() if name.endswith(".arpa")}
    assert pointers == {"2.0.244.10.in-addr.arpa": (f"5 PTR {first}",)}


def test_not_ready_addresses_are_published_on_request(build: Build) -> None:
    cluster = build(
        PODS + HEADLESS.replace("clusterIP: None", "clusterIP: None\n  publishNotReadyAddresses: true"), nodes=3
    )
    assert "5 A 10.244.2.2" in cluster_records(cluster)["db.shop.svc.cluster.local"]


def test_headless_without_a_ready_endpoint_does_not_exist(build: Build) -> None:
    assert below(build(HEADLESS), "db.shop.svc.cluster.local") == {}


def test_headless_without_ports_has_addresses(build: Build) -> None:
    text = PODS + HEADLESS.partition("  ports")[0]
    records = cluster_records(build(text, nodes=3))
    assert records["db.shop.svc.cluster.local"] == ("5 A 10.244.0.2", "5 A 10.244.1.2")
    assert records["db-0.db.shop.svc.cluster.local"] == ("5 A 10.244.0.2",)


@pytest.mark.parametrize(
    ("target", "records"),
    [
        pytest.param("my.database.example.com", ("5 CNAME my.database.example.com.",), id="name"),
        pytest.param("other.shop.svc.cluster.local", ("5 CNAME other.shop.svc.cluster.local.",), id="inside"),
    ],
)
def test_external_name(build: Build, target: str, records: tuple[str, ...]) -> None:
    text = (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: ext}}\nspec: {{type: ExternalName, externalName: {target}}}"
    )
    assert below(build(text), "ext.default.svc.cluster.local") == {"": records}


def test_names_that_exist_without_records(build: Build) -> None:
    records = cluster_records(build(WEB))
    empty = ("svc", "pod", "shop.svc", "shop.pod", "default.svc", "default.pod")
    assert all(records[f"{name}.cluster.local"] == () for name in empty)
    assert "nowhere.svc.cluster.local" not in records


def test_top_of_the_zone(build: Build) -> None:
    records = cluster_records(build(WEB, with_addons=True))
    soa = "5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"
    assert records["cluster.local"] == (soa, "5 NS ns.dns.cluster.local.")
    assert records["ns.dns.cluster.local"] == ("5 A 10.96.0.10",)
    assert records["dns-version.cluster.local"] == ('28800 TXT "1.1.0"',)
    assert records["kubernetes.default.svc.cluster.local"][0] == "5 A 10.96.0.1"


@pytest.mark.parametrize(
    ("family", "records"),
    [
        pytest.param("ipv6", ("5 AAAA fd00:10:96::32",), id="ipv6"),
        pytest.param("dual", ("5 A 10.96.0.50", "5 AAAA fd00:10:96::32"), id="dual"),
    ],
)
def test_families(build: Build, family: str, records: tuple[str, ...]) -> None:
    addresses = "[10.96.0.50, 'fd00:10:96::32']" if family == "dual" else "['fd00:10:96::32']"
    spec = f"clusterIPs: {addresses}, ipFamilyPolicy: {'RequireDualStack' if family == 'dual' else 'SingleStack'}"
    text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{{spec}, ports: [{{port: 80}}]}}"
    found = cluster_records(build(text, ip_family=family))
    assert tuple(each for each in found["web.default.svc.cluster.local"] if "SRV" not in each) == records
    pointer = ".".join(reversed(f"{0xFD00_0010_0096 << 80 | 0x32:032x}")) + ".ip6.arpa"
    assert found[pointer] == ("5 PTR web.default.svc.cluster.local.",)


@pytest.mark.parametrize(
    ("mode", "pod", "namespace"),
    [
        pytest.param("insecure", False, True, id="insecure"),
        pytest.param("verified", True, True, id="verified"),
        pytest.param("disabled", False, False, id="disabled"),
    ],
)
def test_pod_records(build: Build, mode: str, pod: bool, namespace: bool) -> None:
    lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: 3, dns: {{pods: {mode}}}}}\n---\n"
    records = cluster_records(build(lab + PODS))
    assert ("10-244-0-2.shop.pod.cluster.local" in records) is pod
    assert ("shop.pod.cluster.local" in records) is namespace


def test_names_longer_than_dns_allows_are_left_out(build: Build) -> None:
    lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{clusterDomain: {'.'.join(['d' * 60] * 4)}}}\n---\n"
    assert all(len(name) <= 253 for name in cluster_records(build(lab + WEB)))


def test_internet(build: Build) -> None:
    records = internet_records(build(WEB))
    assert records["example.com"] == records["*.example.com"] == ("300 A 198.51.100.10",)
    assert records["com"] == ()
    assert records["10.100.51.198.in-addr.arpa"] == ("300 PTR internet.example.",)
