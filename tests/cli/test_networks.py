"""Every pod network with the same manifests: made as planned, proven by packets, not touched the second time; and from
one to another in a running lab."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count

import pytest

from tests.cli.conftest import Done

Run = Callable[..., Done]
MANIFESTS = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
        - name: web
          image: nginx
          ports: [{containerPort: 8080, hostPort: 8080}, {containerPort: 5353, protocol: UDP}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: client}
spec:
  selector: {matchLabels: {app: client}}
  template: {metadata: {labels: {app: client}}, spec: {containers: [{name: c, image: busybox}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: NodePort, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {hostNetwork: true, containers: [{name: c, image: agent, ports: [{containerPort: 9100}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: agent}
spec: {selector: {app: agent}, ports: [{port: 9100}]}
"""
NETWORKS = [
    pytest.param("flannel", "vxlan", "dual", id="flannel-vxlan"),
    pytest.param("flannel", "vxlan", "ipv6", id="flannel-vxlan-over-ipv6"),
    pytest.param("flannel", "host-gw", "dual", id="flannel-host-gw"),
    pytest.param("calico", "vxlan", "dual", id="calico-vxlan"),
    pytest.param("calico", "vxlan", "ipv6", id="calico-vxlan-over-ipv6"),
    pytest.param("calico", "none", "dual", id="calico-routes"),
    pytest.param("calico", "bgp", "dual", id="calico-bgp"),
    pytest.param("calico", "bgp", "ipv6", id="calico-bgp-over-ipv6"),
    pytest.param("weave", "vxlan", "dual", id="weave"),
    pytest.param("weave", "vxlan", "ipv6", id="weave-over-ipv6"),
]
_numbers = count(1)

pytestmark = pytest.mark.root


@pytest.fixture
def lab(run: Run) -> Run:
    """`lab(command, …)` with a lab of this test's own."""
    name = f"net{os.getpid()}-{next(_numbers)}"
    return lambda command, *words, stdin="": run(command, "--lab", name, *words, stdin=stdin)


def up(lab: Run, *options: str) -> dict[str, int]:
    done = lab("up", "-f", "-", "-o", "json", "--nodes", "2", *options, stdin=MANIFESTS)
    assert done.returncode == 0, done.stderr
    changed: dict[str, int] = json.loads(done.stdout)["changed"]
    return changed


def failed(lab: Run) -> list[dict[str, str]]:
    return [each for each in json.loads(lab("check", "-o", "json").stdout)["checks"] if not each["passed"]]


def drift(lab: Run) -> object:
    return json.loads(lab("status", "-o", "json").stdout)["drift"]


@pytest.mark.parametrize(("network", "backend", "family"), NETWORKS)
def test_it_is_what_was_planned_and_every_check_passes(lab: Run, network: str, backend: str, family: str) -> None:
    options = ("--network", network, "--backend", backend, "--ip-family", family)
    up(lab, *options)
    assert drift(lab) == {"missing": [], "extra": []}
    assert failed(lab) == []
    assert up(lab, *options) == {"created": 0, "deleted": 0, "updated": 0}


def test_a_running_lab_goes_through_all_of_them(lab: Run) -> None:
    for network, backend in (
        ("bridge", "vxlan"), ("calico", "bgp"), ("weave", "vxlan"), ("calico", "none"), ("flannel", "host-gw"),
        ("calico", "bgp"), ("calico", "vxlan"), ("bridge", "host-gw"),
    ):  # fmt: skip
        up(lab, "--network", network, "--backend", backend)
        assert drift(lab) == {"missing": [], "extra": []}, network
        assert failed(lab) == [], network


def test_a_network_has_only_its_own_backends(lab: Run) -> None:
    done = lab("up", "-f", "-", "--network", "weave", "--backend", "bgp", stdin=MANIFESTS)
    assert done.returncode == 2
    assert "network weave has no backend bgp; its only one is vxlan" in done.stderr


def test_bgp_learns_forgets_and_is_waited_for(lab: Run) -> None:
    options = ("--network", "calico", "--backend", "bgp")
    up(lab, *options)
    shown = lab("exec", "node/node1", "--", "birdc", "show", "route")
    assert "10.244.0.64/26" in shown.stdout
    assert "Mesh_172_18_0_3" in shown.stdout
    lab("exec", "node/node1", "--", "birdc", "disable", "Mesh_172_18_0_3")
    missing = json.loads(lab("status", "-o", "json").stdout)["drift"]["missing"]
    assert {item["type"] for item in missing} == {"LearnedRoute"}
    lab("exec", "node/node1", "--", "birdc", "enable", "Mesh_172_18_0_3")
    up(lab, *options)  # returns when the routes are back
    assert drift(lab) == {"missing": [], "extra": []}
    done = lab("up", "-f", "-", "-o", "json", "--nodes", "3", *options, stdin=MANIFESTS)
    assert done.returncode == 0, done.stderr
    assert drift(lab) == {"missing": [], "extra": []}
    assert failed(lab) == []


def test_a_node_that_is_cut_off_is_forgotten_and_heard_of_again(lab: Run) -> None:
    up(lab, "--network", "calico", "--backend", "bgp")
    assert lab("node", "down", "node2").returncode == 0
    assert drift(lab) == {"missing": [], "extra": []}
    assert "via" not in lab("exec", "node/node1", "--", "ip", "route", "show", "proto", "bird").stdout
    assert lab("node", "up", "node2").returncode == 0
    assert drift(lab) == {"missing": [], "extra": []}
    assert failed(lab) == []


def test_a_reflector_hands_on_what_it_hears(lab: Run) -> None:
    nodes = "[{name: node1, labels: {route-reflector: 'true'}}, {name: node2}, {name: node3}]"
    spec = f"{{nodes: {nodes}, network: calico, backend: bgp}}"
    document = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {{name: rr}}\nspec: {spec}\n---\n"
    done = lab("up", "-f", "-", stdin=document + MANIFESTS)
    assert done.returncode == 0, done.stderr
    sessions = lab("exec", "node/node3", "--", "birdc", "show", "protocols").stdout
    assert "Node_172_18_0_2" in sessions
    assert "172_18_0_3" not in sessions
    routes = lab("exec", "node/node3", "--", "ip", "route").stdout
    assert "10.244.0.64/26 via 172.18.0.3 dev eth0 proto bird" in routes
    assert failed(lab) == []


def test_a_node_shows_the_files_of_its_daemons(lab: Run) -> None:
    up(lab, "--network", "flannel")
    shown = lab("exec", "node/node2", "--", "cat", "/run/flannel/subnet.env").stdout
    assert shown == (
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    assert lab("exec", "client", "--", "cat", "/run/flannel/subnet.env").returncode != 0


SLOW = """
apiVersion: v1
kind: Pod
metadata: {name: slow, annotations: {kubernetes.io/ingress-bandwidth: 8M, kubernetes.io/egress-bandwidth: 16M}}
spec: {nodeName: node1, containers: [{name: c, image: nginx, ports: [{containerPort: 80}]}]}
"""


@pytest.mark.parametrize("network", ["bridge", "calico"])
def test_bandwidth_is_limited_and_set_free(lab: Run, network: str) -> None:
    assert lab("up", "-f", "-", "--network", network, stdin=SLOW).returncode == 0
    assert "rate 8Mbit" in lab("exec", "node/node1", "--", "tc", "qdisc", "show").stdout
    assert "rate 16Mbit" in lab("exec", "slow", "--", "tc", "qdisc", "show").stdout
    assert drift(lab) == {"missing": [], "extra": []}
    assert lab("up", "-f", "-", "--network", network, stdin=SLOW.replace("16M", "9M")).returncode == 0
    assert "rate 9Mbit" in lab("exec", "slow", "--", "tc", "qdisc", "show").stdout
    free = SLOW.partition(", annotations")[0] + "}" + SLOW.partition("16M}}")[2]
    assert lab("up", "-f", "-", "--network", network, stdin=free).returncode == 0
    assert "tbf" not in lab("exec", "node/node1", "--", "tc", "qdisc", "show").stdout
    assert "tbf" not in lab("exec", "slow", "--", "tc", "qdisc", "show").stdout
