"""The two readings of the DNS specification agree: what must be found is what the cluster's DNS knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.dns import cluster_records
from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.podfiles import resolv_conf
from k8snetlab.flows.lookup import candidates, parse
from k8snetlab.flows.model import Check, Result
from k8snetlab.flows.verdict import judge
from k8snetlab.oracle.derive import derive

Build = Callable[..., Cluster]

MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own, labels: {app: client}}
spec: {nodeName: node1, dnsPolicy: Default, containers: [{name: c}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  replicas: 3
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: c, ports: [{containerPort: 5432, name: pg}, {containerPort: 53, name: d, protocol: UDP}]}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  ipFamilyPolicy: PreferDualStack
  selector: {app: db}
  ports: [{name: pg, port: 1, targetPort: pg}, {name: d, port: 2, targetPort: d, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: db}, ports: [{name: http, port: 80, targetPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop}
spec: {clusterIP: None, selector: {app: none}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ext}
spec: {type: ExternalName, externalName: my.database.example.com}
---
apiVersion: v1
kind: Service
metadata: {name: digits}
spec: {type: ExternalName, externalName: 10.0.0.1}
"""
DENY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: %s}
spec: {podSelector: {}, policyTypes: [Egress]}
"""


def of_dns(cluster: Cluster) -> list[Check]:
    return [check for check in derive(cluster) if check.type == "pod-to-dns"]


def look_up(cluster: Cluster, check: Check) -> Result:
    """What a resolver makes of the records that the cluster's DNS has."""
    pod = cluster.pod(check.flow.sender.name)
    assert pod is not None
    known = cluster_records(cluster)
    for name in candidates(parse(resolv_conf(cluster, pod)), check.flow.address):
        dashes = name.partition(".")[0].replace("-", "." if check.flow.query == "A" else ":")
        made_up = (f"5 {check.flow.query} {dashes}",) if name.endswith(".pod.cluster.local") else ()
        records = [each.split(" ", 1)[1] for each in known.get(name, made_up)]
        found = tuple(each for each in records if each.startswith(f"{check.flow.query} "))
        if found:
            return Result(outcome="ok", records=found)
    return Result(outcome="refused", reason="NXDOMAIN")


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_both_readings_agree(build: Build, family: str) -> None:
    cluster = build(MANIFESTS, ip_family=family, with_addons=True)
    checks = of_dns(cluster)
    verdicts = [judge(check, look_up(cluster, check)) for check in checks]
    assert [(verdict.check.name, verdict.reason) for verdict in verdicts if not verdict.passed] == []
    kinds = {check.flow.query for check in checks}
    assert kinds == {"ipv4": {"A"}, "ipv6": {"AAAA"}, "dual": {"A", "AAAA"}}[family] | {"SRV", "PTR", "CNAME"}


def test_every_form_is_asked_for(build: Build) -> None:
    found = [check.name.partition(" asks for ")[2] for check in of_dns(build(MANIFESTS, with_addons=True))]
    assert sorted(found) == [
        "A 10-244-0-2.default.pod.cluster.local.",
        "A db-0.db.shop.svc.cluster.local.",
        "A db-1.db.shop.svc.cluster.local.",
        "A db-2.db.shop.svc.cluster.local.",
        "A db.shop",
        "A kubernetes.default",
        "A none.shop.svc.cluster.local.",
        "A web.shop",
        "CNAME ext.default.svc.cluster.local.",
        "PTR 1.1.96.10.in-addr.arpa.",
        "PTR 4.0.244.10.in-addr.arpa.",
        "SRV _d._udp.db.shop.svc.cluster.local.",
        "SRV _http._tcp.web.shop.svc.cluster.local.",
        "SRV _pg._tcp.db.shop.svc.cluster.local.",
    ]


def test_a_wrong_record_is_named() -> None:
    def verdict(*records: str) -> str:
        return judge(check, Result(outcome="ok", records=records)).reason

    check = Check(type="pod-to-dns", name="", flow=None, records=("A 10.0.0.1", "A 10.0.0.2"))  # type: ignore[arg-type]
    assert verdict("A 10.0.0.2", "A 10.0.0.1") == ""
    assert verdict("A 10.0.0.1", "A 10.0.0.3") == "no A 10.0.0.2; not expected: A 10.0.0.3"


def test_pods_that_may_not_ask_are_passed_over(build: Build) -> None:
    checks = of_dns(build(MANIFESTS + DENY % "default", with_addons=True))
    assert {check.flow.sender.name.partition("/")[0] for check in checks} == {"shop"}
    assert all(check.expected == "ok" for check in checks if "none" not in check.name)


def test_where_nobody_may_ask_that_is_checked(build: Build) -> None:
    (check,) = of_dns(build(MANIFESTS + DENY % "default" + DENY % "shop", with_addons=True))
    assert (check.expected, check.records, check.flow.address) == ("timeout", (), "kubernetes.default")
    assert "NetworkPolicy default/deny" in check.because


def test_without_a_dns_of_the_labs_own_nothing_is_promised(build: Build) -> None:
    assert of_dns(build(MANIFESTS)) == []
    assert of_dns(build(MANIFESTS, with_addons=True, proxy_mode="none")) == []
