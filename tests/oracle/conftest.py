"""Clusters for the oracle: manifests as text in, a resolved cluster out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.load import load, load_text

SCENARIOS = Path(__file__).parents[2] / "scenarios"
Build = Callable[..., Cluster]


@pytest.fixture(name="build", scope="session")
def build_fixture() -> Build:
    """`build(yaml, nodes=…)`: the keywords are command line options; `with_addons` adds the cluster's own DNS."""

    def build(text: str, *, with_addons: bool = False, **options: Any) -> Cluster:
        manifests = load_text(dedent(text).encode(), "t.yaml")
        return resolve(manifests, Overrides(**options), with_addons=with_addons)

    return build


@pytest.fixture(scope="session")
def shop() -> Cluster:
    with Path("/dev/null").open("rb") as nothing:
        return resolve(load([str(SCENARIOS / "shop")], nothing), Overrides())
