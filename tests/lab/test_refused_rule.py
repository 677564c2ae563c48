"""A rule that the kernel refuses: the old rules stay whole, and the error names the Service and its file and line."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

import pytest

from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.errors import KernelError
from k8snetlab.lab import converge, life
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.store import Record
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.state import IptablesChain, KernelObject, NftChain, NftElement, Plan

pytestmark = pytest.mark.root

MANIFESTS = """\
    apiVersion: k8snetlab.dev/v1
    kind: Lab
    spec: {nodes: 1, LAB}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: web, labels: {app: web}}
    spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: first}
    spec: {clusterIP: 10.96.0.41, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: second}
    spec: {clusterIP: 10.96.0.42, selector: {app: web}, ports: [{port: PORT, targetPort: 8080}]}
    """
LINE_OF_SECOND = 15


def record(lab_document: str, port: int) -> Record:
    text = dedent(MANIFESTS).replace("LAB", lab_document).replace("PORT", str(port))
    manifests = load_text(text.encode(), "shop.yaml")
    cluster = resolve(manifests, Overrides())
    return Record(manifests=manifests, cluster=cluster, plan=build(cluster))


def spoilt(item: KernelObject) -> KernelObject:
    """One rule of Service `second` turned into what no kernel takes."""
    if isinstance(item, IptablesChain):
        rules = (rule.replace("--dport 82", "--dport 82 -m nosuchmatch") for rule in item.rules)
        return replace(item, rules=tuple(rules))
    if isinstance(item, NftChain) and "/second/" in item.name and item.name.startswith("service-"):
        return replace(item, rules=(*item.rules, "ip daddr no-such-address drop"))
    if isinstance(item, NftElement) and item.key.startswith("10.96.0.42 . tcp . 82"):
        return replace(item, value="goto no-such-chain")
    return item


@pytest.mark.parametrize(
    "lab_document",
    [
        pytest.param("kubeProxyMode: iptables", id="iptables"),
        pytest.param("kubeProxyMode: iptables, iptablesBackend: legacy", id="iptables-legacy"),
        pytest.param("kubeProxyMode: nftables", id="nftables"),
        pytest.param("kubeProxyMode: nftables, nftablesLayout: flat", id="nftables-flat"),
    ],
)
def test_the_old_rules_stay_and_the_service_is_named(name: str, lab_document: str) -> None:
    before, after = record(lab_document, 81), record(lab_document, 82)
    bad = tuple(map(spoilt, after.plan.objects))
    assert bad != after.plan.objects
    with life.locked(name) as lab:
        life.up(lab, before)
        with pytest.raises(KernelError) as caught:
            life.change(lab, replace(after, plan=Plan(bad)))
        assert caught.value.message.endswith(f" (Service default/second, shop.yaml:{LINE_OF_SECOND})")
        assert lab.holder is not None
        assert not run_in(lab.holder, converge.drift_from, before.plan)
        life.up(lab, after)  # and the next good one goes through
        assert not life.status(lab.holder)


@pytest.mark.parametrize("lab_document", ["kubeProxyMode: iptables", "kubeProxyMode: nftables"])
def test_a_new_lab_says_it_too_and_is_gone(name: str, lab_document: str) -> None:
    after = record(lab_document, 82)
    with life.locked(name) as lab:
        with pytest.raises(KernelError, match=r"\(Service default/second, shop.yaml:15\)"):
            life.up(lab, replace(after, plan=Plan(tuple(map(spoilt, after.plan.objects)))))
        assert lab.holder is None


POLICY = """\
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: second}
spec:
  podSelector: {}
  ingress:
  - ports: [{port: 81}]
  - ports: [{port: PORT}]
"""


@pytest.mark.parametrize("engine", ["iptables", "nftables"])
def test_a_rule_of_a_policy_is_the_policys_also_beside_a_service_of_its_name(name: str, engine: str) -> None:
    def with_policy(port: int) -> Record:
        text = dedent(MANIFESTS).replace("LAB", f"policyEngine: {engine}").replace("PORT", "81") + POLICY
        manifests = load_text(text.replace("PORT", str(port)).encode(), "shop.yaml")
        cluster = resolve(manifests, Overrides())
        return Record(manifests=manifests, cluster=cluster, plan=build(cluster))

    def broken(item: KernelObject) -> KernelObject:
        if isinstance(item, IptablesChain):
            return replace(
                item, rules=tuple(rule.replace("--dport 83", "--dport 83 -m nosuchmatch") for rule in item.rules)
            )
        if isinstance(item, NftChain):
            return replace(
                item, rules=tuple(rule.replace("tcp dport 83", "tcp dport no-such-port") for rule in item.rules)
            )
        return item

    before, after = with_policy(82), with_policy(83)
    bad = tuple(map(broken, after.plan.objects))
    assert bad != after.plan.objects
    with life.locked(name) as lab:
        life.up(lab, before)
        with pytest.raises(KernelError) as caught:
            life.change(lab, replace(after, plan=Plan(bad)))
        written = 1 + (dedent(MANIFESTS) + POLICY).splitlines().index("  - ports: [{port: PORT}]")
        assert caught.value.message.endswith(f" (NetworkPolicy default/second ingress[1], shop.yaml:{written})")
        assert "Service" not in caught.value.message
        assert lab.holder is not None
        assert not run_in(lab.holder, converge.drift_from, before.plan).missing
        life.up(lab, after)
        assert not life.status(lab.holder)
