"""The truth table of conformance 4.5 by walking packets through the planned rules, and the walker itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy.walk import Packet, UnknownRuleError, Way, parse, walk
from k8snetlab.plan.state import IptablesChain

Resolved = Callable[..., Cluster]

# L runs on node1, where every packet is met; R on node2. The client is a pod of node1 that is no endpoint.
SERVICE = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2{lab}}}
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
  ports: [{{port: 80, nodePort: 30080}}]
{extra}
"""
ENDPOINTS = {"10.244.0.3:80": "L", "10.244.1.2:80": "R"}
SOURCES = {"pod": "10.244.0.2", "node": "172.18.0.2", "localhost": "127.0.0.1", "external": "203.0.113.10"}
DESTINATIONS = {
    "ClusterIP": ("10.96.1.1", 80),
    "NodePort": ("172.18.0.2", 30080),
    "LB IP": ("172.18.255.1", 80),
    "external IP": ("192.0.2.7", 80),
}


def service(
    *, external: str = "Cluster", internal: str = "Cluster", where: str = "LR", lab: str = "", extra: str = ""
) -> str:
    on = {side: "web" if side in where else "other" for side in "LR"}
    return SERVICE.format(
        external=external, internal=internal, on_node1=on["L"], on_node2=on["R"], lab=lab, extra=extra
    )


def meet(cluster: Cluster, source: str, destination: str) -> tuple[Way, ...]:
    """All ways of a packet from one of SOURCES to one of DESTINATIONS through node1."""
    node = cluster.nodes[0]
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == node.name]
    address, port = DESTINATIONS[destination]
    if source == "localhost":
        address = "127.0.0.1"
    packet = Packet(
        ip_address(SOURCES[source]), ip_address(address), "tcp", port, made_here=source in ("node", "localhost")
    )
    return walk(chains, packet, frozenset(node_addresses(cluster, node, 4)))


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
    ("localhost", "NodePort", "LR masq", "LR masq", "LR masq"),
    ("node", "LB IP", "LR masq", "LR masq", "LR masq"),
    ("node", "external IP", "LR masq", "LR masq", "LR masq"),
    ("external", "ClusterIP", "LR masq", "LR masq", "L masq"),
    ("external", "NodePort", "LR masq", "L", "LR masq"),
    ("external", "LB IP", "LR masq", "L", "LR masq"),
    ("external", "external IP", "LR masq", "L", "LR masq"),
]


@pytest.mark.parametrize(("source", "destination", "plain", "external", "internal"), TABLE)
def test_truth_table(
    resolved: Resolved, source: str, destination: str, plain: str, external: str, internal: str
) -> None:
    found = {
        "plain": outcome(meet(resolved(service()), source, destination)),
        "external": outcome(meet(resolved(service(external="Local")), source, destination)),
        "internal": outcome(meet(resolved(service(internal="Local")), source, destination)),
    }
    assert found == {"plain": plain, "external": external, "internal": internal}


@pytest.mark.parametrize(("source", "destination"), [row[:2] for row in TABLE])
@pytest.mark.parametrize("policy", ["plain", "external", "internal"])
def test_without_endpoints_everything_is_refused(
    resolved: Resolved, source: str, destination: str, policy: str
) -> None:
    """Except where kube-proxy itself leaves a hole: OUTPUT has no jump to KUBE-EXTERNAL-SERVICES (conformance IPT 2),
    so what a node's own process sends to an external or balancer's address leaves by the default route.
    """
    policies = {policy: "Local"} if policy != "plain" else {}
    hole = source == "node" and destination in ("LB IP", "external IP")
    found = outcome(meet(resolved(service(where="", **policies)), source, destination))
    assert found == ("untouched" if hole else "REJECT")


@pytest.mark.parametrize(("source", "destination"), [row[:2] for row in TABLE])
def test_without_a_local_endpoint_local_traffic_is_dropped(resolved: Resolved, source: str, destination: str) -> None:
    """Silence, not refusal, and only for the traffic that the policy is about (conformance 4.5, last lines)."""
    inside = outcome(meet(resolved(service(internal="Local", where="R")), source, destination))
    outside = outcome(meet(resolved(service(external="Local", where="R")), source, destination))
    assert inside == ("DROP" if destination == "ClusterIP" else "R masq")
    if source == "external" and destination != "ClusterIP":
        assert outside == "DROP"
    else:
        assert outside == ("R" if source == "pod" else "R masq")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [("node", "ClusterIP", "LR"), ("external", "ClusterIP", "LR"), ("pod", "NodePort", "L"), ("pod", "LB IP", "L")],
)
def test_without_a_local_traffic_detector(resolved: Resolved, source: str, destination: str, expected: str) -> None:
    policies = {} if destination == "ClusterIP" else {"external": "Local"}
    cluster = resolved(service(**policies))
    blind = replace(cluster, config=replace(cluster.config, pod_subnets=()))
    # Without pod subnets ip-masq-agent's rules masquerade pods too: only the Service's own part is looked at.
    ways = [
        replace(way, packet=replace(way.packet, masqueraded=bool(way.packet.mark)))
        for way in meet(blind, source, destination)
    ]
    assert outcome(tuple(ways)) == expected


def test_masquerade_all(resolved: Resolved) -> None:
    assert outcome(meet(resolved(service(lab=", masqueradeAll: true")), "pod", "ClusterIP")) == "LR masq"


def test_a_pod_that_reaches_itself_is_masqueraded_and_only_then(resolved: Resolved) -> None:
    cluster = resolved(service())
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == "node1"]
    local = frozenset(node_addresses(cluster, cluster.nodes[0], 4))
    ways = walk(chains, Packet(ip_address("10.244.0.3"), ip_address("10.96.1.1"), "tcp", 80), local)
    assert {(str(way.packet.destination), way.packet.masqueraded) for way in ways} == {
        ("10.244.0.3", True),
        ("10.244.1.2", False),
    }


@pytest.mark.parametrize(
    ("ranges", "source", "destination", "expected"),
    [
        pytest.param("203.0.113.0/25", "external", "LB IP", "LR masq", id="inside"),
        pytest.param("192.0.2.0/24", "external", "LB IP", "DROP", id="outside"),
        pytest.param("192.0.2.0/24", "external", "NodePort", "LR masq", id="node ports are not meant"),
        pytest.param("192.0.2.0/24", "external", "external IP", "LR masq", id="external IPs are not meant"),
        pytest.param("192.0.2.0/24", "pod", "ClusterIP", "LR", id="ClusterIPs are not meant"),
        pytest.param("192.0.2.0/24", "node", "LB IP", "DROP", id="the node is not in the range"),
        pytest.param("172.18.0.0/16", "node", "LB IP", "LR masq", id="the node is in the range"),
    ],
)
def test_source_ranges(resolved: Resolved, ranges: str, source: str, destination: str, expected: str) -> None:
    cluster = resolved(service(extra=f"  loadBalancerSourceRanges: [{ranges}]"))
    assert outcome(meet(cluster, source, destination)) == expected


def test_a_node_in_the_range_may_send_from_the_balancers_address(resolved: Resolved) -> None:
    cluster = resolved(service(extra="  loadBalancerSourceRanges: [172.18.0.0/16]"))
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == "node1"]
    vip = ip_address("172.18.255.1")
    assert outcome(walk(chains, Packet(vip, vip, "tcp", 80, made_here=True), frozenset())) == "LR masq"


@pytest.mark.parametrize(
    ("source", "destination", "port", "made_here", "masqueraded"),
    [
        pytest.param("10.244.0.2", "10.244.0.3", 80, False, False, id="pod to pod"),
        pytest.param("10.244.0.2", "10.244.1.2", 80, False, False, id="pod to pod elsewhere"),
        pytest.param("10.244.0.2", "172.18.0.3", 80, False, False, id="pod to another node"),
        pytest.param("10.244.0.2", "198.51.100.10", 80, False, True, id="pod to the internet"),
        pytest.param("172.18.0.2", "10.244.1.2", 80, True, False, id="node to pod"),
        pytest.param("203.0.113.10", "10.244.0.2", 80, False, False, id="outside to pod"),
        pytest.param("10.244.0.2", "10.96.1.1", 81, False, True, id="a port that the Service does not have"),
    ],
)
def test_what_is_for_no_service(
    resolved: Resolved, source: str, destination: str, port: int, made_here: bool, masqueraded: bool
) -> None:
    """Untouched but for the masquerade of what leaves the cluster (conformance POD 3, 5, 8 and SVC 8)."""
    cluster = resolved(service())
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == "node1"]
    packet = Packet(ip_address(source), ip_address(destination), "tcp", port, made_here=made_here)
    (way,) = walk(chains, packet, frozenset(node_addresses(cluster, cluster.nodes[0], 4)))
    assert (way.verdict, way.packet.translated, way.packet.masqueraded) == ("ACCEPT", False, masqueraded)
    assert str(way.packet.destination) == destination


def test_loopback_of_a_node_is_shut_to_others(resolved: Resolved) -> None:
    cluster = resolved(service())
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == "node1"]
    (way,) = walk(chains, Packet(ip_address("172.18.0.3"), ip_address("127.0.0.1"), "tcp", 22), frozenset())
    assert way.verdict == "DROP"
    assert way.steps[-1].chain == "KUBE-FIREWALL"


def test_the_way_says_which_rules_matched(resolved: Resolved) -> None:
    ways = meet(resolved(service(where="L")), "pod", "ClusterIP")
    assert [step.chain for step in ways[0].steps if step.table == "nat"][:4] == [
        "PREROUTING",
        "KUBE-SERVICES",
        next(step.chain for step in ways[0].steps if step.chain.startswith("KUBE-SVC-")),
        next(step.chain for step in ways[0].steps if step.chain.startswith("KUBE-SEP-")),
    ]


def test_ipv6(resolved: Resolved) -> None:
    cluster = resolved(service(lab=", ipFamily: ipv6").replace("  externalIPs: [192.0.2.7]\n", ""))
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain) and obj.netns == "node1"]
    (cluster_ip,) = cluster.services[0].cluster_ips
    ways = walk(chains, Packet(ip_address("fd00:10:244::2"), cluster_ip, "tcp", 80), frozenset(), family=6)
    assert {(str(way.packet.destination), way.packet.masqueraded) for way in ways} == {
        ("fd00:10:244::3", False),
        ("fd00:10:244:1::2", False),
    }


# --- the walker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        "-i eth0 -j ACCEPT",
        "-m owner --uid-owner 0 -j ACCEPT",
        "-j LOG",
        "-j KUBE-NOWHERE",
        "-j SNAT --to-source 10.0.0.1",
        "-m addrtype --dst-type BROADCAST -j ACCEPT",
        "-m statistic --mode random --probability 0.50000000000 -j MARK --set-xmark 0x1/0x1",
    ],
)
def test_a_rule_that_is_not_understood_is_refused(rule: str) -> None:
    chain = IptablesChain("node1", 4, "filter", "FORWARD", "ACCEPT", (rule,))
    packet = Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80)
    with pytest.raises(UnknownRuleError) as raised:
        walk([chain], packet, frozenset())
    assert raised.value.rule == rule


def test_negations_and_masks() -> None:
    rule = parse("! -s 10.0.0.0/8 -p tcp -m mark ! --mark 0x4000/0x4000 -m tcp --dport 80 -j RETURN")
    assert rule.options == (
        ("-s", True, "10.0.0.0/8"),
        ("-p", False, "tcp"),
        ("--mark", True, "0x4000/0x4000"),
        ("--dport", False, "80"),
    )
    assert (rule.target, rule.argument) == ("RETURN", "")


def test_a_chain_that_comes_back_goes_on_and_a_policy_decides() -> None:
    chains = [
        IptablesChain("n", 4, "filter", "FORWARD", "DROP", ("-j A", "-d 10.0.0.2/32 -j B")),
        IptablesChain("n", 4, "filter", "A", "", ("-p udp -j ACCEPT", "-j MARK --set-xmark 0x1/0x1")),
        IptablesChain("n", 4, "filter", "B", "", ("-m mark --mark 0x1/0x1 -j RETURN", "-j ACCEPT")),
    ]
    packet = Packet(ip_address("10.0.0.1"), ip_address("10.0.0.2"), "tcp", 80)
    (way,) = walk(chains, packet, frozenset())
    assert (way.verdict, way.packet.mark) == ("DROP", 1)
    assert [step.chain for step in way.steps] == ["FORWARD", "A", "FORWARD", "B"]
