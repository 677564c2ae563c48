"""All three of kube-proxy's modes side by side, under a kernel that has IPVS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

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


@pytest.mark.vm
def test_every_difference_between_the_modes_is_documented(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
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
