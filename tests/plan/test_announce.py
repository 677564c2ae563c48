"""How load balancer addresses are made reachable, by ARP or by BGP; and routes to externalIPs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.state import Address, Announcement, File, LearnedRoute, Plan, Process, Route, Sysctl

Resolved = Callable[..., Cluster]

MANIFESTS = """
    {lab}
    apiVersion: v1
    kind: Pod
    metadata: {{name: web, labels: {{app: web}}}}
    spec: {{nodeName: node2, containers: [{{name: c, image: x, ports: [{{containerPort: 80}}]}}]}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {{name: web}}
    spec: {{type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {{app: web}}, ports: [{{port: 80}}]}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {{name: local}}
    spec:
      type: LoadBalancer
      externalTrafficPolicy: Local
      externalIPs: [198.18.0.7]
      selector: {{app: web}}
      ports: [{{port: 80}}]
"""
BGP = """apiVersion: k8snetlab.dev/v1
    kind: Lab
    spec: {loadBalancer: {pool: "192.0.2.64/26,2001:db8:77::/112", mode: bgp}}
    ---"""


def planned(resolved: Resolved, lab: str = "", **options: object) -> Plan:
    return build(resolved(MANIFESTS.format(lab=lab), **options))


def test_l2_one_node_answers_and_nobody_has_the_address(resolved: Resolved) -> None:
    plan = planned(resolved)
    found = {str(item.address): item.netns for item in plan.objects if isinstance(item, Announcement)}
    assert found["172.18.255.1"] == "node2", "policy Local: where the endpoint is"
    assert set(found) == {"172.18.255.1", "172.18.255.2"}
    addresses = {str(item.interface.ip) for item in plan.objects if isinstance(item, Address)}
    assert not addresses & set(found)
    assert not [item for item in plan.objects if isinstance(item, LearnedRoute | File | Process)]


@pytest.mark.parametrize(("mode", "strict"), [("iptables", False), ("ipvs", True)])
def test_in_ipvs_mode_the_kernel_must_not_answer_arp_for_what_every_node_has(
    resolved: Resolved, mode: str, strict: bool
) -> None:
    found = [item for item in planned(resolved, proxy_mode=mode).objects if isinstance(item, Sysctl)]
    ignoring = {item.netns for item in found if item.key == "net.ipv4.conf.all.arp_ignore" and item.value == "1"}
    assert ignoring == ({"node1", "node2", "node3"} if strict else set())


def test_for_ipv6_the_router_has_an_address_to_ask_from(resolved: Resolved) -> None:
    for family, expected in (("ipv4", 0), ("dual", 1)):
        plan = planned(resolved, ip_family=family)
        local = [item for item in plan.objects if isinstance(item, Address) and item.interface.ip.is_link_local]
        assert len(local) == expected


def test_an_external_ip_is_routed_to_a_node_that_has_an_endpoint(resolved: Resolved) -> None:
    routes = {
        str(item.destination): str(item.via)
        for item in planned(resolved).objects
        if isinstance(item, Route) and item.netns == "router"
    }
    assert routes["198.18.0.7/32"] == "172.18.0.3"


def test_bgp_the_router_learns_every_node_that_may(resolved: Resolved) -> None:
    plan = planned(resolved, BGP, ip_family="dual")
    learned = {
        str(item.destination): [str(hop) for hop in item.gateways]
        for item in plan.objects
        if isinstance(item, LearnedRoute)
    }
    assert learned == {
        "192.0.2.65/32": ["172.18.0.3"],
        "192.0.2.66/32": ["172.18.0.2", "172.18.0.3", "172.18.0.4"],
        "2001:db8:77::1/128": ["fd00:172:18::2", "fd00:172:18::3", "fd00:172:18::4"],
    }
    assert not [item for item in plan.objects if isinstance(item, Announcement)]
    speakers = {item.netns for item in plan.objects if isinstance(item, Process)}
    assert speakers == {"router", "node1", "node2", "node3"}


def test_bgp_a_node_announces_its_own_addresses_only(resolved: Resolved) -> None:
    files = {item.path: item.content for item in planned(resolved, BGP).objects if isinstance(item, File)}
    assert "route 192.0.2.65/32" in files["bgp-node2/bird.conf"]
    assert "route 192.0.2.65/32" not in files["bgp-node1/bird.conf"]
    assert "route 192.0.2.66/32" in files["bgp-node1/bird.conf"]


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_bgp_bird_takes_every_configuration(resolved: Resolved, tmp_path: Path, family: str) -> None:
    bird = shutil.which("bird") or shutil.which("bird", path="/usr/sbin")
    assert bird, "bird is not installed: tools/setup"
    files = [item for item in planned(resolved, BGP, ip_family=family).objects if isinstance(item, File)]
    assert len(files) == 4
    for item in files:
        path = tmp_path / item.path.replace("/", "-")
        path.write_text(item.content)
        done = subprocess.run([bird, "-p", "-c", str(path)], capture_output=True, text=True, check=False, timeout=10)
        assert (done.returncode, done.stderr) == (0, "")


def test_without_load_balancers_nobody_speaks(resolved: Resolved) -> None:
    plan = build(resolved("    " + BGP.replace("---", "")))
    assert not [item for item in plan.objects if isinstance(item, File | Process | LearnedRoute)]
