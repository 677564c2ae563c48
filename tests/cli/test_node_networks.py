"""Nodes on further networks: reached there, and only there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec:
  ipFamily: dual
  kubeProxyMode: MODE
  nodePortAddresses: [10.9.0.0/24]
  nodes:
  - {name: a, interfaces: [{name: eth1, network: storage, address: "10.9.0.1/24,fd00:9::1/64"}]}
  - {name: b, interfaces: [{name: eth1, network: storage, address: "10.9.0.2/24,fd00:9::2/64"}]}
  - {name: c, interfaces: [{name: eth1, network: backup, address: 10.9.0.3/24}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: a, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
"""


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_nodes_meet_on_their_networks(mode: str, run: Any, lab_name: Callable[[], str]) -> None:
    name, manifests = lab_name(), MANIFESTS.replace("MODE", mode)

    def probe(*words: str) -> dict[str, Any]:
        result = json.loads(run("probe", "--lab", name, "-o", "json", "--timeout", "0.5", *words).stdout)["results"][0]
        assert isinstance(result, dict)
        return result

    def up(text: str) -> dict[str, int]:
        done = run("up", "--lab", name, "-o", "json", "-f", "-", stdin=text)
        assert done.returncode == 0, done.stderr
        changed = json.loads(done.stdout)["changed"]
        assert isinstance(changed, dict)
        return changed

    up(manifests)
    assert up(manifests) == {"created": 0, "deleted": 0, "updated": 0}
    for address in ("10.9.0.2", "fd00:9::2"):
        assert probe("node/a", address, "--protocol", "ICMP")["outcome"] == "ok"
    assert probe("web", "10.9.0.2", "--protocol", "ICMP")["outcome"] == "ok"
    assert probe("node/c", "10.9.0.2", "--protocol", "ICMP")["outcome"] != "ok"  # the same range on another network
    # Node ports are where nodePortAddresses says, and nowhere else.
    assert probe("node/b", "10.9.0.1", "--port", "30080")["server"] == "default/web"
    assert probe("node/b", "node/a", "--port", "30080")["outcome"] == "refused"
    assert run("check", "--lab", name).returncode == 0
    # Another network is another switch: the cable is plugged over, nothing else moves.
    up(manifests.replace("network: backup", "network: storage"))
    assert run("status", "--lab", name).returncode == 0
    assert probe("node/c", "10.9.0.2", "--protocol", "ICMP")["outcome"] == "ok"
    up(re.sub(r", interfaces: .*}$", "}", manifests, flags=re.MULTILINE))
    assert run("status", "--lab", name).returncode == 0
