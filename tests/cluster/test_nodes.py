from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]

LAB = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {{name: shop}}\nspec: {{{}}}\n"
NODE = "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{zone: {zone}}}}}\nspec: {{{spec}}}\n"


def test_default_nodes(build: Build) -> None:
    nodes = build("", nodes=2).nodes
    assert [(node.name, node.index, str(node.addresses[0]), str(node.pod_cidrs[0])) for node in nodes] == [
        ("node1", 1, "172.18.0.2", "10.244.0.0/24"),
        ("node2", 2, "172.18.0.3", "10.244.1.0/24"),
    ]
    assert nodes[0].labels["kubernetes.io/hostname"] == "node1"


def test_dual_stack_addresses_have_the_same_offset(build: Build) -> None:
    node = build("", nodes=3, ip_family="dual").nodes[2]
    assert [str(ip) for ip in node.addresses] == ["172.18.0.4", "fd00:172:18::4"]
    assert [str(cidr) for cidr in node.pod_cidrs] == ["10.244.2.0/24", "fd00:10:244:2::/64"]


@pytest.mark.parametrize(
    ("text", "nodes", "expected"),
    [
        pytest.param(
            NODE.format(name="b", zone="z", spec="") + NODE.format(name="a", zone="z", spec=""),
            None,
            ["b", "a"],
            id="documents-are-the-nodes",
        ),
        pytest.param(NODE.format(name="a", zone="z", spec=""), 3, ["a", "node1", "node2"], id="count-fills-up"),
        pytest.param(LAB.format("nodes: [{name: x}, {name: y}, {name: z}]"), 2, ["x", "y"], id="count-shortens"),
    ],
)
def test_which_nodes(build: Build, text: str, nodes: int | None, expected: list[str]) -> None:
    assert [node.name for node in build(text, nodes=nodes).nodes] == expected


def test_a_node_document_is_merged_into_the_labs_list(build: Build) -> None:
    lab = LAB.format("nodes: [{name: x, labels: {a: b}, taints: [{key: k, effect: NoSchedule}]}]")
    node = build(lab + NODE.format(name="x", zone="z1", spec="taints: [{key: k, value: v, effect: NoSchedule}]")).nodes[
        0
    ]
    assert {"a": "b", "zone": "z1"}.items() <= node.labels.items()
    assert [(taint.key, taint.value) for taint in node.taints] == [("k", "v")]


def test_indexes_survive_when_others_come_and_go(build: Build) -> None:
    three = build(LAB.format("nodes: [{name: a}, {name: b}, {name: c}]"))
    after = build(LAB.format("nodes: [{name: new}, {name: c}]"), previous=three)
    assert [(node.name, node.index) for node in after.nodes] == [("new", 1), ("c", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(LAB.format("nodes: [{name: router}]"), "belongs to the lab's own network", id="world"),
        pytest.param(
            LAB.format("nodes: [{name: a}]") + NODE.format(name="b", zone="z", spec=""), "not among them", id="unlisted"
        ),
        pytest.param(
            LAB.format("nodes: [{name: a, podCIDRs: [10.9.0.0/24]}]"), "not inside the lab's pod subnet", id="outside"
        ),
        pytest.param(
            LAB.format("nodes: [{name: a, podCIDRs: [10.244.1.0/25]}, {name: b}]"),
            "10.244.1.0/25 of node a",
            id="overlap",
        ),
        pytest.param(LAB.format("nodes: 3, podSubnet: 10.9.0.0/23"), "has no /24 left for node number 3", id="full"),
        pytest.param(
            LAB.format("nodes: 6, nodeSubnet: 10.9.0.0/29"), "has no address left for node number", id="nodes"
        ),
    ],
)
def test_refused(problems: Callable[..., list[str]], text: str, message: str) -> None:
    assert any(message in found for found in problems(text))
