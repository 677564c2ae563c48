"""Zone hints by annotation: the arithmetic of the EndpointSlice controller's topology cache (conformance 1.12 #7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster.model import Cluster, Endpoint
from k8snetlab.cluster.topology_hints import OVERLOAD, auto_hints

HALVES = {"a": 0.5, "b": 0.5}
THIRDS = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def ready(zones: str) -> list[Endpoint]:
    """One endpoint a letter, `-` for one without a zone."""
    return [
        Endpoint(ip=ip_address(f"10.244.9.{number}"), port=80, node=f"n{zone}", zone=zone.strip("-"))
        for number, zone in enumerate(zones, 1)
    ]


@pytest.mark.parametrize(
    ("zones", "shares", "expected"),
    [
        pytest.param("ab", HALVES, "ab", id="each its own"),
        pytest.param("aabb", HALVES, "aabb", id="even"),
        pytest.param("aaab", HALVES, "baab", id="one is given away"),
        pytest.param("aaaa", HALVES, "bbaa", id="a zone without any gets its share"),
        pytest.param("aab", HALVES, "", id="three for two zones: one would be 33 % above its share"),
        pytest.param("aaabb", HALVES, "", id="five for two zones: 20 % is not enough"),
        pytest.param("aaaaaabbbbb", HALVES, "aaaaaabbbbb", id="eleven: half an endpoint is not moved"),
        pytest.param("abc", THIRDS, "abc", id="three zones"),
        pytest.param("aaabcc", THIRDS, "baabcc", id="from the richest to the poorest"),
        pytest.param("a", HALVES, "", id="fewer endpoints than zones"),
        pytest.param("", HALVES, "", id="no endpoints"),
        pytest.param("a-bb", HALVES, "", id="one without a zone: no hints at all"),
        pytest.param("aabb", {}, "", id="nothing known of the nodes"),
        pytest.param("aaab", {"a": 0.75, "b": 0.25}, "aaab", id="zones of unequal weight"),
        pytest.param("aabb", {"a": 0.75, "b": 0.25}, "aaab", id="endpoints follow the weight"),
        pytest.param("abzz", HALVES, "abzz", id="a zone that only the control plane is in keeps what is there"),
    ],
)
def test_which_zone_each_is_for(zones: str, shares: dict[str, float], expected: str) -> None:
    hints = auto_hints(ready(zones), shares)
    assert "".join(hints[each.ip] for each in ready(zones) if each.ip in hints) == expected


@given(st.text(alphabet="abc", min_size=1, max_size=30), st.tuples(*[st.integers(1, 6)] * 3))
def test_no_zone_is_overloaded(zones: str, nodes: tuple[int, int, int]) -> None:
    """What the safeguards are for: with hints, no zone has to serve more than its share and a fifth of it."""
    shares = {zone: count / sum(nodes) for zone, count in zip("abc", nodes, strict=True)}
    hints = auto_hints(ready(zones), shares)
    assert len(hints) in (0, len(zones))
    counts = Counter(hints.values())
    for zone, share in shares.items():
        if hints:
            fair = share * len(zones)
            assert fair <= counts[zone] * (1 + OVERLOAD) + 1e-9 or counts[zone] >= fair - 1


NODES = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec:
  nodes:
  - {name: n1, labels: {topology.kubernetes.io/zone: a}}
  - {name: n2, labels: {topology.kubernetes.io/zone: b}}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {ANNOTATION}}
spec: {DISTRIBUTION selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: web}}
spec: {nodeName: NODE, containers: [{name: c, image: x}]}
---
"""


@pytest.mark.parametrize(
    ("annotation", "distribution", "expected"),
    [
        pytest.param("service.kubernetes.io/topology-mode: Auto", "", [("b",), ("b",), ("a",), ("a",)], id="Auto"),
        pytest.param("service.kubernetes.io/topology-mode: auto", "", [("b",), ("b",), ("a",), ("a",)], id="auto"),
        pytest.param("service.kubernetes.io/topology-mode: Disabled", "", [(), (), (), ()], id="another value"),
        pytest.param(
            "service.kubernetes.io/topology-aware-hints: auto", "", [("b",), ("b",), ("a",), ("a",)], id="old name"
        ),
        pytest.param(
            "service.kubernetes.io/topology-aware-hints: disabled, service.kubernetes.io/topology-mode: Auto", "",
            [(), (), (), ()], id="the old name wins",
        ),
        pytest.param(
            "service.kubernetes.io/topology-mode: Auto", "trafficDistribution: PreferSameNode,",
            [("b",), ("b",), ("a",), ("a",)], id="and over the field",
        ),
        pytest.param("", "trafficDistribution: PreferClose,", [("a",), ("a",), ("a",), ("a",)], id="the field alone"),
    ],
)  # fmt: skip
def test_hints_of_a_service(
    build: Callable[..., Cluster], annotation: str, distribution: str, expected: list[tuple[str, ...]]
) -> None:
    """Four pods on one node of two: with the annotation half of them are for the other zone."""
    service = SERVICE.replace("ANNOTATION", annotation).replace("DISTRIBUTION", distribution)
    pods = "".join(POD.replace("NAME", f"p{number}").replace("NODE", "n1") for number in range(4))
    found = build(NODES + service + pods).service("default/web")
    assert found is not None
    for port in found.ports:  # both ports: an address that serves two ports is one endpoint
        assert [endpoint.zones for endpoint in port.endpoints] == expected
        assert {endpoint.nodes for endpoint in port.endpoints} == {()}


def test_a_node_without_a_zone_switches_it_off(build: Callable[..., Cluster]) -> None:
    service = SERVICE.replace("ANNOTATION", "service.kubernetes.io/topology-mode: Auto").replace("DISTRIBUTION", "")
    pods = "".join(POD.replace("NAME", f"p{number}").replace("NODE", "n1") for number in range(4))
    found = build(NODES.replace("{name: n2, labels: {topology.kubernetes.io/zone: b}}", "{name: n2}") + service + pods)
    web = found.service("default/web")
    assert web is not None
    assert {endpoint.zones for port in web.ports for endpoint in port.endpoints} == {()}
