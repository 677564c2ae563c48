"""`get` prints what kubectl prints for the same objects: tests/report/kubectl/KIND.txt, one section a way to ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.cluster.status import KINDS, render
from k8snetlab.manifests.load import load_text
from k8snetlab.report.kubectl import CLUSTER_SCOPED, SINGULAR, human_age, names, plural, table

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    readiness = {"shop/db-1": False}
    return resolve(load_text((HERE / "sample.yaml").read_bytes(), "sample.yaml"), Overrides(), None, readiness)


def sections(kind: str, cluster: Cluster) -> Mapping[str, str]:
    """By the options that would print it."""
    objects = render(cluster, kind)
    return {
        "-A": table(kind, objects, age_seconds=754, all_namespaces=True),
        "-n shop -o wide": table(kind, render(cluster, kind, "shop"), age_seconds=0, wide=True),
        "-n default -o wide": table(kind, render(cluster, kind, "default"), age_seconds=0, wide=True),
        "-n shop --show-labels": table(kind, render(cluster, kind, "shop"), age_seconds=90, show_labels=True),
        "-A -o name": "\n".join(names(kind, objects)),
    }


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_golden(kind: str, cluster: Cluster) -> None:
    found = "".join(f"# kubectl get {kind} {how}\n{text}\n\n" for how, text in sections(kind, cluster).items())
    assert found == (HERE / "kubectl" / f"{kind}.txt").read_text()


def test_every_kind_has_columns_and_a_name() -> None:
    assert set(KINDS) == set(SINGULAR)
    assert set(CLUSTER_SCOPED) <= set(KINDS)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        pytest.param("po", "pods", id="short name"),
        pytest.param("Pod", "pods", id="as in a manifest"),
        pytest.param("PODS", "pods", id="plural, upper case"),
        pytest.param("deployments.apps", "deployments", id="with its group"),
        pytest.param("deployment.v1.apps", "deployments", id="with its version and group"),
        pytest.param("ing", "ingresses", id="ing"),
        pytest.param("ingressclass", "ingressclasses", id="ingressclass"),
        pytest.param("ep", "endpoints", id="ep"),
        pytest.param("endpoints", "endpoints", id="a plural that is its singular"),
        pytest.param("netpol", "networkpolicies", id="netpol"),
        pytest.param("secrets", None, id="a kind that the lab does not have"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_plural(word: str, kind: str | None) -> None:
    assert plural(word) == kind


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_found_by_either_number(kind: str) -> None:
    assert plural(kind) == plural(SINGULAR[kind]) == kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (599, "9m59s"), (600, "10m"), (10_799, "179m"),
        (10_800, "3h"), (12_600, "3h30m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (190_800, "2d5h"),
        (691_199, "7d23h"), (691_200, "8d"), (777_600, "9d"),
    ],
)  # fmt: skip
def test_age(seconds: int, text: str) -> None:
    """Values from apimachinery's own duration_test.go, where it has them."""
    assert human_age(seconds) == text


def test_no_line_ends_in_blanks(cluster: Cluster) -> None:
    for kind in KINDS:
        for text in sections(kind, cluster).values():
            assert all(line == line.rstrip() for line in text.splitlines())


def test_an_empty_list_is_its_header(cluster: Cluster) -> None:
    assert table("pods", [], age_seconds=0) == "NAME   READY   STATUS   RESTARTS   AGE"
