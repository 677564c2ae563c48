"""What Kubernetes promises to a client of a Service, against the tables that its own tests are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster import names
from k8snetlab.cluster.endpoint_choice import categorize
from k8snetlab.cluster.model import Cluster, Endpoint, Service, ServicePort
from k8snetlab.oracle.services import Client, Expectation, Via, expect, node_sources

# node1 and node2 are in zone a, node3 in zone b, node4 in none.
MANIFESTS = """
    apiVersion: k8snetlab.dev/v1
    kind: Lab
    spec:
      nodes:
      - {name: node1, labels: {topology.kubernetes.io/zone: a}}
      - {name: node2, labels: {topology.kubernetes.io/zone: a}}
      - {name: node3, labels: {topology.kubernetes.io/zone: b}}
      - {name: node4}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: client}
    spec: {nodeName: node1, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: agent}
    spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
    """
Policy = Literal["plain", "eTP=Local", "iTP=Local"]
SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "eTP=Local": {"external_traffic_policy": "Local"},
    "iTP=Local": {"internal_traffic_policy": "Local"},
}


def endpoint(number: int, node: str | None, **state: Any) -> Endpoint:
    """The endpoint e1, e2, …; ready unless told otherwise."""
    return Endpoint(ip=ip_address(f"10.244.9.{number}"), port=80, node=node, pod=f"default/e{number}", **state)


def falling(number: int, node: str | None, **state: Any) -> Endpoint:
    """One that terminates and still serves."""
    return endpoint(number, node, ready=False, serving=True, terminating=True, **state)


@dataclass(frozen=True)
class Table:
    """A cluster with one Service, whose endpoints and policy each row says anew."""

    cluster: Cluster

    def service(self, endpoints: tuple[Endpoint, ...], policy: str = "plain") -> tuple[Service, ServicePort]:
        service = self.cluster.service("default/web")
        assert service is not None
        port = replace(service.ports[0], endpoints=endpoints)
        return replace(service, ports=(port,), spec=replace(service.spec, **SPECS[policy])), port

    def client(self, who: str) -> Client:
        """`pod` and `agent` are on node1, `node1` is a process of it, `outside` is external/client."""
        if who == "outside":
            return Client(address=names.outside_address(names.CLIENT, 4))
        pod = self.cluster.pod(f"default/{who.replace('pod', 'client')}")
        node = self.cluster.node(pod.node if pod else who)
        assert node is not None
        return Client(address=pod.ips[0] if pod else node.addresses[0], node=node, pod=pod)

    def expect(
        self, who: str, via: Via, endpoints: tuple[Endpoint, ...], policy: str = "plain", entry: str = "node1"
    ) -> Expectation:
        service, port = self.service(endpoints, policy)
        node = self.cluster.node(entry) if via == "node-port" else None
        return expect(self.cluster, service, port, self.client(who), via, node)


@pytest.fixture(scope="module")
def table(build: Callable[..., Cluster]) -> Table:
    return Table(build(MANIFESTS))


def outcome(found: Expectation) -> str:
    """`ok e1 e2`, `refused` or `timeout`."""
    return " ".join((found.outcome, *(server.removeprefix("default/") for server in found.servers)))


L, R = endpoint(1, "node1"), endpoint(2, "node2")

# conformance 4.5: TestInternalExternalMasquerade of kube-proxy. Endpoint L is on the entry node, R on another one.
MASQUERADE: tuple[tuple[str, str, str, str, str], ...] = (
    # client → destination         plain                eTP=Local             iTP=Local
    ("pod", "cluster-ip", "both, no masq", "both, no masq", "L only, no masq"),
    ("pod", "node-port", "both, masq", "both, no masq", "both, masq"),
    ("node1", "cluster-ip", "both, masq", "both, masq", "L only, masq"),
    ("node1", "node-port", "both, masq", "both, masq", "both, masq"),
    ("outside", "node-port", "both, masq", "L only, no masq", "both, masq"),
    # a hostNetwork pod is a process of its node
    ("agent", "cluster-ip", "both, masq", "both, masq", "L only, masq"),
    ("agent", "node-port", "both, masq", "both, masq", "both, masq"),
)
ROWS = [
    pytest.param(who, via, policy, cell, id=f"{who} to {via}, {policy}")
    for who, via, *cells in MASQUERADE
    for policy, cell in zip(SPECS, cells, strict=True)
]


@pytest.mark.parametrize(("who", "via", "policy", "cell"), ROWS)
def test_who_may_answer_and_what_he_sees(table: Table, who: str, via: Via, policy: str, cell: str) -> None:
    found = table.expect(who, via, (L, R), policy)
    servers, masquerade = cell.split(", ")
    assert found.outcome == "ok"
    assert found.servers == (("default/e1", "default/e2") if servers == "both" else ("default/e1",))
    client = table.client(who)
    if masquerade == "masq":
        node1 = table.cluster.node("node1")
        assert node1 is not None
        assert (found.source, found.sources) == ("node", node_sources(table.cluster, node1, 4))
    else:
        assert (found.source, found.sources) == ("pod" if who == "pod" else "client", (client.address,))


@pytest.mark.parametrize(("who", "via", "policy", "cell"), ROWS)
def test_no_endpoints_is_refused_in_every_row(table: Table, who: str, via: Via, policy: str, cell: str) -> None:
    assert outcome(table.expect(who, via, (), policy)) == "refused"


@pytest.mark.parametrize(("who", "via", "policy", "cell"), ROWS)
def test_without_a_local_endpoint(table: Table, who: str, via: Via, policy: str, cell: str) -> None:
    """Only the rows that were `L only` lose: their packets are dropped, not refused. All others still reach R."""
    assert outcome(table.expect(who, via, (R,), policy)) == ("timeout" if cell.startswith("L only") else "ok e2")


def test_masquerade_all_is_about_cluster_ips(table: Table, build: Callable[..., Cluster]) -> None:
    everything = Table(
        build(MANIFESTS.replace("spec:\n      nodes:", "spec:\n      masqueradeAll: true\n      nodes:", 1))
    )
    assert everything.cluster.config.masquerade_all
    assert everything.expect("pod", "cluster-ip", (L, R)).source == "node"
    assert everything.expect("pod", "node-port", (L, R), "eTP=Local").source == "pod"
    assert everything.expect("outside", "node-port", (L, R), "eTP=Local").source == "client"


def test_the_entry_node_masquerades(table: Table) -> None:
    """The node whose port is used, wherever the client and the endpoints are (NP.2)."""
    node3 = table.cluster.node("node3")
    assert node3 is not None
    for who in ("pod", "node1", "outside"):
        found = table.expect(who, "node-port", (L, R), entry="node3")
        assert (outcome(found), found.sources) == ("ok e1 e2", node_sources(table.cluster, node3, 4))


def test_another_node_is_a_client_from_outside(table: Table) -> None:
    """externalTrafficPolicy Local short-circuits pods, and processes of the entry node itself; node2 is neither."""
    found = table.expect("node2", "node-port", (L, R), "eTP=Local", entry="node1")
    node2 = table.cluster.node("node2")
    assert node2 is not None
    assert (outcome(found), found.source, found.sources) == ("ok e1", "client", (node2.addresses[0],))
    assert outcome(table.expect("node2", "node-port", (R,), "eTP=Local", entry="node1")) == "timeout"


@pytest.mark.parametrize("policy", SPECS)
@pytest.mark.parametrize(("via", "entry"), [("cluster-ip", "node1"), ("node-port", "node1"), ("node-port", "node2")])
def test_hairpin_is_seen_as_the_node(table: Table, via: Via, entry: str, policy: str) -> None:
    """HAIR.1: with its own address as the source, the pod would answer itself, past the node that translates."""
    me = table.cluster.pod("default/client")
    assert me is not None
    own = Endpoint(ip=me.ips[0], port=80, node="node1", pod=me.key)
    node = table.cluster.node(entry)
    assert node is not None
    of_node = node_sources(table.cluster, node, 4)
    alone = table.expect("pod", via, (own,), policy, entry)
    assert (outcome(alone), alone.source, alone.sources) == ("ok client", "node", of_node)
    both = table.expect("pod", via, (own, endpoint(2, "node1")), policy, entry)
    assert outcome(both) == "ok client e2"
    assert set(of_node) <= set(both.sources)
    assert (both.sources[0] == me.ips[0]) is (both.source == "pod")


CLUSTER_ROWS = [
    pytest.param((L, falling(2, "node2")), "ok e1", id="TERM.1 ready ones exist: the terminating get nothing"),
    pytest.param((falling(1, "node1"), falling(2, "node2")), "ok e1 e2", id="TERM.2 none ready: those still serving"),
    pytest.param((falling(2, "node2"),), "ok e2", id="TERM.2 from any node"),
    pytest.param(
        (endpoint(1, "node1", ready=False, serving=False, terminating=True),), "refused", id="TERM.4 no longer serving"
    ),
    pytest.param((endpoint(1, "node1", ready=False, serving=False),), "refused", id="EP not ready"),
    pytest.param((endpoint(1, "node1", ready=False, serving=True),), "refused", id="TERM.7 serving, but no reason to"),
    pytest.param(
        (falling(1, "node1", nodes=("node2",)), falling(2, "node2", nodes=("node2",))), "ok e1 e2", id="TERM.5"
    ),
    pytest.param((endpoint(1, None), endpoint(2, "node2")), "ok e1 e2", id="an endpoint without a node"),
    pytest.param(
        (endpoint(1, "node3", zones=("b",)), endpoint(2, "node2", zones=("a",))), "ok e2", id="TD.2 the own zone"
    ),
    pytest.param(
        (endpoint(1, "node3", zones=("b",)), endpoint(2, "node3", zones=("c",))), "ok e1 e2", id="TD.2 none in the zone"
    ),
    pytest.param((endpoint(1, "node3"), endpoint(2, "node2", zones=("a",))), "ok e1 e2", id="TD.4 one without a hint"),
    pytest.param(
        (
            endpoint(1, "node1", nodes=("node1",), zones=("a",)),
            endpoint(2, "node2", nodes=("node2",), zones=("a",)),
        ),
        "ok e1",
        id="TD.3 the own node",
    ),
    pytest.param(
        (
            endpoint(1, "node3", nodes=("node3",), zones=("b",)),
            endpoint(2, "node2", nodes=("node2",), zones=("a",)),
        ),
        "ok e2",
        id="TD.3 not the node, but the zone",
    ),
    pytest.param(
        (endpoint(1, "node3", nodes=("node3",)), endpoint(2, "node2", nodes=("node2",))), "ok e1 e2", id="TD.3 neither"
    ),
    pytest.param(
        (endpoint(1, "node1", nodes=("node1",)), endpoint(2, "node2")), "ok e1 e2", id="TD.4 one without a node hint"
    ),
    pytest.param(
        (endpoint(1, "node1", nodes=("node1",), ready=False), endpoint(2, "node2", nodes=("node2",))),
        "ok e2",
        id="TD.4 only ready ones count",
    ),
]


@pytest.mark.parametrize(("endpoints", "expected"), CLUSTER_ROWS)
@pytest.mark.parametrize("who", ["pod", "node1"])
def test_cluster_policy_from_node1(table: Table, who: str, endpoints: tuple[Endpoint, ...], expected: str) -> None:
    assert outcome(table.expect(who, "cluster-ip", endpoints)) == expected
    assert outcome(table.expect(who, "cluster-ip", endpoints, "eTP=Local")) == expected  # TP.5
    assert outcome(table.expect("outside", "node-port", endpoints)) == expected
    assert outcome(table.expect("outside", "node-port", endpoints, "iTP=Local")) == expected  # TP.7


LOCAL_ROWS = [
    pytest.param((L, R), "ok e1", id="TP.1, TP.6 the local one"),
    pytest.param((R,), "timeout", id="TP.2, TP.6 only elsewhere: dropped"),
    pytest.param((endpoint(1, None),), "timeout", id="TP.11 without a node it is never local"),
    pytest.param((falling(1, "node1"), R), "ok e1", id="TERM.6 the local one terminates, the ready one is remote"),
    pytest.param((L, falling(3, "node1")), "ok e1", id="TERM.3 a ready one is here"),
    pytest.param((falling(2, "node2"),), "timeout", id="TERM.3 elsewhere"),
    pytest.param((endpoint(2, "node2", ready=False, serving=False),), "refused", id="TP.6 none anywhere"),
    pytest.param((endpoint(1, "node1", ready=False), R), "timeout", id="the local one is not ready"),
    pytest.param((endpoint(1, "node1", nodes=("node2",)), R), "ok e1", id="TD.6 hints do not matter"),
]


@pytest.mark.parametrize(("endpoints", "expected"), LOCAL_ROWS)
def test_local_policy_on_node1(table: Table, endpoints: tuple[Endpoint, ...], expected: str) -> None:
    assert outcome(table.expect("outside", "node-port", endpoints, "eTP=Local")) == expected
    for who in ("pod", "node1", "agent"):
        assert outcome(table.expect(who, "cluster-ip", endpoints, "iTP=Local")) == expected


@pytest.fixture(name="in_ipvs", scope="module")
def in_ipvs_fixture(build: Callable[..., Cluster]) -> Table:
    return Table(build(MANIFESTS.replace("spec:\n", "spec:\n      kubeProxyMode: ipvs\n", 1)))


IPVS_ROWS = [
    # client, via, policy: with both L and R, with R alone, with none
    pytest.param("pod", "cluster-ip", "iTP=Local", "ok e1", "ok e2", id="pod to ClusterIP"),
    pytest.param("node1", "cluster-ip", "iTP=Local", "ok e1", "ok e2", id="node to ClusterIP"),
    pytest.param("pod", "node-port", "eTP=Local", "ok e1", "ok e2", id="pod to its node"),
    pytest.param("node1", "node-port", "eTP=Local", "ok e1", "ok e2", id="node to itself"),
    pytest.param("agent", "node-port", "eTP=Local", "ok e1", "ok e2", id="a hostNetwork pod to its node"),
    pytest.param("outside", "node-port", "eTP=Local", "ok e1", "timeout", id="from outside"),
    pytest.param("node2", "node-port", "eTP=Local", "ok e1", "timeout", id="from another node"),
]


@pytest.mark.parametrize(("who", "via", "policy", "both", "remote"), IPVS_ROWS)
def test_local_policy_in_ipvs_mode(in_ipvs: Table, who: str, via: Via, policy: str, both: str, remote: str) -> None:
    """TP.10: one list of backends for all clients, and that of the whole cluster where no endpoint is local."""
    assert outcome(in_ipvs.expect(who, via, (L, R), policy)) == both
    assert outcome(in_ipvs.expect(who, via, (R,), policy)) == remote
    assert outcome(in_ipvs.expect(who, via, (), policy)) == "refused"


def test_an_internal_service_in_ipvs_mode_has_nothing_to_fall_back_on(build: Callable[..., Cluster]) -> None:
    """CategorizeEndpoints gives no cluster endpoints for it, and an empty virtual server refuses."""
    internal = MANIFESTS.replace("spec:\n", "spec:\n      kubeProxyMode: ipvs\n", 1).replace(
        "type: NodePort", "type: ClusterIP"
    )
    only = Table(build(internal))
    assert outcome(only.expect("pod", "cluster-ip", (R,), "iTP=Local")) == "refused"
    assert outcome(only.expect("pod", "cluster-ip", (L, R), "iTP=Local")) == "ok e1"


def test_who_is_seen_in_ipvs_mode(in_ipvs: Table) -> None:
    pod, outside = in_ipvs.client("pod"), in_ipvs.client("outside")
    assert in_ipvs.expect("pod", "node-port", (L, R), "eTP=Local").sources == (pod.address,)
    assert in_ipvs.expect("outside", "node-port", (L, R), "eTP=Local").sources == (outside.address,)
    assert in_ipvs.expect("node1", "node-port", (R,), "eTP=Local").source == "node"


@pytest.mark.parametrize(("who", "via"), [(who, via) for who, via, *_ in MASQUERADE])
def test_without_a_local_policy_the_modes_agree(table: Table, in_ipvs: Table, who: str, via: Via) -> None:
    assert in_ipvs.expect(who, via, (L, R)) == table.expect(who, via, (L, R))


def test_a_node_without_a_zone_has_no_zone_of_its_own(table: Table) -> None:
    """TD.5."""
    endpoints = (endpoint(1, "node1", zones=("a",)), endpoint(2, "node3", zones=("b",)))
    assert outcome(table.expect("node4", "cluster-ip", endpoints)) == "ok e1 e2"
    assert outcome(table.expect("node3", "cluster-ip", endpoints)) == "ok e2"


def test_families_are_apart(table: Table) -> None:
    six = replace(L, ip=ip_address("fd00::1"))
    assert outcome(table.expect("pod", "cluster-ip", (six,))) == "refused"
    assert outcome(table.expect("pod", "cluster-ip", (six, R))) == "ok e2"


STATES = (  # ready, serving, terminating
    (True, True, False), (False, True, True), (False, False, True), (False, False, False), (False, True, False),
)  # fmt: skip
NODES = ("node1", "node2", "node3", "node4")
ENDPOINTS = st.lists(
    st.builds(
        lambda node, state, zones, nodes: (node, state, zones, nodes),
        st.sampled_from((*NODES, None)),
        st.sampled_from(STATES),
        st.sampled_from(((), ("a",), ("b",), ("a", "b"))),
        st.sampled_from(((), ("node1",), ("node2",), ("node1", "node3"))),
    ),
    max_size=6,
)  # fmt: skip


@given(ENDPOINTS, st.sampled_from(tuple(SPECS)), st.sampled_from(NODES))
def test_two_readings_of_the_text_agree(table: Table, drawn: list[tuple[Any, ...]], policy: str, entry: str) -> None:
    """What the data planes are made from, `categorize`, was written apart from this oracle."""
    endpoints = tuple(
        endpoint(number, node, ready=state[0], serving=state[1], terminating=state[2], zones=zones, nodes=nodes)
        for number, (node, state, zones, nodes) in enumerate(drawn, 1)
    )
    service, port = table.service(endpoints, policy)
    node = table.cluster.node(entry)
    assert node is not None
    chosen = categorize(service, port, node, 4)

    def promised(usable: tuple[Endpoint, ...], *, local: bool) -> str:
        if usable:
            return " ".join(("ok", *sorted(f"e{each.ip.packed[3]}" for each in usable)))
        return "timeout" if local and chosen.any_endpoints else "refused"

    internal, external = policy == "iTP=Local", policy == "eTP=Local"
    within = promised(chosen.local if internal else chosen.cluster, local=internal)
    from_outside = promised(chosen.local if external else chosen.cluster, local=external)
    assert outcome(table.expect(entry, "cluster-ip", endpoints, policy)) == within
    assert outcome(table.expect("outside", "node-port", endpoints, policy, entry)) == from_outside
    assert outcome(table.expect("pod", "node-port", endpoints, policy, entry)) == promised(chosen.cluster, local=False)
