from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.endpoint_slices import generated_slices
from k8snetlab.cluster.model import Cluster, Endpoint

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


def pod(name: str, *, ports: str = "[]", metadata: str = "", spec: str = "", rest: str = "", app: str = "web") -> str:
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {app}}}{metadata}}}\n"
        f"spec: {{{spec}containers: [{{name: c, image: x, ports: {ports}}}]}}\n{rest}"
    )


def slice_(
    name: str, endpoints: str, ports: str = "[{name: '', port: 8080}]", kind: str = "IPv4", more: str = ""
) -> str:
    return (
        f"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {kind}\n"
        f"metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web{more}}}}}\n"
        f"ports: {ports}\nendpoints: {endpoints}\n"
    )


def endpoints(cluster: Cluster, position: int = 0) -> tuple[Endpoint, ...]:
    service = cluster.service("default/web")
    assert service is not None
    return service.ports[position].endpoints


def shown(cluster: Cluster, position: int = 0) -> list[str]:
    return [f"{endpoint.ip}:{endpoint.port}" for endpoint in endpoints(cluster, position)]


def test_selected_by_every_label_in_the_own_namespace(build: Build, service: Yaml, workload: Yaml) -> None:
    text = workload("web", 2) + workload("web", 1, namespace="other") + workload("api", 1)
    cluster = build(text + service("web"))
    assert {endpoint.pod for endpoint in endpoints(cluster)} == {
        pod.key for pod in cluster.pods if pod.labels["app"] == "web" and pod.namespace == "default"
    }
    both = service("web", "selector: {app: web, tier: x}, ", selector=False)
    assert endpoints(build(text + both)) == ()


@pytest.mark.parametrize(
    ("changes", "publish", "readiness", "expected"),
    [
        pytest.param({}, False, {}, [(True, True, False)], id="ready"),
        pytest.param({}, False, {"default/p": False}, [(False, False, False)], id="set-not-ready"),
        pytest.param({}, True, {"default/p": False}, [(True, False, False)], id="publish-not-ready"),
        pytest.param(
            {"metadata": ", deletionTimestamp: '2026-01-01T00:00:00Z'"},
            False,
            {},
            [(False, True, True)],
            id="terminating",
        ),
        pytest.param(
            {"metadata": ", deletionTimestamp: '2026-01-01T00:00:00Z'"},
            True,
            {},
            [(True, True, True)],
            id="terminating-published",
        ),
        pytest.param(
            {"spec": "readinessGates: [{conditionType: x/y}], "}, False, {}, [(False, False, False)], id="gate"
        ),
        pytest.param(
            {"spec": "readinessGates: [{conditionType: x/y}], "},
            False,
            {"default/p": True},
            [(True, True, False)],
            id="gate-set-ready",
        ),
        pytest.param({"rest": "status: {phase: Failed}\n"}, True, {}, [], id="failed"),
        pytest.param({"rest": "status: {phase: Succeeded}\n"}, False, {}, [], id="succeeded"),
        pytest.param({"rest": "status: {phase: Pending}\n"}, False, {}, [(False, False, False)], id="pending"),
    ],
)
def test_conditions(
    build: Build,
    service: Yaml,
    changes: dict[str, str],
    publish: bool,
    readiness: dict[str, bool],
    expected: list[tuple[bool, bool, bool]],
) -> None:
    text = pod("p", **changes) + service("web", "publishNotReadyAddresses: true, " if publish else "")
    found = endpoints(build(text, readiness=readiness))
    assert [(endpoint.ready, endpoint.serving, endpoint.terminating) for endpoint in found] == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("", ["10.244.0.2:80", "10.244.1.2:80", "10.244.2.2:80"], id="same-as-port"),
        pytest.param(", targetPort: 9", ["10.244.0.2:9", "10.244.1.2:9", "10.244.2.2:9"], id="number"),
        pytest.param(", targetPort: http", ["10.244.0.2:8001", "10.244.1.2:8002"], id="name-in-each-pod"),
        pytest.param(", targetPort: dns, protocol: UDP", ["10.244.2.2:53"], id="name-and-protocol"),
        pytest.param(", targetPort: dns", [], id="name-of-another-protocol"),
    ],
)
def test_target_ports(build: Build, service: Yaml, target: str, expected: list[str]) -> None:
    text = (
        pod("a", ports="[{name: http, containerPort: 8001}]")
        + pod("b", ports="[{name: http, containerPort: 8002}]")
        + pod("c", ports="[{name: dns, containerPort: 53, protocol: UDP}]")
    )
    assert shown(build(text + service("web", ports=f"[{{port: 80{target}}}]"))) == expected


def test_a_host_network_pod_is_an_endpoint_at_its_node(build: Build, service: Yaml) -> None:
    assert shown(build(pod("p", spec="hostNetwork: true, ") + service("web"))) == ["172.18.0.2:80"]


def test_each_family_of_the_service(build: Build, service: Yaml) -> None:
    text = pod("p") + service("web", "ipFamilyPolicy: PreferDualStack, ")
    assert shown(build(text, ip_family="dual")) == ["10.244.0.2:80", "fd00:10:244::2:80"]
    assert shown(build(pod("p") + service("web", "ipFamilies: [IPv6], "), ip_family="dual")) == ["fd00:10:244::2:80"]


@pytest.mark.parametrize(
    ("spec", "hostname"),
    [
        pytest.param("hostname: one, subdomain: web, ", "one", id="both"),
        pytest.param("hostname: one, subdomain: other, ", "", id="other-subdomain"),
        pytest.param("subdomain: web, ", "", id="no-hostname"),
    ],
)
def test_hostnames(build: Build, service: Yaml, spec: str, hostname: str) -> None:
    (endpoint,) = endpoints(build(pod("p", spec=spec) + service("web", "clusterIP: None, ")))
    assert endpoint.hostname == hostname


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        pytest.param(slice_("s", "[{addresses: [192.0.2.1, 192.0.2.9]}]"), ["192.0.2.1:8080"], id="first-address-only"),
        pytest.param(
            slice_("s", "[{addresses: [192.0.2.2]}]") + slice_("t", "[{addresses: [192.0.2.1]}]"),
            ["192.0.2.1:8080", "192.0.2.2:8080"],
            id="slices-are-merged",
        ),
        pytest.param(slice_("s", "[{addresses: [192.0.2.1]}]", "[{name: x, port: 1}]"), [], id="other-port-name"),
        pytest.param(
            slice_("s", "[{addresses: [192.0.2.1]}]", "[{name: '', port: 1, protocol: UDP}]"), [], id="other-protocol"
        ),
        pytest.param(slice_("s", "[{addresses: [192.0.2.1]}]", "[{name: ''}]"), [], id="no-port"),
        pytest.param(slice_("s", "[{addresses: ['2001:db8::1']}]", kind="IPv6"), [], id="other-family"),
        pytest.param(
            slice_(
                "s",
                "[{addresses: [192.0.2.1]}]",
                more=", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io",
            ),
            [],
            id="an-export-of-the-controllers",
        ),
    ],
)
def test_slices_written_by_hand(build: Build, service: Yaml, slices: str, expected: list[str]) -> None:
    assert shown(build(slices + service("web", selector=False))) == expected


def test_the_same_address_twice_is_one_endpoint_and_the_one_with_a_node_wins(build: Build, service: Yaml) -> None:
    text = slice_("s", "[{addresses: [192.0.2.1]}]") + slice_("t", "[{addresses: [192.0.2.1], nodeName: node2}]")
    (endpoint,) = endpoints(build(text + service("web", selector=False)))
    assert endpoint.node == "node2"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param("", (True, True, False), id="unknown"),
        pytest.param("ready: false", (False, False, False), id="not-ready"),
        pytest.param("ready: false, serving: true, terminating: true", (False, True, True), id="terminating"),
    ],
)
def test_conditions_of_a_slice(build: Build, service: Yaml, conditions: str, expected: tuple[bool, bool, bool]) -> None:
    text = slice_("s", f"[{{addresses: [192.0.2.1], conditions: {{{conditions}}}}}]")
    (endpoint,) = endpoints(build(text + service("web", selector=False)))
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == expected


ENDPOINTS = """---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 192.0.2.1, nodeName: node1}, {ip: 10.244.0.2}]
  notReadyAddresses: [{ip: 192.0.2.3}]
  ports: [{port: 8080}]
"""


def test_endpoints_written_by_hand(build: Build, service: Yaml) -> None:
    found = endpoints(build(ENDPOINTS + pod("p", app="db") + service("web", selector=False)))
    assert [(str(each.ip), each.ready, each.node, each.pod) for each in found] == [
        ("10.244.0.2", True, None, "default/p"),
        ("192.0.2.1", True, "node1", None),
        ("192.0.2.3", False, None, None),
    ]


def test_endpoints_of_a_service_with_selector_are_the_controllers_business(build: Build, service: Yaml) -> None:
    assert shown(build(ENDPOINTS + pod("p") + service("web"))) == ["10.244.0.2:80"]


@pytest.mark.parametrize(
    ("distribution", "zones", "nodes"),
    [
        pytest.param("", (), (), id="none"),
        pytest.param("trafficDistribution: PreferClose, ", ("a",), (), id="close"),
        pytest.param("trafficDistribution: PreferSameZone, ", ("a",), (), id="zone"),
        pytest.param("trafficDistribution: PreferSameNode, ", ("a",), ("n",), id="node"),
    ],
)
def test_topology_hints(
    build: Build, service: Yaml, distribution: str, zones: tuple[str, ...], nodes: tuple[str, ...]
) -> None:
    node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/zone: a}}\n"
    (endpoint,) = endpoints(build(node + pod("p") + service("web", distribution)))
    assert (endpoint.zones, endpoint.nodes, endpoint.zone) == (zones, nodes, "a")


def test_an_unready_endpoint_has_no_hints(build: Build, service: Yaml) -> None:
    text = pod("p") + service("web", "trafficDistribution: PreferSameNode, ")
    (endpoint,) = endpoints(build(text, readiness={"default/p": False}))
    assert (endpoint.zones, endpoint.nodes) == ((), ())


# --- EndpointSlice objects --------------------------------------------------------------------------------------------


def slices_of(cluster: Cluster) -> list[tuple[str, int, list[int | None]]]:
    service = cluster.service("default/web")
    assert service is not None
    return [
        (slice_.address_type, len(slice_.endpoints), [port.port for port in slice_.ports])
        for slice_ in generated_slices(cluster, service)
    ]


def test_at_most_a_hundred_endpoints_a_slice(build: Build, service: Yaml, workload: Yaml) -> None:
    cluster = build(workload("web", 250) + service("web"), nodes=3)
    assert slices_of(cluster) == [("IPv4", 100, [80]), ("IPv4", 100, [80]), ("IPv4", 50, [80])]


def test_a_slice_for_each_family_and_each_meaning_of_a_named_port(build: Build, service: Yaml) -> None:
    text = pod("a", ports="[{name: http, containerPort: 1}]") + pod("b", ports="[{name: http, containerPort: 2}]")
    text += service("web", "ipFamilyPolicy: PreferDualStack, ", ports="[{port: 80, targetPort: http}]")
    assert slices_of(build(text, ip_family="dual")) == [
        ("IPv4", 1, [1]),
        ("IPv4", 1, [2]),
        ("IPv6", 1, [1]),
        ("IPv6", 1, [2]),
    ]


def test_a_service_without_pods_has_one_empty_slice(build: Build, service: Yaml) -> None:
    assert slices_of(build(service("web"))) == [("IPv4", 0, [])]


def test_slices_written_by_hand_are_not_written_again(build: Build, service: Yaml) -> None:
    assert slices_of(build(slice_("s", "[{addresses: [192.0.2.1]}]") + service("web", selector=False))) == []


def test_a_headless_service_without_ports_still_has_addresses(build: Build) -> None:
    text = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, selector: {app: web}}\n"
    assert slices_of(build(pod("p") + text)) == [("IPv4", 1, [])]
