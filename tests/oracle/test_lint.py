"""Lint: every sort of finding once, in the words of `lint/policies.txt`, and nothing about policies that are fine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.manifests.load import load
from k8snetlab.oracle.lint import MOST, lint

Build = Callable[..., Cluster]
FOLDER = Path(__file__).parent / "lint"

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, image: x, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec: {containers: [{name: c, image: x}]}
---
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s}
spec: {podSelector: {matchLabels: {app: web}}, %s}
---
"""


def test_every_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    found = lint(resolve(load(["policies.yaml"])))
    assert list(found) == Path("policies.txt").read_text().splitlines()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 80}]}]", id="usual"),
        pytest.param("ingress: []", id="deny"),
        pytest.param("ingress: [{ports: [{port: http}]}]", id="named-port"),
        pytest.param("ingress: [{from: [{ipBlock: {cidr: 198.51.100.0/24}}]}]", id="outside"),
        pytest.param(
            "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}}]}]", id="everybody-but-pods"
        ),
        pytest.param("policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]", id="egress-with-dns"),
        pytest.param(
            "policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: "
            "{kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]",
            id="egress-to-kube-dns",
        ),
        pytest.param(
            "ingress: [{from: [{podSelector: {matchLabels: {app: api}}}, "
            "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]}]",
            id="dashes-that-one-item-would-not-narrow",
        ),
    ],
)
def test_nothing_to_say(build: Build, spec: str) -> None:
    assert lint(build(PODS + POLICY % ("p", spec))) == ()


def test_egress_dns_of_two_policies_together(build: Build) -> None:
    """What one policy isolates another may allow: the union counts."""
    deny = POLICY % ("deny", "policyTypes: [Egress]")
    dns = POLICY % ("dns", "policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]")
    assert len(lint(build(PODS + deny))) == 1
    assert lint(build(PODS + deny + dns)) == ()


def test_many_of_a_sort_are_cut_short(build: Build) -> None:
    many = "".join(POLICY.replace("app: web", "app: nobody") % (f"p{n}", "ingress: []") for n in range(MOST + 5))
    found = lint(build(PODS + many))
    assert len(found) == MOST + 1
    assert found[-1] == "… and 5 more like these"


def test_no_policies_no_findings(build: Build) -> None:
    assert lint(build(PODS)) == ()
