"""What `compare` asks, and how it explains that two modes answer differently."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.flows.model import Outcome, Result
from k8snetlab.oracle import divergences
from k8snetlab.oracle.comparison import Answer, Question, answer, explain, questions
from k8snetlab.oracle.divergences import DIVERGENCES, Divergence

Build = Callable[..., Cluster]

MANIFESTS = """
    apiVersion: v1
    kind: Pod
    metadata: {name: server, labels: {app: web}}
    spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: beside}
    spec: {nodeName: node1, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: away}
    spec: {nodeName: node2, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec:
      type: LoadBalancer
      selector: {app: web}
      externalIPs: [192.0.2.7]
      ports: [{port: 80}]
"""
LOCAL = MANIFESTS.replace("type: LoadBalancer", "type: LoadBalancer\n      externalTrafficPolicy: Local")


def asked(cluster: Cluster) -> set[tuple[str, str]]:
    return {(question.client, question.destination) for question in questions(cluster)}


def test_every_client_asks_every_address(build: Build) -> None:
    inside = {"pod beside", "pod elsewhere", "endpoint", "node with endpoint", "node without endpoint"}
    ports = {"NodePort with endpoint", "NodePort without endpoint", "LB IP", "externalIP"}
    assert asked(build(MANIFESTS)) == {
        *((client, destination) for client in inside for destination in {"ClusterIP", *ports}),
        *(("external", destination) for destination in ports),
        *((f"node {which} endpoint", "NodePort at localhost") for which in ("with", "without")),
        *(
            (client, destination)
            for client in ("pod", "node")
            for destination in ("undefined port", "ping to ClusterIP", "unallocated ClusterIP")
        ),
    }


def test_with_policy_local_the_clusters_own_clients_ask_their_own_node_only(build: Build) -> None:
    found = asked(build(LOCAL))
    assert ("pod elsewhere", "NodePort without endpoint") in found
    assert ("pod elsewhere", "NodePort with endpoint") not in found
    assert ("external", "NodePort without endpoint") in found


@pytest.mark.parametrize("mode", ["ipvs", "nftables"])
def test_the_questions_do_not_depend_on_the_mode(build: Build, mode: str) -> None:
    assert questions(build(MANIFESTS, proxy_mode=mode)) == questions(build(MANIFESTS))


def question(cluster: Cluster, client: str, destination: str) -> Question:
    return next(each for each in questions(cluster) if (each.client, each.destination) == (client, destination))


def test_only_its_own_answers_count_where_an_endpoint_asks_itself(build: Build) -> None:
    cluster = build(MANIFESTS)
    asks_itself = question(cluster, "endpoint", "ClusterIP")
    assert asks_itself.tries > 1
    results = [
        Result(outcome="ok", server="default/other", source="10.244.0.3"),
        Result(outcome="ok", server="default/server", source="10.244.0.1"),
    ]
    assert answer(cluster, asks_itself, results).whose == "node"
    assert answer(cluster, asks_itself, results[:1]).whose == "pod"


@pytest.mark.parametrize(
    ("client", "source", "whose"),
    [
        pytest.param("pod beside", "10.244.0.2", "pod", id="its-own"),
        pytest.param("pod beside", "172.18.0.3", "node", id="a-nodes"),
        pytest.param("pod beside", "10.244.1.1", "node", id="a-pod-bridges"),
        pytest.param("external", "203.0.113.10", "client", id="the-clients"),
        pytest.param("node with endpoint", "172.18.255.1", "172.18.255.1", id="somebody-elses"),
        pytest.param("external", "", "", id="nobody-saw-it"),
    ],
)
def test_whose_address_it_is(build: Build, client: str, source: str, whose: str) -> None:
    cluster = build(MANIFESTS)
    found = answer(cluster, question(cluster, client, "LB IP"), [Result(outcome="ok", source=source)])
    assert found.whose == whose


def answers(**seen: tuple[Outcome, str]) -> dict[str, Answer]:
    return {mode: Answer(result=Result(outcome=outcome), whose=whose) for mode, (outcome, whose) in seen.items()}


@pytest.mark.parametrize(
    ("client", "destination", "seen", "expected"),
    [
        pytest.param(
            "pod", "undefined port", {"iptables": ("timeout", ""), "nftables": ("refused", "")},
            (True, divergences.UNDEFINED_PORT), id="as-documented",
        ),
        pytest.param(
            "pod", "undefined port",
            {"iptables": ("refused", ""), "ipvs": ("timeout", ""), "nftables": ("refused", "")},
            (True, None), id="another-mode-than-documented",
        ),
        pytest.param(
            "pod", "undefined port", {"ipvs": ("refused", ""), "nftables": ("refused", "")}, (False, None), id="alike",
        ),
        pytest.param(
            "pod beside", "ClusterIP", {"iptables": ("ok", "pod"), "nftables": ("ok", "node")}, (True, None),
            id="source-addresses-count",
        ),
        pytest.param(
            "node without endpoint", "LB IP", {"iptables": ("ok", "node"), "ipvs": ("timeout", "")},
            (True, divergences.LOCAL_WITHOUT_ENDPOINTS), id="local-without-endpoints",
        ),
        pytest.param(
            "node with endpoint", "LB IP", {"iptables": ("ok", "node"), "ipvs": ("ok", "172.18.255.1")},
            (True, divergences.NODE_SOURCE), id="local-with-an-endpoint",
        ),
    ],
)  # fmt: skip
def test_explanations(
    build: Build,
    client: str,
    destination: str,
    seen: dict[str, tuple[Outcome, str]],
    expected: tuple[bool, Divergence | None],
) -> None:
    assert explain(question(build(LOCAL), client, destination), answers(**seen)) == expected


def test_a_node_that_asks_for_nobody_is_a_difference_of_its_own(build: Build) -> None:
    nobody = build(MANIFESTS.replace("labels: {app: web}", "labels: {app: other}"))
    seen = answers(iptables=("timeout", ""), nftables=("refused", ""))
    for destination in ("LB IP", "externalIP"):
        asked_by_node = question(nobody, "node without endpoint", destination)
        assert explain(asked_by_node, seen) == (True, divergences.NO_ENDPOINTS_FROM_NODE)
        assert explain(question(nobody, "pod elsewhere", destination), seen) == (True, None)


def test_every_divergence_is_complete_and_has_a_name_of_its_own() -> None:
    assert len({each.name for each in DIVERGENCES}) == len(DIVERGENCES)
    assert all(each.modes and each.summary and each.reason and each.source for each in DIVERGENCES)
