"""Manifests as text in, a cluster out: the way every test of this room begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.errors import ClusterError
from k8snetlab.manifests.load import load_text

Build = Callable[..., Cluster]


@pytest.fixture(name="build")
def build_fixture() -> Build:
    """`build(yaml, previous=…, readiness=…, with_addons=…, nodes=…)`: other keywords are command line options."""

    def build(
        text: str,
        previous: Cluster | None = None,
        readiness: Mapping[str, bool] | None = None,
        *,
        with_addons: bool = False,
        **options: Any,
    ) -> Cluster:
        manifests = load_text(dedent(text).encode(), "t.yaml")
        return resolve(manifests, Overrides(**options), previous, readiness or {}, with_addons=with_addons)

    return build


@pytest.fixture(name="problems")
def problems_fixture(build: Build) -> Callable[..., list[str]]:
    """The messages with which `build` refuses."""

    def problems(text: str, **options: Any) -> list[str]:
        with pytest.raises(ClusterError) as raised:
            build(text, **options)
        return [str(problem) for problem in raised.value.problems]

    return problems


@pytest.fixture(name="workload")
def workload_fixture() -> Callable[..., str]:
    """YAML of a Deployment (or another kind) whose pods are labelled `app: NAME`; `spec` is merged into the pod's."""

    def workload(
        name: str,
        replicas: int = 1,
        *,
        kind: str = "Deployment",
        namespace: str = "default",
        spec: str = "",
        extra: str = "",
        container: str = "",
    ) -> str:
        counted = f"replicas: {replicas}, " if kind in ("Deployment", "ReplicaSet", "StatefulSet") else ""
        selector = "" if kind == "Job" else f"selector: {{matchLabels: {{app: {name}}}}}, "
        version = "batch/v1" if kind == "Job" else "apps/v1"
        return (
            f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
            f"spec: {{{counted}{selector}{extra}template: {{metadata: {{labels: {{app: {name}}}}}, "
            f"spec: {{{spec}containers: [{{name: c, image: x{container}}}]}}}}}}\n"
        )

    return workload


@pytest.fixture(name="service")
def service_fixture() -> Callable[..., str]:
    """YAML of a Service that selects `app: NAME` unless told otherwise; `spec` is merged into its spec."""

    def service(
        name: str,
        spec: str = "",
        *,
        namespace: str = "default",
        selector: bool = True,
        ports: str = "[{port: 80}]",
        metadata: str = "",
    ) -> str:
        chosen = f"selector: {{app: {name}}}, " if selector else ""
        return (
            f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}{metadata}}}\n"
            f"spec: {{{chosen}{spec}ports: {ports}}}\n"
        )

    return service
