"""Generated policies: the oracle and the naive reading say the same of every pair, protocol and port."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.derive import derive
from k8snetlab.oracle.lint import lint
from k8snetlab.oracle.parties import address_owners, node_party, pod_party
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.policy_rules import PolicyProtocol, read_policies
from k8snetlab.oracle.reasons import reason, steps
from tests.oracle.naive_policies import End, Json, allowed

NAMESPACES = {"x": {"team": "x"}, "y": {"team": "y", "env": "prod"}, "z": {}}
PODS = {
    ("x", "a"): {"app": "a", "tier": "front"},
    ("x", "b"): {"app": "b"},
    ("y", "a"): {"app": "a"},
    ("y", "b"): {"app": "b", "tier": "front"},
    ("z", "c"): {},
}
# The same name stands for another port in another pod, and may be of another protocol.
PORTS = {
    ("x", "a"): [("web", "TCP", 80), ("dns", "UDP", 53)],
    ("x", "b"): [("web", "TCP", 8080)],
    ("y", "a"): [("web", "UDP", 80), ("dns", "TCP", 53)],
    ("y", "b"): [("web", "TCP", 80), ("other", "TCP", 81)],
    ("z", "c"): [],
}
OUTSIDE = "198.51.100.10"
FLOWS: tuple[tuple[PolicyProtocol, int], ...] = (("TCP", 80), ("TCP", 8080), ("UDP", 53), ("UDP", 80), ("SCTP", 80))

KEYS, VALUES = st.sampled_from(["app", "tier", "team", "env"]), st.sampled_from(["a", "b", "x", "y", "front", "prod"])
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries(
        {"key": KEYS, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(VALUES, min_size=1, max_size=2)}
    ),
    st.fixed_dictionaries({"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
SELECTORS: st.SearchStrategy[Json] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"matchLabels": st.dictionaries(KEYS, VALUES, min_size=1, max_size=1)}),
    st.fixed_dictionaries({"matchExpressions": st.lists(EXPRESSIONS, min_size=1, max_size=2)}),
)
BLOCKS = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0"},
        {"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]},
        {"cidr": "10.244.0.0/16", "except": ["10.244.0.0/24", "10.244.1.2/32"]},
        {"cidr": "10.244.0.3/32"},
        {"cidr": "198.51.100.0/24"},
        {"cidr": "172.18.0.0/16"},
        {"cidr": "::/0"},
    ]
)
PEERS = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": SELECTORS}),
    st.fixed_dictionaries({"namespaceSelector": SELECTORS, "podSelector": SELECTORS}),
    st.fixed_dictionaries({"ipBlock": BLOCKS}),
)
POLICY_PORTS = st.sampled_from(
    [
        {},
        {"protocol": "UDP"},
        {"protocol": "SCTP"},
        {"port": 80},
        {"port": 53, "protocol": "UDP"},
        {"port": 80, "endPort": 8080},
        {"port": "web"},
        {"port": "dns", "protocol": "UDP"},
        {"port": "nowhere"},
    ]
)


def rules(key: str) -> st.SearchStrategy[list[Json]]:
    fields = {key: st.lists(PEERS, max_size=2), "ports": st.lists(POLICY_PORTS, max_size=2)}
    return st.lists(st.fixed_dictionaries({}, optional=fields), max_size=2)


NETWORK_POLICIES = st.fixed_dictionaries(
    {
        "kind": st.just("NetworkPolicy"),
        "namespace": st.sampled_from(sorted(NAMESPACES)),
        "spec": st.fixed_dictionaries(
            {"podSelector": SELECTORS},
            optional={
                "policyTypes": st.sampled_from([[], ["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
                "ingress": rules("from"),
                "egress": rules("to"),
            },
        ),
    }
)

CHOICES = st.one_of(
    st.fixed_dictionaries({"namespaces": SELECTORS}),
    st.fixed_dictionaries({"pods": st.fixed_dictionaries({"namespaceSelector": SELECTORS, "podSelector": SELECTORS})}),
)
ACTIONS = st.sampled_from(["Accept", "Deny", "Pass"])
NUMBERED = st.sampled_from(
    [
        {"tcp": {"destinationPort": {"number": 80}}},
        {"udp": {"destinationPort": {"number": 53}}},
        {"tcp": {"destinationPort": {"range": {"start": 80, "end": 8080}}}},
        {"sctp": {"destinationPort": {"number": 80}}},
    ]
)
NAMED = st.sampled_from([{"destinationNamedPort": "web"}, {"destinationNamedPort": "dns"}])
OUTER_PEERS = st.one_of(
    st.fixed_dictionaries(
        {
            "networks": st.lists(
                st.sampled_from(["0.0.0.0/0", "10.244.0.0/24", "198.51.100.0/24"]), min_size=1, max_size=1
            )
        }
    ),
    st.fixed_dictionaries({"nodes": st.sampled_from([{}, {"matchLabels": {"kubernetes.io/hostname": "node1"}}])}),
)
INGRESS = st.lists(
    st.fixed_dictionaries(
        {"action": ACTIONS, "from": st.lists(CHOICES, min_size=1, max_size=2)},
        optional={"protocols": st.lists(NUMBERED | NAMED, min_size=1, max_size=2)},
    ),
    max_size=3,
)
EGRESS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"action": ACTIONS, "to": st.lists(CHOICES, min_size=1, max_size=2)},
            optional={"protocols": st.lists(NUMBERED | NAMED, min_size=1, max_size=2)},
        ),
        st.fixed_dictionaries(
            {"action": ACTIONS, "to": st.lists(CHOICES | OUTER_PEERS, min_size=1, max_size=2)},
            optional={"protocols": st.lists(NUMBERED, min_size=1, max_size=2)},
        ),
    ),
    max_size=3,
)
ADMIN_POLICIES = st.fixed_dictionaries(
    {
        "kind": st.just("ClusterNetworkPolicy"),
        "spec": st.fixed_dictionaries(
            {
                "tier": st.sampled_from(["Admin", "Baseline"]),
                "priority": st.integers(0, 3),
                "subject": CHOICES,
                "ingress": INGRESS,
                "egress": EGRESS,
            }
        ),
    }
)

API_VERSIONS = {
    "NetworkPolicy": "networking.k8s.io/v1",
    "ClusterNetworkPolicy": "policy.networking.k8s.io/v1alpha2",
}


def pod(namespace: str, name: str) -> Json:
    ports = [{"name": n, "protocol": protocol, "containerPort": port} for n, protocol, port in PORTS[namespace, name]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": PODS[namespace, name]},
        "spec": {
            "nodeName": "node2" if namespace == "y" else "node1",
            "containers": [{"name": "c", "image": "x", "ports": ports}],
        },
    }


def manifests(drawn: list[Json]) -> list[Json]:
    """The policies as documents; their names are their places."""
    documents = []
    for number, each in enumerate(drawn):
        metadata = {"name": f"p{number}"} | ({"namespace": each["namespace"]} if "namespace" in each else {})
        kind = each["kind"]
        documents.append({"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": each["spec"]})
    return documents


def build(policies: list[Json]) -> Cluster:
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        for name, labels in NAMESPACES.items()
    ]
    items = [*spaces, *(pod(*key) for key in PODS), *policies]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    return resolve(load_text(text.encode(), "generated.json"), Overrides(nodes=2))


def ends(cluster: Cluster) -> list[tuple[Any, End]]:
    """Every pod, the nodes and somebody outside, as the oracle and as the naive reading know them."""
    labels = {node.name: tuple(node.labels.items()) for node in cluster.nodes}
    found: list[tuple[Any, End]] = []
    for each in cluster.pods:
        key = each.namespace, each.name
        space = tuple((NAMESPACES[each.namespace] | {"kubernetes.io/metadata.name": each.namespace}).items())
        end = End(str(each.ips[0]), each.namespace, space, tuple(PODS[key].items()), tuple(PORTS[key]), each.node)
        found.append((pod_party(each, 4), end))
    for node in cluster.nodes:
        end = End(str(node.addresses[0]), node=node.name, node_labels=labels[node.name])
        found.append((node_party(node, 4), end))
    outside = address_owners(cluster).party(ip_address(OUTSIDE))
    return [*found, (outside, End(OUTSIDE))]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.lists(NETWORK_POLICIES | ADMIN_POLICIES, min_size=1, max_size=4))
def test_two_readings_agree(drawn: list[Json]) -> None:
    policies = manifests(drawn)
    cluster = build(policies)
    read, everybody = read_policies(cluster), ends(cluster)
    for source, naive_source in everybody:
        for destination, naive_destination in everybody:
            for protocol, port in FLOWS:
                verdict = judge(read, source, destination, protocol, port)
                expected = allowed(policies, naive_source, naive_destination, protocol, port)
                assert verdict.allowed == expected, (naive_source, naive_destination, protocol, port, reason(verdict))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.lists(NETWORK_POLICIES | ADMIN_POLICIES, min_size=1, max_size=4))
def test_steps_lead_to_the_verdict(drawn: list[Json]) -> None:
    """The last step of each end says what that end says, and the one line is never empty."""
    cluster = build(manifests(drawn))
    policies, everybody = read_policies(cluster), [party for party, _ in ends(cluster)]
    for source in everybody:
        for destination in everybody:
            verdict = judge(policies, source, destination, "TCP", 80)
            told = steps(policies, verdict)
            for ruling in verdict.rulings:
                last = [step for step in told if step.direction == ruling.direction][-1]
                assert last.text.endswith("allowed" if ruling.allowed else "denied"), last
            assert reason(verdict)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(st.lists(NETWORK_POLICIES | ADMIN_POLICIES, min_size=1, max_size=5))
def test_checks_promise_what_policies_say(drawn: list[Json]) -> None:
    """Of whatever policies: each check of a policy is as the naive reading has it, and lint finds words."""
    policies = manifests(drawn)
    cluster = build(policies)
    by_name = {
        end.namespace + "/" + each.name: end for each, (_, end) in zip(cluster.pods, ends(cluster), strict=False)
    }
    for check in derive(cluster):
        if check.type in ("policy-allowed", "policy-denied"):
            source = by_name[check.flow.sender.name]
            destination = by_name.get(check.flow.destination.name, End(OUTSIDE))
            protocol = "TCP" if check.flow.protocol == "HTTP" else check.flow.protocol
            expected = allowed(policies, source, destination, protocol, check.flow.port)
            assert check.expected == ("ok" if expected else "timeout"), check
    assert all(len(text) > 20 for text in lint(cluster))
