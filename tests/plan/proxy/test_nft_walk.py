"""The truth table of conformance 4.5 in nftables mode, in both layouts, and the walker itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy.nft_rule import Flag, Lookup, Translate, UnknownNftRuleError, Verdict, VerdictMap, parse
from k8snetlab.plan.proxy.nft_walk import walk
from k8snetlab.plan.proxy.walk import Packet, Way
from k8snetlab.plan.state import Family, KernelObject, NftChain, NftElement

Resolved = Callable[..., Cluster]

# L runs on node1, where every packet is met; R on node2. The client is a pod of node1 that is no endpoint.
SERVICE = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2, kubeProxyMode: nftables, nftablesLayout: {layout}{lab}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{nodeName: node1, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: l, labels: {{app: {on_node1}}}}}
spec: {{nodeName: node1, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: r, labels: {{app: {on_node2}}}}}
spec: {{nodeName: node2, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: LoadBalancer
  externalIPs: [192.0.2.7]
  selector: {{app: web}}
  externalTrafficPolicy: {external}
  internalTrafficPolicy: {internal}
  ports: [{{port: 80, nodePort: 30080, targetPort: 8080}}]
{extra}
"""
ENDPOINTS = {"10.244.0.3:8080": "L", "10.244.1.2:8080": "R"}
SOURCES = {"pod": "10.244.0.2", "node": "172.18.0.2", "external": "203.0.113.10"}
DESTINATIONS = {
    "ClusterIP": ("10.96.1.1", 80),
    "NodePort": ("172.18.0.2", 30080),
    "LB IP": ("172.18.255.1", 80),
    "external IP": ("192.0.2.7", 80),
}
STICKY = "  sessionAffinity: ClientIP"
each_affinity = pytest.mark.parametrize(
    "extra", [pytest.param("", id="no affinity"), pytest.param(STICKY, id="affinity")]
)


@pytest.fixture(name="layout", params=["kube-proxy", "flat"])
def layout_fixture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def service(
    layout: str,
    *,
    external: str = "Cluster",
    internal: str = "Cluster",
    where: str = "LR",
    lab: str = "",
    extra: str = "",
) -> str:
    on = {side: "web" if side in where else "other" for side in "LR"}
    return SERVICE.format(
        layout=layout, external=external, internal=internal, on_node1=on["L"], on_node2=on["R"], lab=lab, extra=extra
    )


def meet(cluster: Cluster, source: str, destination: str) -> tuple[Way, ...]:
    """All ways of a packet from one of SOURCES to one of DESTINATIONS through node1."""
    address, port = DESTINATIONS[destination]
    return send(cluster, SOURCES[source], address, port, made_here=source == "node")


def send(cluster: Cluster, source: str, address: str, port: int, *, made_here: bool = False) -> tuple[Way, ...]:
    node = cluster.nodes[0]
    objects = [
        obj for obj in build(cluster).objects if isinstance(obj, NftChain | NftElement) and obj.netns == node.name
    ]
    packet = Packet(ip_address(source), ip_address(address), "tcp", port, made_here=made_here)
    family: Family = 4 if packet.source.version == 4 else 6
    return walk(objects, packet, frozenset(node_addresses(cluster, node, family)), family)


def outcome(ways: tuple[Way, ...]) -> str:
    """As the table writes it: `LR`, `L masq`, `REJECT` …; `untouched` when no rule translated the packet."""
    verdicts = {way.verdict for way in ways}
    if verdicts != {"ACCEPT"}:
        return "/".join(sorted(verdicts))
    if not all(way.packet.translated for way in ways):
        return "untouched"
    reached = sorted(ENDPOINTS[f"{way.packet.destination}:{way.packet.port}"] for way in ways)
    masqueraded = {way.packet.masqueraded for way in ways}
    assert len(masqueraded) == 1
    return "".join(reached) + (" masq" if masqueraded.pop() else "")


# client, destination, plain, externalTrafficPolicy Local, internalTrafficPolicy Local
TABLE = [
    ("pod", "ClusterIP", "LR", "LR", "L"),
    ("pod", "NodePort", "LR masq", "LR", "LR masq"),
    ("pod", "LB IP", "LR masq", "LR", "LR masq"),
    ("pod", "external IP", "LR masq", "LR", "LR masq"),
    ("node", "ClusterIP", "LR masq", "LR masq", "L masq"),
    ("node", "NodePort", "LR masq", "LR masq", "LR masq"),
    ("node", "LB IP", "LR masq", "LR masq", "LR masq"),
    ("node", "external IP", "LR masq", "LR masq", "LR masq"),
    ("external", "ClusterIP", "LR masq", "LR masq", "L masq"),
    ("external", "NodePort", "LR masq", "L", "LR masq"),
    ("external", "LB IP", "LR masq", "L", "LR masq"),
    ("external", "external IP", "LR masq", "L", "LR masq"),
]


@each_affinity
@pytest.mark.parametrize(("source", "destination", "plain", "external", "internal"), TABLE)
def test_truth_table(
    resolved: Resolved,
    layout: str,
    source: str,
    destination: str,
    plain: str,
    external: str,
    internal: str,
    extra: str,
) -> None:
    found = {
        "plain": outcome(meet(resolved(service(layout, extra=extra)), source, destination)),
        "external": outcome(meet(resolved(service(layout, external="Local", extra=extra)), source, destination)),
        "internal": outcome(meet(resolved(service(layout, internal="Local", extra=extra)), source, destination)),
    }
    assert found == {"plain": plain, "external": external, "internal": internal}


@pytest.mark.parametrize(("source", "destination"), [row[:2] for row in TABLE])
@pytest.mark.parametrize("policy", ["plain", "external", "internal"])
def test_without_endpoints_everything_is_refused(
    resolved: Resolved, layout: str, source: str, destination: str, policy: str
) -> None:
    policies = {policy: "Local"} if policy != "plain" else {}
    assert outcome(meet(resolved(service(layout, where="", **policies)), source, destination)) == "REJECT"


@pytest.mark.parametrize(("source", "destination"), [row[:2] for row in TABLE])
def test_without_a_local_endpoint_local_traffic_is_dropped(
    resolved: Resolved, layout: str, source: str, destination: str
) -> None:
    """Silence, not refusal, and only for the traffic that the policy is about (conformance 4.5, last lines)."""
    inside = outcome(meet(resolved(service(layout, internal="Local", where="R")), source, destination))
    outside = outcome(meet(resolved(service(layout, external="Local", where="R")), source, destination))
    assert inside == ("DROP" if destination == "ClusterIP" else "R masq")
    if source == "external" and destination != "ClusterIP":
        assert outside == "DROP"
    else:
        assert outside == ("R" if source == "pod" else "R masq")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [("node", "ClusterIP", "LR"), ("external", "ClusterIP", "LR"), ("pod", "NodePort", "L"), ("pod", "LB IP", "L")],
)
def test_without_a_local_traffic_detector(
    resolved: Resolved, layout: str, source: str, destination: str, expected: str
) -> None:
    policies = {} if destination == "ClusterIP" else {"external": "Local"}
    cluster = resolved(service(layout, **policies))
    blind = replace(cluster, config=replace(cluster.config, pod_subnets=()))
    assert outcome(meet(blind, source, destination)) == expected


def test_masquerade_all(resolved: Resolved, layout: str) -> None:
    assert outcome(meet(resolved(service(layout, lab=", masqueradeAll: true")), "pod", "ClusterIP")) == "LR masq"


@each_affinity
def test_a_pod_that_reaches_itself_is_masqueraded_and_only_then(resolved: Resolved, layout: str, extra: str) -> None:
    ways = send(resolved(service(layout, extra=extra)), "10.244.0.3", "10.96.1.1", 80)
    assert {(str(way.packet.destination), way.packet.masqueraded) for way in ways} == {
        ("10.244.0.3", True),
        ("10.244.1.2", False),
    }


@pytest.mark.parametrize(
    ("ranges", "source", "destination", "expected"),
    [
        pytest.param("203.0.113.0/25", "external", "LB IP", "LR masq", id="inside"),
        pytest.param("203.0.113.0/29, 203.0.113.10/32", "external", "LB IP", "LR masq", id="inside the second"),
        pytest.param("203.0.113.0/29, 203.0.113.8/31", "external", "LB IP", "DROP", id="just above a joined range"),
        pytest.param("0.0.0.0/0", "external", "LB IP", "LR masq", id="everybody"),
        pytest.param("192.0.2.0/24", "external", "LB IP", "DROP", id="outside"),
        pytest.param("192.0.2.0/24", "external", "NodePort", "LR masq", id="node ports are not meant"),
        pytest.param("192.0.2.0/24", "external", "external IP", "LR masq", id="external IPs are not meant"),
        pytest.param("192.0.2.0/24", "pod", "ClusterIP", "LR", id="ClusterIPs are not meant"),
        pytest.param("192.0.2.0/24", "node", "LB IP", "DROP", id="the node is not in the range"),
        pytest.param("172.18.0.0/24", "node", "LB IP", "LR masq", id="the node is in the range"),
    ],
)
def test_source_ranges(
    resolved: Resolved, layout: str, ranges: str, source: str, destination: str, expected: str
) -> None:
    cluster = resolved(service(layout, extra=f"  loadBalancerSourceRanges: [{ranges}]"))
    assert outcome(meet(cluster, source, destination)) == expected


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [pytest.param("172.18.0.0/24", "LR masq", id="node in range"), pytest.param("192.0.2.0/24", "DROP", id="not")],
)
def test_a_node_in_the_range_may_send_from_the_balancers_address(
    resolved: Resolved, layout: str, ranges: str, expected: str
) -> None:
    cluster = resolved(service(layout, extra=f"  loadBalancerSourceRanges: [{ranges}]"))
    assert outcome(send(cluster, "172.18.255.1", "172.18.255.1", 80, made_here=True)) == expected


@pytest.mark.parametrize(
    ("source", "destination", "port", "made_here", "expected"),
    [
        pytest.param("10.244.0.2", "10.96.1.1", 81, False, "REJECT", id="pod, undefined port of a ClusterIP"),
        pytest.param("172.18.0.2", "10.96.1.1", 81, True, "REJECT", id="node, undefined port of a ClusterIP"),
        pytest.param("10.244.0.2", "10.96.200.1", 80, False, "DROP", id="pod, unallocated ClusterIP"),
        pytest.param("172.18.0.2", "10.96.200.1", 80, True, "DROP", id="node, unallocated ClusterIP"),
        pytest.param("127.0.0.1", "127.0.0.1", 30080, True, "untouched", id="node port on localhost"),
        pytest.param("10.244.0.2", "10.244.0.1", 30080, False, "untouched", id="node port on another node address"),
        pytest.param("10.244.0.2", "10.244.1.2", 8080, False, "untouched", id="pod to pod"),
        pytest.param("10.244.0.2", "198.51.100.10", 80, False, "untouched", id="pod to the internet"),
        pytest.param("203.0.113.10", "10.244.0.2", 80, False, "untouched", id="outside to pod"),
    ],
)
def test_what_is_for_no_service(
    resolved: Resolved, layout: str, source: str, destination: str, port: int, made_here: bool, expected: str
) -> None:
    """Where this mode differs from iptables: conformance 1.4 #8, 1.6 #4 and #5."""
    ways = send(resolved(service(layout)), source, destination, port, made_here=made_here)
    assert outcome(ways) == expected
    assert not any(way.packet.masqueraded for way in ways)


@pytest.mark.parametrize(
    ("addresses", "destination", "expected"),
    [
        pytest.param("0.0.0.0/0", "172.18.0.2", "LR masq", id="all, primary"),
        pytest.param("0.0.0.0/0", "10.244.0.1", "LR masq", id="all, bridge"),
        pytest.param("0.0.0.0/0", "127.0.0.1", "untouched", id="all, but never localhost"),
        pytest.param("10.244.0.0/16", "10.244.0.1", "LR masq", id="bridge only, bridge"),
        pytest.param("10.244.0.0/16", "172.18.0.2", "untouched", id="bridge only, primary"),
        pytest.param("'fd00::/8'", "172.18.0.2", "LR masq", id="other family only"),
    ],
)
def test_node_port_addresses(resolved: Resolved, layout: str, addresses: str, destination: str, expected: str) -> None:
    cluster = resolved(service(layout, lab=f", nodePortAddresses: [{addresses}]"))
    assert outcome(send(cluster, "172.18.0.2", destination, 30080, made_here=True)) == expected
    empty = resolved(service(layout, where="", lab=f", nodePortAddresses: [{addresses}]"))
    found = outcome(send(empty, "172.18.0.2", destination, 30080, made_here=True))
    assert found == ("REJECT" if expected == "LR masq" else "untouched")


def test_ipv6(resolved: Resolved, layout: str) -> None:
    text = service(layout, lab=", ipFamily: ipv6").replace("  externalIPs: [192.0.2.7]\n", "")
    cluster = resolved(text)
    (cluster_ip,) = cluster.services[0].cluster_ips
    ways = send(cluster, "fd00:10:244::3", str(cluster_ip), 80)
    assert {(str(way.packet.destination), way.packet.port, way.packet.masqueraded) for way in ways} == {
        ("fd00:10:244::3", 8080, True),
        ("fd00:10:244:1::2", 8080, False),
    }
    (node_ip,) = cluster.nodes[0].addresses
    assert {way.packet.masqueraded for way in send(cluster, "2001:db8::1", str(node_ip), 30080)} == {True}
    assert {way.verdict for way in send(cluster, "fd00:10:244::3", str(cluster_ip), 81)} == {"REJECT"}


def test_the_way_says_which_rules_matched(resolved: Resolved) -> None:
    ways = meet(resolved(service("kube-proxy", where="L")), "pod", "ClusterIP")
    way = [step.chain for step in ways[0].steps]
    translation = way.index("nat-prerouting")
    assert way[0] == "filter-prerouting-pre-dnat"
    assert way[translation + 1] == "services"
    assert [chain.partition("-")[0] for chain in way[translation + 2 : translation + 4]] == ["service", "endpoint"]
    assert way[-1] == "masquerading"


# --- the walker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        "iifname eth0 accept",
        "ip saddr 10.0.0.1 counter accept",
        "ip saddr 10.0.0.1",
        "tcp sport 80 accept",
        "ct state established accept",
        "fib daddr type broadcast drop",
        "dnat to",
        "snat to 10.0.0.1",
        "jump",
        "accept accept",
        "masquerade",
        "meta mark set 0x1",
        "numgen inc mod 2 vmap { 0 : drop }",
    ],
)
def test_a_rule_that_is_not_understood_is_refused(rule: str) -> None:
    with pytest.raises(UnknownNftRuleError) as raised:
        parse(rule)
    assert raised.value.rule == rule


def test_a_chain_that_does_not_exist_is_refused() -> None:
    hook = "type filter hook prerouting priority 0; policy accept;"
    chains: list[KernelObject] = [NftChain("n", 4, "t", "a", ("jump nowhere",), hook)]
    with pytest.raises(UnknownNftRuleError):
        walk(chains, Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80), frozenset())


def test_rules_are_taken_apart() -> None:
    rule = parse('ip daddr 10.0.0.1 ip saddr != { 10.0.0.0/8, 1.1.1.1-1.1.1.9 } ct state new goto b comment "x, y"')
    assert rule.tests == (
        Lookup(("daddr",), ("10.0.0.1",)),
        Lookup(("saddr",), ("10.0.0.0/8", "1.1.1.1-1.1.1.9"), negated=True),
        Flag("new"),
    )
    assert rule.action == Verdict("goto", "b")
    assert parse("numgen random mod 2 vmap { 0 : goto a, 1 : drop }").action == VerdictMap(
        ("mod 2",), "", (("0", Verdict("goto", "a")), ("1", Verdict("drop")))
    )
    assert parse("dnat ip to ip daddr . udp dport . numgen random mod 3 map @m").action == Translate(
        key=("daddr", "udp dport", "mod 3"), name="m"
    )


def test_jump_comes_back_and_goto_does_not() -> None:
    hook = "type filter hook prerouting priority 0; policy accept;"
    chains = [
        NftChain("n", 4, "t", "base", ("jump a", "jump c", "drop"), hook),
        NftChain("n", 4, "t", "a", ("goto b", "drop")),
        NftChain("n", 4, "t", "b", ("ip daddr 10.9.9.9 drop", "return", "drop")),
        NftChain("n", 4, "t", "c", ("accept",)),
    ]
    (way,) = walk(chains, Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80), frozenset())
    assert way.verdict == "ACCEPT"
    assert [step.chain for step in way.steps] == ["base", "a", "b", "base", "c"]


def test_a_missing_slot_is_a_way_of_its_own() -> None:
    hook = "type nat hook prerouting priority -100; policy accept;"
    rules = (
        "dnat ip to udp dport . numgen random mod 2 map @m",
        "meta l4proto tcp dnat ip to ip daddr . numgen random mod 2 map @m",
    )
    objects: list[KernelObject] = [
        NftChain("n", 4, "t", "base", rules, hook),
        NftElement("n", 4, "t", "m", "10.0.0.2 . 0", "10.0.0.9 . 81"),
    ]
    ways = walk(objects, Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80), frozenset())
    assert {(str(way.packet.destination), way.packet.port) for way in ways} == {("10.0.0.9", 81), ("10.0.0.2", 80)}
