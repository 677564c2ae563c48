from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]
Yaml = Callable[..., str]

TYPE = "type: LoadBalancer, "
RANGES = ", annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: '10.0.0.0/8, 192.0.2.0/24'}"


def vips(cluster: Cluster) -> dict[str, list[str]]:
    return {service.name: [str(ip) for ip in service.load_balancer_ips] for service in cluster.services}


@pytest.mark.parametrize(
    ("spec", "metadata", "expected"),
    [
        pytest.param(TYPE, "", ["172.18.255.1"], id="first-free"),
        pytest.param(TYPE + "loadBalancerIP: 172.18.255.9, ", "", ["172.18.255.9"], id="asked-for"),
        pytest.param(TYPE + "loadBalancerIP: 192.0.2.9, ", "", [], id="outside-the-pool"),
        pytest.param(
            TYPE, ", annotations: {metallb.io/loadBalancerIPs: 172.18.255.7}", ["172.18.255.7"], id="annotation"
        ),
        pytest.param(TYPE + "loadBalancerClass: example.com/lb, ", "", [], id="not-ours"),
        pytest.param("type: NodePort, ", "", [], id="node-port"),
    ],
)
def test_assignment(build: Build, service: Yaml, spec: str, metadata: str, expected: list[str]) -> None:
    assert vips(build(service("web", spec, metadata=metadata))) == {"web": expected}


def test_one_address_a_service(build: Build, service: Yaml) -> None:
    asked = service("zzz", TYPE + "loadBalancerIP: 172.18.255.1, ")
    twice = service("zzzz", TYPE + "loadBalancerIP: 172.18.255.1, ")
    assert vips(build(service("a", TYPE) + service("b", TYPE) + asked + twice)) == {
        "a": ["172.18.255.2"],
        "b": ["172.18.255.3"],
        "zzz": ["172.18.255.1"],
        "zzzz": [],
    }


@pytest.mark.parametrize(
    ("key", "port", "shared"),
    [
        pytest.param("k", 443, True, id="other-port"),
        pytest.param("k", 80, False, id="same-port"),
        pytest.param("other", 443, False, id="other-key"),
    ],
)
def test_sharing(build: Build, service: Yaml, key: str, port: int, shared: bool) -> None:
    text = "".join(
        service(
            name,
            TYPE + "loadBalancerIP: 172.18.255.5, ",
            ports=f"[{{port: {number}}}]",
            metadata=f", annotations: {{metallb.io/allow-shared-ip: {sharing}}}",
        )
        for name, number, sharing in (("a", 80, "k"), ("b", port, key))
    )
    assert bool(vips(build(text))["b"]) is shared


@pytest.mark.parametrize(
    ("local", "selector", "shared"),
    [
        pytest.param(True, "other", False, id="local-with-other-backends"),
        pytest.param(True, "a", True, id="local-with-the-same-backends"),
        pytest.param(False, "other", True, id="cluster-with-other-backends"),
    ],
)
def test_sharing_with_policy_local(build: Build, service: Yaml, local: bool, selector: str, shared: bool) -> None:
    policy = "externalTrafficPolicy: Local, " if local else ""
    text = "".join(
        service(
            name,
            f"{TYPE}{policy}loadBalancerIP: 172.18.255.5, selector: {{app: {chosen}}}, ",
            ports=f"[{{port: {number}}}]",
            metadata=", annotations: {metallb.io/allow-shared-ip: k}",
            selector=False,
        )
        for name, number, chosen in (("a", 80, "a"), ("b", 81, selector))
    )
    assert bool(vips(build(text))["b"]) is shared


def test_a_dual_stack_service_gets_an_address_of_each_family(build: Build, service: Yaml) -> None:
    text = service("one", TYPE) + service("two", TYPE + "ipFamilyPolicy: PreferDualStack, ")
    assert vips(build(text, ip_family="dual")) == {
        "one": ["172.18.255.1"],
        "two": ["172.18.255.2", "fd00:172:18:0:ffff:ffff:ffff:1"],
    }


def test_a_status_in_the_manifest_stands_and_proxy_mode_is_no_vip(build: Build, service: Yaml) -> None:
    status = (
        "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy}, {hostname: lb.test}]}}\n"
    )
    cluster = build(service("web", TYPE) + status)
    assert vips(cluster) == {"web": ["192.0.2.1"]}
    assert len(cluster.services[0].load_balancer_status) == 3


@pytest.mark.parametrize(
    ("spec", "metadata", "expected"),
    [
        pytest.param(TYPE + "loadBalancerSourceRanges: [' 203.0.113.0/25'], ", "", ["203.0.113.0/25"], id="trimmed"),
        pytest.param(TYPE, RANGES, ["10.0.0.0/8", "192.0.2.0/24"], id="annotation"),
        pytest.param("", "", [], id="other-type"),
    ],
)
def test_source_ranges(build: Build, service: Yaml, spec: str, metadata: str, expected: list[str]) -> None:
    found = build(service("web", spec, metadata=metadata)).services[0].load_balancer_source_ranges
    assert [str(network) for network in found] == expected
