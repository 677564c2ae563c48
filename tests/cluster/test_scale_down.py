"""Which pods go when a ReplicaSet is scaled down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster, Pod
from k8snetlab.cluster.scale_down import DELETION_COST, deletion_cost, survivors
from k8snetlab.manifests.api.core import Container, PodSpec

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


def pod(ordinal: int, node: str = "", cost: str = "", **more: Any) -> Pod:
    """On a node of its own unless one is named."""
    return Pod(
        namespace="default",
        name=f"web-{ordinal}",
        node=node or f"node{ordinal}",
        ips=(),
        slot=2,
        labels={},
        annotations={DELETION_COST: cost} if cost else {},
        spec=PodSpec(containers=(Container(name="c", image="x"),)),
        ordinal=ordinal,
        **more,
    )


@pytest.mark.parametrize(
    ("pods", "wanted", "kept"),
    [
        pytest.param([pod(0), pod(1), pod(2)], 3, [0, 1, 2], id="as many"),
        pytest.param([pod(0), pod(1)], 5, [0, 1], id="fewer"),
        pytest.param([pod(2), pod(0), pod(1)], 0, [], id="none"),
        pytest.param([pod(2), pod(0), pod(1)], 2, [0, 1], id="the newest goes"),
        pytest.param([pod(0, ready=False), pod(1), pod(2)], 2, [1, 2], id="the unready one goes"),
        pytest.param([pod(0, phase="Pending"), pod(1, ready=False), pod(2)], 2, [1, 2], id="phase before readiness"),
        pytest.param([pod(0, cost="-5"), pod(1), pod(2)], 2, [1, 2], id="the cheap one goes"),
        pytest.param([pod(0), pod(1), pod(2, cost="7")], 2, [0, 2], id="the dear one stays"),
        pytest.param([pod(0, ready=False, cost="9"), pod(1)], 1, [1], id="readiness before cost"),
        pytest.param([pod(0, "a"), pod(1, "a"), pod(2, "b")], 2, [0, 2], id="the doubled up one goes"),
        pytest.param(
            [pod(0, "a"), pod(1, "a"), pod(2, "a"), pod(3, "b"), pod(4, "b")], 3, [0, 3, 4], id="counted once"
        ),
        pytest.param([pod(0, "a", "1"), pod(1, "a", "1"), pod(2, "b")], 2, [0, 1], id="cost before company"),
        pytest.param([pod(0, phase="Succeeded"), pod(1), pod(2)], 2, [1, 2], id="the finished do not count"),
        pytest.param([pod(0, terminating=True), pod(1)], 2, [1], id="nor do those on their way out"),
    ],
)
def test_survivors(pods: list[Pod], wanted: int, kept: list[int]) -> None:
    assert [each.ordinal for each in survivors(pods, wanted)] == kept


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("", 0),
        ("100", 100),
        ("-100", -100),
        ("0", 0),
        ("+1", 0),
        ("01", 0),
        ("-", 0),
        ("1.5", 0),
        ("٣", 0),
        ("2147483647", 2147483647),
        ("2147483648", 0),
        ("-2147483648", -2147483648),
    ],
)
def test_deletion_cost(text: str, cost: int) -> None:
    assert deletion_cost(pod(0, cost=text)) == cost


def test_an_unready_pod_goes_first_and_stays_away(build: Build, workload: Yaml) -> None:
    three = build(workload("web", 3))
    first = next(each for each in three.pods if each.ordinal == 0)
    unready = build(workload("web", 3), previous=three, readiness={first.key: False})
    two = build(workload("web", 2), previous=unready, readiness={first.key: False})
    assert {each.key for each in two.pods} == {each.key for each in three.pods} - {first.key}
    assert build(workload("web", 2), previous=two) == two
    again = build(workload("web", 3), previous=two)
    assert [again.pod(each.key) for each in two.pods] == list(two.pods)
    assert len(again.pods) == 3


def test_what_shares_a_node_goes_first(build: Build, workload: Yaml) -> None:
    lab = "---\napiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {nodes: 2}\n"
    three = build(lab + workload("web", 3))
    crowded = next(node for node in ("node1", "node2") if sum(each.node == node for each in three.pods) == 2)
    two = build(lab + workload("web", 2), previous=three)
    assert {each.node for each in two.pods} == {"node1", "node2"}
    gone = {each.key for each in three.pods} - {each.key for each in two.pods}
    assert [three.pod(key).node for key in gone] == [crowded]  # type: ignore[union-attr]


def test_a_stateful_set_loses_its_highest_ordinal(build: Build, workload: Yaml) -> None:
    three = build(workload("db", 3, kind="StatefulSet"))
    unready = build(workload("db", 3, kind="StatefulSet"), previous=three, readiness={"default/db-0": False})
    two = build(workload("db", 2, kind="StatefulSet"), previous=unready)
    assert [each.name for each in two.pods] == ["db-0", "db-1"]


def test_a_name_that_a_bare_pod_takes_is_not_kept(build: Build, workload: Yaml) -> None:
    one = build(workload("web"))
    name = one.pods[0].name
    bare = (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: x}}]}}\n"
    )
    both = build(workload("web") + bare, previous=one)
    assert len({each.name for each in both.pods}) == 2
    assert replace(both.pods[0], name="") != replace(both.pods[1], name="")
