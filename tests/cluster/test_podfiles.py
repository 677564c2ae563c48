from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster import podfiles
from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]

SEARCH = "search shop.svc.cluster.local svc.cluster.local cluster.local"
CLUSTER_FIRST = f"{SEARCH}\nnameserver 10.96.0.10\noptions ndots:5\n"
NODE = "nameserver 198.51.100.10\n"


def pod(spec: str = "", name: str = "api") -> str:
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{{spec}containers: [{{name: c, image: x}}]}}\n"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("", CLUSTER_FIRST, id="cluster-first"),
        pytest.param("dnsPolicy: Default, ", NODE, id="default"),
        pytest.param("hostNetwork: true, ", NODE, id="host-network-falls-back"),
        pytest.param("hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, ", CLUSTER_FIRST, id="with-host-net"),
        pytest.param(
            "dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.1], searches: [a.test], options: [{name: edns0}]}, ",
            "search a.test\nnameserver 192.0.2.1\noptions edns0\n",
            id="none",
        ),
        pytest.param(
            "dnsConfig: {nameservers: [192.0.2.1, 10.96.0.10], searches: [a.test, cluster.local], "
            "options: [{name: ndots, value: '2'}, {name: edns0}]}, ",
            f"{SEARCH} a.test\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:2 edns0\n",
            id="merged",
        ),
        pytest.param(
            "dnsConfig: {nameservers: [192.0.2.1, 192.0.2.2]}, ",
            CLUSTER_FIRST.replace("options", "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions"),
            id="three-servers",
        ),
    ],
)
def test_resolv_conf(build: Build, spec: str, expected: str) -> None:
    cluster = build(pod(spec))
    assert podfiles.resolv_conf(cluster, cluster.pods[0]) == expected


def test_limits_of_resolv_conf() -> None:
    from dataclasses import replace

    from k8snetlab.cluster.resolve import resolve
    from k8snetlab.manifests.api import core
    from k8snetlab.manifests.load import load_text

    cluster = resolve(load_text(pod().encode(), "t.yaml"))
    many = core.PodDNSConfig(
        nameservers=("192.0.2.1", "192.0.2.2", "192.0.2.3"),
        searches=("x" * 254, *(f"s{number}.test" for number in range(40))),
    )
    crowded = replace(cluster.pods[0], spec=replace(cluster.pods[0].spec, dns_config=many))
    search, *rest = podfiles.resolv_conf(cluster, crowded).splitlines()
    assert len(search.split()) - 1 == 32
    assert "x" * 254 not in search
    assert len([line for line in rest if line.startswith("nameserver")]) == 3
    long = replace(crowded.spec, dns_config=core.PodDNSConfig(searches=tuple(f"{n:0>200}" for n in range(20))))
    search = podfiles.resolv_conf(cluster, replace(crowded, spec=long)).splitlines()[0]
    assert len(search) - len("search ") <= 2048
    assert len(search.split()) - 1 == 3 + 9


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("", "api", id="name"),
        pytest.param("hostname: one, ", "one", id="hostname"),
        pytest.param("hostname: one, subdomain: peers, ", "one", id="subdomain"),
        pytest.param(
            "hostname: one, subdomain: peers, setHostnameAsFQDN: true, ",
            "one.peers.shop.svc.cluster.local",
            id="as-fqdn",
        ),
        pytest.param("hostNetwork: true, ", "node1", id="host-network"),
    ],
)
def test_hostname(build: Build, spec: str, expected: str) -> None:
    assert podfiles.hostname(build(pod(spec)).pods[0]) == expected


def test_a_long_name_is_cut_to_a_label(build: Build) -> None:
    name = f"{'n' * 62}-tail"
    assert podfiles.hostname(build(pod(name=name)).pods[0]) == "n" * 62


@pytest.mark.parametrize(
    ("spec", "tail"),
    [
        pytest.param("", "10.244.0.2\tapi\n", id="plain"),
        pytest.param(
            "hostname: one, subdomain: peers, ", "10.244.0.2\tone.peers.shop.svc.cluster.local\tone\n", id="fqdn"
        ),
        pytest.param(
            "hostAliases: [{ip: 192.0.2.1, hostnames: [a.test, b.test]}], ",
            "10.244.0.2\tapi\n\n# Entries added by HostAliases.\n192.0.2.1\ta.test\tb.test\n",
            id="aliases",
        ),
    ],
)
def test_hosts_file(build: Build, spec: str, tail: str) -> None:
    cluster = build(pod(spec))
    text = podfiles.hosts_file(cluster, cluster.pods[0])
    assert text == "# Kubernetes-managed hosts file.\n" + podfiles.LOCALHOST_LINES + tail


def test_a_host_network_pod_has_its_nodes_file(build: Build) -> None:
    cluster = build(pod("hostNetwork: true, "), nodes=2)
    text = podfiles.hosts_file(cluster, cluster.pods[0])
    assert text == "# Kubernetes-managed hosts file (host network).\n" + podfiles.node_hosts_file(
        cluster, cluster.nodes[0]
    )
    assert text.endswith("172.18.0.2\tnode1\n172.18.0.3\tnode2\n")


def test_dual_stack_hosts_file(build: Build) -> None:
    cluster = build(pod(), ip_family="dual")
    assert podfiles.hosts_file(cluster, cluster.pods[0]).endswith("10.244.0.2\tapi\nfd00:10:244::2\tapi\n")
