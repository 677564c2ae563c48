from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster.allocators import NumberPool, cluster_ip_pool, node_port_pool
from k8snetlab.cluster.model import Cluster, Service

Build = Callable[..., Cluster]
Yaml = Callable[..., str]

LAB = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {{name: l}}\nspec: {{{}}}\n"
BOTH = "[{name: a, port: 53, protocol: UDP}, {name: b, port: 53, protocol: TCP}, {name: c, port: 80}]"
LOCAL = "type: LoadBalancer, externalTrafficPolicy: Local, "


def only(cluster: Cluster) -> Service:
    (service,) = cluster.services
    return service


def ips(cluster: Cluster) -> dict[str, list[str]]:
    return {service.name: [str(ip) for ip in service.cluster_ips] for service in cluster.services}


# --- ClusterIPs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "first"),
    [
        pytest.param("10.96.0.0/12", "10.96.1.1", id="offset-256"),
        pytest.param("10.96.0.0/24", "10.96.0.17", id="offset-16"),
        pytest.param("10.96.0.0/22", "10.96.0.65", id="offset-a-sixteenth"),
        pytest.param("10.96.0.0/28", "10.96.0.2", id="too-small-for-a-band"),
    ],
)
def test_dynamic_addresses_start_above_the_static_band(build: Build, service: Yaml, subnet: str, first: str) -> None:
    assert ips(build(LAB.format(f"serviceSubnet: {subnet}") + service("web")))["web"] == [first]


def test_the_lower_band_is_used_when_the_upper_is_full_and_reserved_ones_never(build: Build, service: Yaml) -> None:
    text = LAB.format("serviceSubnet: 10.96.0.0/27") + "".join(service(f"s{number:02}") for number in range(28))
    given_out = [addresses[0] for addresses in ips(build(text)).values()]
    assert given_out[0] == "10.96.0.17"
    assert len(set(given_out)) == 28
    assert not {"10.96.0.0", "10.96.0.1", "10.96.0.10", "10.96.0.31"} & set(given_out)


def test_a_full_range(problems: Callable[..., list[str]], service: Yaml) -> None:
    text = LAB.format("serviceSubnet: 10.96.0.0/27") + "".join(service(f"s{number:02}") for number in range(29))
    (found,) = problems(text)
    assert "Service default/s28: spec.clusterIP: no address left in the Service subnet 10.96.0.0/27" in found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("clusterIP: 10.95.0.1, ", "not in the valid range 10.96.0.1-10.111.255.254", id="outside"),
        pytest.param("clusterIP: 10.96.0.0, ", "not in the valid range", id="network-address"),
        pytest.param("clusterIP: 10.111.255.255, ", "not in the valid range", id="broadcast-address"),
        pytest.param("clusterIP: 10.96.0.1, ", "already allocated to default/kubernetes", id="api-server"),
        pytest.param("clusterIP: 10.96.0.10, ", "already allocated to kube-system/kube-dns", id="dns"),
        pytest.param("clusterIP: 10.96.0.77, ", "already allocated to default/aaa", id="taken"),
        pytest.param("ipFamilyPolicy: RequireDualStack, ", "not configured for dual-stack", id="dual"),
        pytest.param("ipFamilies: [IPv6], ", "IPv6 is not configured on this lab", id="family"),
    ],
)
def test_refused_addresses(problems: Callable[..., list[str]], service: Yaml, spec: str, message: str) -> None:
    (found,) = problems(service("aaa", "clusterIP: 10.96.0.77, ") + service("web", spec))
    assert "Service default/web: spec." in found
    assert message in found


def test_a_given_address_wins_over_a_dynamic_one_whatever_the_order(build: Build, service: Yaml) -> None:
    cluster = build(service("aaa") + service("web", "clusterIP: 10.96.1.1, "))
    assert ips(cluster) == {"aaa": ["10.96.1.2"], "web": ["10.96.1.1"]}


def test_cluster_dns_gets_its_own_address(build: Build, service: Yaml) -> None:
    cluster = build(service("kube-dns", namespace="kube-system"))
    assert ips(cluster) == {"kube-dns": ["10.96.0.10"]}


@pytest.mark.parametrize(
    ("spec", "families", "addresses", "policy"),
    [
        pytest.param("", ["IPv4"], ["10.96.1.1"], "SingleStack", id="default"),
        pytest.param("ipFamilies: [IPv6], ", ["IPv6"], ["fd00:10:96::101"], "SingleStack", id="v6"),
        pytest.param(
            "ipFamilyPolicy: PreferDualStack, ",
            ["IPv4", "IPv6"],
            ["10.96.1.1", "fd00:10:96::101"],
            "PreferDualStack",
            id="prefer",
        ),
        pytest.param(
            "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4], ",
            ["IPv6", "IPv4"],
            ["fd00:10:96::101", "10.96.1.1"],
            "RequireDualStack",
            id="order",
        ),
        pytest.param("clusterIP: 'fd00:10:96::77', ", ["IPv6"], ["fd00:10:96::77"], "SingleStack", id="by-address"),
        pytest.param("clusterIP: None, ", ["IPv4"], [], "SingleStack", id="headless"),
    ],
)
def test_families(
    build: Build, service: Yaml, spec: str, families: list[str], addresses: list[str], policy: str
) -> None:
    found = only(build(service("web", spec), ip_family="dual"))
    assert list(found.spec.ip_families) == families
    assert [str(ip) for ip in found.cluster_ips] == addresses
    assert found.spec.ip_family_policy == policy
    assert found.spec.cluster_ip == (addresses[0] if addresses else "None")


def test_prefer_dual_stack_on_a_single_stack_lab(build: Build, service: Yaml) -> None:
    assert len(only(build(service("web", "ipFamilyPolicy: PreferDualStack, "))).cluster_ips) == 1


def test_a_headless_service_without_selector_has_both_families(build: Build, service: Yaml) -> None:
    found = only(build(service("web", "clusterIP: None, ", selector=False), ip_family="dual"))
    assert found.spec.ip_families == ("IPv4", "IPv6")


def test_external_name_has_no_address(build: Build) -> None:
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: ExternalName, externalName: example.org}\n"
    found = only(build(text))
    assert (found.cluster_ips, found.spec.cluster_ip, found.proxied()) == ((), "", False)


# --- ports ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "ports", "expected"),
    [
        pytest.param("", "[{port: 80}]", [0], id="cluster-ip"),
        pytest.param("type: NodePort, ", "[{port: 80}]", [30086], id="dynamic-band"),
        pytest.param("type: NodePort, ", "[{port: 80, nodePort: 30001}]", [30001], id="given"),
        pytest.param("type: NodePort, ", BOTH, [30086, 30086, 30087], id="one-for-both-protocols"),
        pytest.param("type: LoadBalancer, ", "[{port: 80}]", [30086], id="load-balancer"),
        pytest.param(
            "type: LoadBalancer, allocateLoadBalancerNodePorts: false, ", "[{port: 80}]", [0], id="not-allocated"
        ),
        pytest.param(
            "type: NodePort, ",
            "[{name: a, port: 1, nodePort: 30001}, {name: b, port: 2, nodePort: 30001, protocol: UDP}]",
            [30001, 30001],
            id="given-twice-for-two-protocols",
        ),
    ],
)
def test_node_ports(build: Build, service: Yaml, spec: str, ports: str, expected: list[int]) -> None:
    found = only(build(service("web", spec, ports=ports)))
    assert [port.node_port for port in found.ports] == [port.node_port for port in found.spec.ports] == expected


@pytest.mark.parametrize(
    ("port", "message"),
    [
        pytest.param(
            29999,
            "spec.ports[0].nodePort: Invalid value: 29999: the provided port is not in the valid range 30000-32767",
            id="range",
        ),
        pytest.param(30005, "the provided port is already allocated to default/aaa", id="taken"),
    ],
)
def test_refused_node_ports(problems: Callable[..., list[str]], service: Yaml, port: int, message: str) -> None:
    text = "".join(
        service(name, "type: NodePort, ", ports=f"[{{port: 80, nodePort: {number}}}]")
        for name, number in (("aaa", 30005), ("web", port))
    )
    (found,) = problems(text)
    assert message in found


def test_one_number_for_different_protocols_of_two_services(build: Build, service: Yaml) -> None:
    cluster = build(
        service("a", "type: NodePort, ", ports="[{port: 53, nodePort: 30053, protocol: UDP}]")
        + service("b", "type: NodePort, ", ports="[{port: 53, nodePort: 30053}]")
    )
    assert [service.ports[0].node_port for service in cluster.services] == [30053, 30053]


def test_the_node_port_range_runs_out(problems: Callable[..., list[str]], service: Yaml) -> None:
    text = LAB.format("nodePortRange: 31000-31001") + "".join(service(f"s{n}", "type: NodePort, ") for n in range(3))
    (found,) = problems(text)
    assert "no port left in the nodePort range 31000-31001" in found


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(LOCAL, 30087, id="allocated"),
        pytest.param(LOCAL + "healthCheckNodePort: 32000, ", 32000, id="given"),
        pytest.param("type: LoadBalancer, ", 0, id="cluster-policy"),
        pytest.param("type: NodePort, externalTrafficPolicy: Local, ", 0, id="node-port"),
    ],
)
def test_health_check_node_port(build: Build, service: Yaml, spec: str, expected: int) -> None:
    found = only(build(service("web", spec)))
    assert found.health_check_node_port == found.spec.health_check_node_port == expected


# --- defaults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param("", "external_traffic_policy", None, id="etp-internal-only"),
        pytest.param("externalIPs: [192.0.2.1], ", "external_traffic_policy", "Cluster", id="etp-external-ip"),
        pytest.param("type: NodePort, ", "external_traffic_policy", "Cluster", id="etp-node-port"),
        pytest.param("", "internal_traffic_policy", "Cluster", id="itp"),
        pytest.param("type: LoadBalancer, ", "allocate_load_balancer_node_ports", True, id="allocate"),
    ],
)
def test_defaults(build: Build, service: Yaml, spec: str, field: str, expected: object) -> None:
    assert getattr(only(build(service("web", spec))).spec, field) == expected


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        pytest.param("", 0, id="none"),
        pytest.param("sessionAffinity: ClientIP, ", 10800, id="default"),
        pytest.param(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 9}}, ", 9, id="given"
        ),
    ],
)
def test_session_affinity(build: Build, service: Yaml, spec: str, seconds: int) -> None:
    assert only(build(service("web", spec))).session_affinity_seconds == seconds


def test_target_port_is_port_unless_given(build: Build, service: Yaml) -> None:
    ports = "[{name: a, port: 80}, {name: b, port: 81, targetPort: http}, {name: c, port: 82, targetPort: 8082}]"
    assert [port.target_port for port in only(build(service("web", ports=ports))).ports] == [80, "http", 8082]


# --- with a previous cluster ------------------------------------------------------------------------------------------


def test_addresses_and_ports_stay_when_others_come(build: Build, service: Yaml) -> None:
    before = build(service("web", LOCAL))
    after = build(service("aaa", LOCAL) + service("web", LOCAL), previous=before)
    kept, held = after.service("default/web"), before.service("default/web")
    assert kept is not None
    assert held is not None
    assert (kept.cluster_ips, kept.spec.ports, kept.health_check_node_port, kept.load_balancer_ips) == (
        held.cluster_ips,
        held.spec.ports,
        held.health_check_node_port,
        held.load_balancer_ips,
    )


def test_a_port_keeps_its_node_port_by_number_or_by_name(build: Build, service: Yaml) -> None:
    before = build(service("web", "type: NodePort, ", ports="[{name: a, port: 80}, {name: b, port: 81}]"))
    after = build(
        service("web", "type: NodePort, ", ports="[{name: new, port: 1}, {name: b, port: 91}, {name: x, port: 80}]"),
        previous=before,
    )
    assert [port.node_port for port in only(after).ports] == [30088, 30087, 30086]


def test_another_services_port_is_not_taken_from_it(
    build: Build, problems: Callable[..., list[str]], service: Yaml
) -> None:
    before = build(service("web", "type: NodePort, "))
    greedy = service("aaa", "type: NodePort, ", ports="[{port: 80, nodePort: 30086}]")
    (found,) = problems(greedy + service("web", "type: NodePort, "), previous=before)
    assert "Service default/aaa" in found
    assert "already allocated to default/web" in found


def test_a_changed_type_releases_what_it_had(build: Build, service: Yaml) -> None:
    before = build(service("web", "type: NodePort, "))
    after = build(service("web"), previous=before)
    assert only(after).ports[0].node_port == 0
    assert only(after).cluster_ips == only(before).cluster_ips
    greedy = service("aaa", "type: NodePort, ", ports="[{port: 80, nodePort: 30086}]")
    assert len(build(greedy + service("web"), previous=before).services) == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "clusterIP: 10.96.0.99, ", id="changed"),
        pytest.param("", "clusterIP: None, ", id="became-headless"),
        pytest.param("clusterIP: None, ", "", id="was-headless"),
    ],
)
def test_a_cluster_ip_is_immutable(
    build: Build, problems: Callable[..., list[str]], service: Yaml, before: str, after: str
) -> None:
    (found,) = problems(service("web", after), previous=build(service("web", before)))
    assert "spec.clusterIP: Invalid value" in found
    assert "field is immutable" in found


# --- the pools --------------------------------------------------------------------------------------------------------


def test_the_default_node_port_band() -> None:
    pool = node_port_pool((30000, 32767))
    assert (pool.low, pool.band, pool.high) == (30000, 30086, 32767)


@given(
    low=st.integers(min_value=1, max_value=50),
    size=st.integers(min_value=1, max_value=40),
    band=st.integers(min_value=0, max_value=39),
    reserved=st.sets(st.integers(min_value=1, max_value=100)),
)
def test_a_pool_hands_out_every_number_once_the_dynamic_band_first(
    low: int, size: int, band: int, reserved: set[int]
) -> None:
    high = low + size - 1
    pool = NumberPool(low, high, min(low + band, high))
    kept = {number for number in reserved if number in pool}
    assert all(pool.reserve(number, "given") == "" for number in kept)
    handed = []
    while (number := pool.allocate("dynamic")) is not None:
        handed.append(number)
    free = [number for number in range(low, high + 1) if number not in kept]
    assert handed == [n for n in free if n >= pool.band] + [n for n in free if n < pool.band]


def test_an_ipv6_range_has_no_broadcast_address() -> None:
    from ipaddress import ip_network

    pool = cluster_ip_pool(ip_network("fd00:10:96::/112"))
    assert pool.high == int(ip_network("fd00:10:96::/112").broadcast_address)
