from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.errors import ClusterError
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.load import load_text

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


@pytest.fixture(name="shop")
def shop_fixture(workload: Yaml, service: Yaml) -> str:
    names = ("web", "api", "cart", "db")
    return "".join(workload(name, count) for name, count in zip(names, (5, 3, 2, 4), strict=True)) + "".join(
        service(name, "type: NodePort, ") for name in names
    )


def test_the_same_input_is_the_same_cluster(build: Build, shop: str) -> None:
    assert build(shop) == build(shop)


def test_a_second_time_changes_nothing(build: Build, shop: str) -> None:
    once = build(shop)
    assert build(shop, previous=once) == once


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_documents_does_not_matter(shop: str, seed: int) -> None:
    documents = list(load_text(shop.encode(), "t.yaml").documents)
    expected = resolve(Manifests(tuple(documents)))
    Random(seed).shuffle(documents)
    assert resolve(Manifests(tuple(documents))) == expected


def test_namespaces_exist_when_something_lives_in_them(build: Build, workload: Yaml) -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n" + workload("x", namespace="y")
    assert build(text).namespaces == {
        "default": {"kubernetes.io/metadata.name": "default"},
        "shop": {"kubernetes.io/metadata.name": "shop", "team": "a"},
        "y": {"kubernetes.io/metadata.name": "y"},
    }


def test_every_problem_at_once_in_the_order_of_the_file(workload: Yaml, service: Yaml) -> None:
    text = (
        service("far", "clusterIP: 192.0.2.1, ")
        + workload("lost", spec="nodeName: nowhere, ")
        + service("high", "type: NodePort, ", ports="[{port: 80, nodePort: 40000}]")
    )
    with pytest.raises(ClusterError) as raised:
        resolve(load_text(text.encode(), "t.yaml"))
    assert raised.value.exit_code == 2
    assert [problem.subject for problem in raised.value.problems] == [
        "Service default/far",
        "Deployment default/lost",
        "Service default/high",
    ]
    assert [problem.source.line for problem in raised.value.problems] == [2, 7, 12]


def test_pods_and_services_are_in_order(build: Build, workload: Yaml, service: Yaml) -> None:
    text = "".join(workload(n, 2, namespace=s) + service(n, namespace=s) for s in ("b", "a") for n in ("y", "x"))
    cluster = build(text)
    assert [service.key for service in cluster.services] == ["a/x", "a/y", "b/x", "b/y"]
    assert [(pod.namespace, pod.name) for pod in cluster.pods] == sorted((p.namespace, p.name) for p in cluster.pods)
