"""`compare`: every mode that this host can run is run, the others are named, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Done = subprocess.CompletedProcess[str]

MANIFESTS = """
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: web}}
spec: {nodeName: node1, containers: [{name: c, image: nginx, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node2, containers: [{name: c, image: nginx}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.mark.root
def test_the_modes_are_told_apart_by_packets(run: Callable[..., Done]) -> None:
    done = run("compare", "-f", "-", "--nodes", "2", "-o", "json", stdin=MANIFESTS)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert set(found) == {"variants", "differing", "flows"}
    assert [each["name"] for each in found["variants"]] == ["iptables", "ipvs", "nftables"]
    assert all(each["ran"] != bool(each["reason"] and each["fix"]) for each in found["variants"])
    ran = [each["name"] for each in found["variants"] if each["ran"]]
    for flow in found["flows"]:
        assert [result["variant"] for result in flow["results"]] == ran
        assert flow["differs"] == bool(flow["divergence"]), flow
    differing = {
        (flow["client"], flow["destination"]): flow["divergence"] for flow in found["flows"] if flow["differs"]
    }
    assert found["differing"] == len(differing)
    assert differing["pod", "undefined port"] == "undefined-port"
    assert differing["pod", "ping to ClusterIP"] == "ping-to-cluster-ip"
    assert differing["node with endpoint", "NodePort at localhost"] == "localhost-node-port"
    outside = next(flow for flow in found["flows"] if (flow["client"], flow["destination"]) == ("external", "LB IP"))
    assert {result["whose"] for result in outside["results"]} == {"client"}
    assert run("list", "-o", "json").stdout.strip() in ("[]", '{\n  "labs": []\n}')


@pytest.mark.root
def test_as_a_table_with_what_the_reasons_mean(run: Callable[..., Done]) -> None:
    done = run("compare", "-f", "-", "--nodes", "2", "--proxy-mode", "iptables,nftables", stdin=MANIFESTS)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["FROM", "TO", "SERVICE", "PROTOCOL", "IPTABLES", "NFTABLES", "WHY"]
    assert any(row.startswith("pod ") and "timeout" in row and row.endswith("undefined-port") for row in rows)
    assert any(row.startswith("undefined-port (ipvs, nftables): ") for row in rows)
    assert "differ" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--proxy-mode", "iptables"], "at least two", id="one-mode"),
        pytest.param(["--proxy-mode", "iptables,ebfp"], "ebfp cannot be compared", id="unknown-mode"),
    ],
)
def test_wrong_usage(run: Callable[..., Done], options: list[str], said: str) -> None:
    done = run("compare", "-f", "-", *options, stdin=MANIFESTS)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.vm
def test_every_difference_between_the_modes_is_documented(run: Callable[..., Done]) -> None:
    """Under a kernel that has IPVS all three are side by side."""
    done = run("compare", "-f", "-", "--nodes", "2", "--timeout", "2", "-o", "json", stdin=MANIFESTS)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [each["ran"] for each in found["variants"]] == [True, True, True]
    undocumented = [flow for flow in found["flows"] if flow["differs"] and not flow["divergence"]]
    assert undocumented == []
    assert {flow["divergence"] for flow in found["flows"]} > {"local-without-endpoints", "undefined-port"}
    by_class = {(flow["client"], flow["destination"]): flow["results"] for flow in found["flows"]}
    # The load balancer's address is found by ARP in every mode, although in ipvs mode every node has it.
    assert [result["whose"] for result in by_class["external", "LB IP"]] == ["client"] * 3
    assert done.returncode == 0
