"""kube-proxy's IPVS mode: the reference scenario, what a Service gives, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.proxy.ipvs_rules import write_rules
from k8snetlab.plan.proxy.ipvs_script import real_words, virtual_words
from k8snetlab.plan.proxy.ipvs_sets import SETS, set_name
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.shell import script
from k8snetlab.plan.state import (
    Address,
    Dummy,
    Family,
    IpSet,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    RealServer,
    Sysctl,
    VirtualServer,
)
from k8snetlab.plan.text import describe

SIX_SERVICES = Path(__file__).parent / "proxy" / "six-services.yaml"
Resolved = Callable[..., Cluster]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.96.0.9, {spec}, ports: [{ports}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{endpoints}]
ports: [{{name: "", port: 8080, protocol: {protocol}}}]
"""
HERE, THERE = "{addresses: [10.244.0.5], nodeName: node1}", "{addresses: [10.244.1.5], nodeName: node2}"


def manifest(spec: str = "type: ClusterIP", *, endpoints: str = f"{HERE}, {THERE}", protocol: str = "TCP") -> str:
    port = f"{{port: 80, targetPort: 8080, protocol: {protocol}"
    ports = f"{port}}}" if "ClusterIP" in spec else f"{port}, nodePort: 30080}}"
    return SERVICE.format(spec=spec, ports=ports, endpoints=endpoints, protocol=protocol)


def planned(cluster: Cluster, node: str = "node1") -> list[KernelObject]:
    return [item for item in build(cluster).objects if getattr(item, "netns", "") == node]


def servers(objects: Iterable[KernelObject]) -> dict[str, list[str]]:
    """`address:port` of each virtual server with its backends."""
    found: dict[str, list[str]] = {}
    for item in objects:
        if isinstance(item, VirtualServer):
            assert f"{item.address}:{item.port}" not in found
            found[f"{item.address}:{item.port}"] = []
        elif isinstance(item, RealServer):
            assert item.weight == 1
            found[f"{item.virtual}:{item.virtual_port}"].append(f"{item.address}:{item.port}")
    return found


def entries(objects: Iterable[KernelObject]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {item.name: set() for item in objects if isinstance(item, IpSet)}
    for item in objects:
        if isinstance(item, IpSetEntry):
            found[item.set].add(item.entry)
    return found


def rules(objects: Iterable[KernelObject], table: str, name: str, family: int = 4) -> tuple[str, ...]:
    return next(
        item.rules
        for item in objects
        if isinstance(item, IptablesChain) and (item.table, item.name, item.family) == (table, name, family)
    )


def test_the_reference_scenario_is_as_kube_proxy_has_it(
    resolved: Resolved, is_golden: Callable[[str, str], None]
) -> None:
    plan = planned(resolved(SIX_SERVICES.read_text(), proxy_mode="ipvs"))
    kinds = (IpSet, IpSetEntry, VirtualServer, RealServer, IptablesChain, Dummy)
    shown = [
        item for item in plan if isinstance(item, kinds) or (isinstance(item, Address) and item.link == "kube-ipvs0")
    ]
    is_golden("six-services-ipvs.txt", "\n".join(describe(item) for item in shown) + "\n")


@pytest.mark.parametrize(
    ("spec", "internal", "external"),
    [
        pytest.param("type: NodePort", "both", "both", id="Cluster"),
        pytest.param("type: NodePort, externalTrafficPolicy: Local", "both", "here", id="external-Local"),
        pytest.param("type: NodePort, internalTrafficPolicy: Local", "here", "both", id="internal-Local"),
    ],
)
def test_a_policy_picks_the_backends_of_its_addresses(
    resolved: Resolved, spec: str, internal: str, external: str
) -> None:
    found = servers(planned(resolved(manifest(spec), proxy_mode="ipvs", nodes=2)))
    which = {"both": ["10.244.0.5:8080", "10.244.1.5:8080"], "here": ["10.244.0.5:8080"]}
    assert found["10.96.0.9:80"] == which[internal]
    assert found["172.18.0.2:30080"] == found["10.244.0.1:30080"] == which[external]
    assert set(found) == {"10.96.0.9:80", "172.18.0.2:30080", "10.244.0.1:30080"}


@pytest.mark.parametrize(
    ("spec", "address", "expected"),
    [
        pytest.param(
            "type: NodePort, externalTrafficPolicy: Local", "172.18.0.2:30080", ["10.244.1.5:8080"], id="external"
        ),
        pytest.param(
            "type: NodePort, internalTrafficPolicy: Local", "10.96.0.9:80", ["10.244.1.5:8080"], id="internal-too"
        ),
        pytest.param("type: ClusterIP, internalTrafficPolicy: Local", "10.96.0.9:80", [], id="internal-only"),
    ],
)
def test_a_local_policy_without_local_endpoints_uses_all_there_are(
    resolved: Resolved, spec: str, address: str, expected: list[str]
) -> None:
    cluster = resolved(manifest(spec, endpoints=THERE), proxy_mode="ipvs", nodes=2)
    assert servers(planned(cluster))[address] == expected


def test_without_endpoints_a_virtual_server_has_no_backends(resolved: Resolved) -> None:
    assert servers(planned(resolved(manifest(endpoints=""), proxy_mode="ipvs")))["10.96.0.9:80"] == []


@pytest.mark.parametrize(
    ("spec", "scheduler", "persistence", "hash_port"),
    [
        pytest.param("type: ClusterIP", "rr", 0, False, id="plain"),
        pytest.param("type: ClusterIP", "lc", 0, False, id="scheduler"),
        pytest.param("type: ClusterIP", "sh", 0, False, id="sh-hashes-the-address-alone"),
        pytest.param("type: ClusterIP", "mh", 0, True, id="mh-hashes-the-port-too"),
        pytest.param("sessionAffinity: ClientIP, type: ClusterIP", "rr", 10800, False, id="affinity"),
        pytest.param(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 30}}, type: ClusterIP",
            "mh", 30, True, id="affinity-timeout",
        ),
    ],
)  # fmt: skip
def test_scheduler_and_persistence(
    resolved: Resolved, spec: str, scheduler: str, persistence: int, hash_port: bool
) -> None:
    lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{kubeProxyMode: ipvs, ipvsScheduler: {scheduler}}}\n---"
    plan = planned(resolved(lab + manifest(spec)))
    assert [item for item in plan if isinstance(item, VirtualServer) and item.address == ip_address("10.96.0.9")] == [
        VirtualServer("node1", "TCP", ip_address("10.96.0.9"), 80, scheduler, persistence, hash_port)
    ]


def test_every_service_address_is_on_the_dummy_but_those_of_the_node(resolved: Resolved) -> None:
    spec = "type: NodePort, externalIPs: [203.0.113.9, 172.18.0.2, 10.244.0.1]"
    plan = planned(resolved(manifest(spec), proxy_mode="ipvs"))
    bound = {str(item.interface) for item in plan if isinstance(item, Address) and item.link == "kube-ipvs0"}
    assert bound == {"10.96.0.9/32", "203.0.113.9/32"}
    assert entries(plan)["KUBE-IPVS-IPS"] == {"10.96.0.9", "203.0.113.9"}
    assert servers(plan)["172.18.0.2:80"] == ["10.244.0.5:8080", "10.244.1.5:8080"]
    assert [item.up for item in plan if isinstance(item, Dummy)] == [False]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        pytest.param("[]", {"172.18.0.2", "10.244.0.1"}, id="all"),
        pytest.param("[172.18.0.0/16]", {"172.18.0.2"}, id="chosen"),
        pytest.param("[0.0.0.0/0]", {"172.18.0.2", "10.244.0.1"}, id="zero"),
        pytest.param("[127.0.0.0/8]", set(), id="never-the-loopback"),
        pytest.param("['fd00::/8']", {"172.18.0.2", "10.244.0.1"}, id="of-the-other-family-only"),
    ],
)
def test_node_ports_are_on_the_nodes_addresses(resolved: Resolved, addresses: str, expected: set[str]) -> None:
    lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{kubeProxyMode: ipvs, nodePortAddresses: {addresses}}}\n---"
    plan = planned(resolved(lab + manifest("type: NodePort")))
    found = {str(item.address) for item in plan if isinstance(item, VirtualServer) and item.port == 30080}
    assert found == expected
    assert entries(plan)["KUBE-NODE-PORT-TCP"] == ({"30080"} if expected else set())


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        pytest.param("TCP", {"KUBE-NODE-PORT-TCP": {"30080"}}, id="TCP"),
        pytest.param("UDP", {"KUBE-NODE-PORT-UDP": {"30080"}}, id="UDP"),
        pytest.param(
            "SCTP",
            {"KUBE-NODE-PORT-SCTP-HASH": {"172.18.0.2,sctp:30080", "10.244.0.1,sctp:30080"}},
            id="SCTP-by-address",
        ),
    ],
)
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_node_ports_to_be_masqueraded(
    resolved: Resolved, protocol: str, expected: dict[str, set[str]], policy: str
) -> None:
    spec = f"type: NodePort, externalTrafficPolicy: {policy}"
    found = entries(planned(resolved(manifest(spec, protocol=protocol), proxy_mode="ipvs")))
    local = {name.replace("PORT-", "PORT-LOCAL-"): ports for name, ports in expected.items()}
    wanted = expected | (local if policy == "Local" else {})
    assert {name: ports for name, ports in found.items() if ports and "NODE-PORT" in name} == wanted


def test_only_endpoints_of_this_node_can_be_sent_back_to_themselves(resolved: Resolved) -> None:
    cluster = resolved(manifest(), proxy_mode="ipvs", nodes=2)
    assert entries(planned(cluster))["KUBE-LOOP-BACK"] == {"10.244.0.5,tcp:8080,10.244.0.5"}
    assert entries(planned(cluster, "node2"))["KUBE-LOOP-BACK"] == {"10.244.1.5,tcp:8080,10.244.1.5"}


BALANCED = "type: LoadBalancer, loadBalancerSourceRanges: [{ranges}]"


@pytest.mark.parametrize(
    ("ranges", "nets", "node_allowed"),
    [
        pytest.param("203.0.113.0/25", {"203.0.113.0/25"}, False, id="a-network"),
        pytest.param("203.0.113.7/32", {"203.0.113.7"}, False, id="one-address"),
        pytest.param("0.0.0.0/0", {"0.0.0.0/1", "128.0.0.0/1"}, True, id="all"),
        pytest.param("172.18.0.0/16", {"172.18.0.0/16"}, True, id="the-nodes"),
    ],
)
def test_source_ranges(resolved: Resolved, ranges: str, nets: set[str], node_allowed: bool) -> None:
    plan = planned(resolved(manifest(BALANCED.format(ranges=ranges)), proxy_mode="ipvs"))
    found = entries(plan)
    (portal,) = found["KUBE-LOAD-BALANCER"]
    address = portal.split(",")[0]
    assert found["KUBE-LOAD-BALANCER-FW"] == {portal}
    assert found["KUBE-LOAD-BALANCER-SOURCE-CIDR"] == {f"{portal},{net}" for net in nets}
    assert found["KUBE-LOAD-BALANCER-SOURCE-IP"] == ({f"{portal},{address}"} if node_allowed else set())
    kept_out = f"-s {address}/32 -m ipvs --vproto 6 --vaddr {address} --vport 80 -j DROP"
    assert rules(plan, "filter", "KUBE-IPVS-OUT-FILTER") == (() if node_allowed else (kept_out,))


def test_the_rules_do_not_grow_with_services(resolved: Resolved) -> None:
    def count(services: int) -> int:
        text = "---".join(
            f"\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{port: 80}}]}}\n"
            for number in range(services)
        )
        plan = planned(resolved(text, proxy_mode="ipvs"))
        return sum(len(item.rules) for item in plan if isinstance(item, IptablesChain))

    assert count(1) == count(200)


@pytest.mark.parametrize(
    ("pod_cidr", "masquerade_all", "expected"),
    [
        pytest.param("10.244.0.0/16", False, "! -s 10.244.0.0/16 {comment}-m set --match-set {set} dst,dst", id="pods"),
        pytest.param("", False, "{comment}-m set --match-set {set} src,dst", id="no-detector"),
        pytest.param("10.244.0.0/16", True, "{comment}-m set --match-set {set} dst,dst", id="all"),
    ],
)
def test_who_uses_a_cluster_ip_is_masqueraded(
    resolved: Resolved, pod_cidr: str, masquerade_all: bool, expected: str
) -> None:
    ruleset = Ruleset()
    node = resolved("").nodes[0]
    filled: dict[str, dict[str, None]] = {name: {} for name, _, _ in SETS} | {"KUBE-CLUSTER-IP": {"x": None}}
    write_rules(ruleset, node, 4, filled, (), pod_cidr=pod_cidr, masquerade_all=masquerade_all)
    comment = '-m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" '
    rule = expected.format(comment=comment, set="KUBE-CLUSTER-IP") + " -j KUBE-MARK-MASQ"
    assert ruleset.chain("nat", "KUBE-SERVICES")[1] == rule


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        pytest.param("ipv4", {"KUBE-CLUSTER-IP"}, id="ipv4"),
        pytest.param("ipv6", {"KUBE-6-CLUSTER-IP"}, id="ipv6"),
        pytest.param("dual", {"KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"}, id="dual"),
    ],
)
def test_every_set_that_a_rule_asks_is_there_before_the_rule(
    resolved: Resolved, family: str, expected: set[str]
) -> None:
    spec = "type: LoadBalancer, externalTrafficPolicy: Local" if family == "ipv4" else "type: NodePort"
    text = manifest(spec) if family == "ipv4" else manifest(spec).replace("clusterIP: 10.96.0.9, ", "")
    there: set[str] = set()
    asked: set[str] = set()
    for item in planned(resolved(text, proxy_mode="ipvs", ip_family=family)):
        if isinstance(item, IpSet):
            there.add(item.name)
        elif isinstance(item, IptablesChain):
            names = set(re.findall(r"--match-set (\S+)", " ".join(item.rules)))
            assert names <= there
            asked |= names
    assert {"KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"} & asked == expected


def test_names_of_ipv6_sets_fit_and_differ() -> None:
    names = {set_name(name, family) for name, _, _ in SETS for family in (4, 6)}
    assert len(names) == 2 * len(SETS)
    assert max(map(len, names)) == 31
    assert set_name("KUBE-LOAD-BALANCER-SOURCE-CIDR", 6) == "KUBE-6-LOAD-BALANCER-SOURCE-CID"


@pytest.mark.parametrize(("family", "loopback"), [(4, "127.0.0.0/8"), (6, "::1/128")])
def test_what_comes_from_the_loopback_is_let_be(resolved: Resolved, family: Family, loopback: str) -> None:
    plan = planned(resolved("", proxy_mode="ipvs", ip_family="dual"))
    assert rules(plan, "nat", "KUBE-SERVICES", family)[0] == f"-s {loopback} -j RETURN"


def test_sysctls(resolved: Resolved) -> None:
    plan = planned(resolved("", proxy_mode="ipvs"))
    assert {item.key: item.value for item in plan if isinstance(item, Sysctl) and ".vs." in item.key} == {
        "net.ipv4.vs.conntrack": "1",
        "net.ipv4.vs.expire_nodest_conn": "1",
        "net.ipv4.vs.expire_quiescent_template": "1",
    }


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        pytest.param(
            VirtualServer("n", "TCP", ip_address("10.96.0.1"), 443, "rr"), "-t 10.96.0.1:443 -s rr", id="virtual"
        ),
        pytest.param(
            VirtualServer("n", "UDP", ip_address("fd00::1"), 53, "mh", 30, True),
            "-u [fd00::1]:53 -s mh -p 30 -b mh-port", id="virtual-options",
        ),
        pytest.param(
            RealServer("n", "SCTP", ip_address("10.96.0.1"), 90, ip_address("10.244.0.2"), 9000),
            "--sctp-service 10.96.0.1:90 -r 10.244.0.2:9000 -m -w 1", id="real",
        ),
    ],
)  # fmt: skip
def test_words_of_ipvsadm(item: VirtualServer | RealServer, expected: str) -> None:
    assert (virtual_words(item) if isinstance(item, VirtualServer) else real_words(item)) == expected


def test_the_script_feeds_each_tool_once_a_node(resolved: Resolved) -> None:
    text = script(build(resolved(manifest(), proxy_mode="ipvs", nodes=2)), "lab")
    for node in ("node1", "node2"):
        steps = [
            text.index(f"ip netns exec lab.{node} ipset restore <<'RULES'\ncreate KUBE-LOOP-BACK"),
            text.index(f"ip -n lab.{node} link add kube-ipvs0"),
            text.index(f"ip netns exec lab.{node} ipvsadm --restore <<'RULES'\n-A -t "),
            text.index(f"ip netns exec lab.{node} iptables-restore"),
        ]
        assert steps == sorted(steps)
    assert text.count("ipvsadm --restore") == 2
    assert "link set kube-ipvs0" not in text
