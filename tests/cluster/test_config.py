from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.errors import ClusterError, UsageError
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.load import load_text

Build = Callable[..., Cluster]

LAB = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {{name: shop}}\nspec: {{{}}}\n"


def test_without_a_lab_document_the_defaults_of_kubeadm_and_flannel_hold() -> None:
    config = resolve(Manifests(())).config
    assert config.name == "default"
    assert [str(net) for net in (*config.pod_subnets, *config.service_subnets, *config.node_subnets)] == [
        "10.244.0.0/16",
        "10.96.0.0/12",
        "172.18.0.0/16",
    ]
    assert config.node_port_range == (30000, 32767)
    assert [str(pool) for pool in config.load_balancer_pools] == ["172.18.255.0/24"]


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        pytest.param("ipFamily: ipv6", "pod_subnets", ["fd00:10:244::/56"], id="v6-pods"),
        pytest.param("ipFamily: ipv6", "node_cidr_mask_sizes", [64], id="v6-mask"),
        pytest.param("ipFamily: ipv6", "load_balancer_pools", ["fd00:172:18:0:ffff:ffff:ffff:0/112"], id="v6-pool"),
        pytest.param("ipFamily: dual", "families", [4, 6], id="dual"),
        pytest.param(
            "ipFamily: dual, podSubnet: 'fd00:9::/56,10.9.0.0/16'",
            "pod_subnets",
            ["fd00:9::/56", "10.9.0.0/16"],
            id="dual-v6-first",
        ),
        pytest.param(
            "ipFamily: dual, podSubnet: 'fd00:9::/56,10.9.0.0/16'",
            "service_subnets",
            ["fd00:10:96::/112", "10.96.0.0/12"],
            id="other-subnets-follow-the-order",
        ),
        pytest.param(
            "nodeSubnet: 192.168.7.0/24", "load_balancer_pools", ["192.168.7.192/26"], id="pool-follows-nodes"
        ),
        pytest.param(
            "ipFamily: dual, loadBalancer: {pool: 172.18.9.0/24}",
            "load_balancer_pools",
            ["172.18.9.0/24", "fd00:172:18:0:ffff:ffff:ffff:0/112"],
            id="pool-of-one-family",
        ),
        pytest.param("nodePortRange: 31000-31100", "node_port_range", [31000, 31100], id="node-ports"),
    ],
)
def test_lab_document(build: Build, spec: str, field: str, expected: object) -> None:
    value: Any = getattr(build(LAB.format(spec)).config, field)
    shown = [each if isinstance(each, int) else str(each) for each in value] if isinstance(value, tuple) else str(value)
    assert shown == expected


def test_the_command_line_wins_over_the_document(build: Build) -> None:
    cluster = build(LAB.format("nodes: 5, kubeProxyMode: ipvs"), nodes=2, proxy_mode="iptables", name="other")
    assert (cluster.config.name, cluster.config.proxy_mode, len(cluster.nodes)) == ("other", "iptables", 2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("podSubnet: 10.96.0.0/16", "10.96.0.0/16 overlaps the lab's serviceSubnet", id="pods-services"),
        pytest.param("serviceSubnet: 172.18.0.0/24", "overlaps the lab's nodeSubnet", id="services-nodes"),
        pytest.param("podSubnet: 203.0.113.0/24, nodeCIDRMaskSize: 26", "external clients", id="clients"),
        pytest.param("nodeSubnet: 198.51.100.0/25", "internet", id="internet"),
        pytest.param("nodeCIDRMaskSize: 12", "a /12 for each node does not fit", id="mask-too-big"),
        pytest.param("loadBalancer: {pool: 192.0.2.0/24}", "outside the node network", id="l2-pool"),
        pytest.param(
            "loadBalancer: {pool: 10.96.7.0/24, mode: bgp}", "overlaps the lab's serviceSubnet", id="bgp-pool"
        ),
    ],
)
def test_refused(problems: Callable[..., list[str]], spec: str, message: str) -> None:
    assert any(
        message in found and found.startswith("t.yaml:1: Lab shop: spec.") for found in problems(LAB.format(spec))
    )


def test_a_subnet_of_a_family_that_the_command_line_took_away(problems: Callable[..., list[str]]) -> None:
    (found,) = problems(LAB.format("ipFamily: ipv6, podSubnet: 'fd00::/56'"), ip_family="ipv4")
    assert "spec.podSubnet: fd00::/56 is IPv6, but the lab's ipFamily is ipv4" in found


def test_one_lab_document_at_most_even_when_files_were_loaded_apart() -> None:
    first, second = (load_text(LAB.format("").encode(), name).documents for name in ("a.yaml", "b.yaml"))
    with pytest.raises(ClusterError) as raised:
        resolve(Manifests((*first, *second)))
    assert (
        str(raised.value) == "b.yaml:1: Lab shop: there is a Lab document already, at a.yaml:1; a lab has one at most"
    )


def test_no_nodes_on_the_command_line_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least one node"):
        resolve(Manifests(()), Overrides(nodes=0))
