"""A plan made from the old one holds what a new plan of the whole holds, or is not made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.edit import label, merge, scale
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.rebuild import rebuild

MODES = [
    "kubeProxyMode: iptables",
    "kubeProxyMode: nftables",
    "kubeProxyMode: nftables, nftablesLayout: flat",
    "kubeProxyMode: ipvs",
]
DEPLOYMENT = """
    ---
    apiVersion: apps/v1
    kind: StatefulSet
    metadata: {name: NAME}
    spec:
      serviceName: NAME
      replicas: 2
      selector: {matchLabels: {app: NAME}}
      template:
        metadata: {labels: {app: NAME, tier: all}}
        spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}, {containerPort: 53, protocol: UDP}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: NAME}
    spec:
      type: LoadBalancer
      externalTrafficPolicy: Local
      selector: {app: NAME}
      ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 53, protocol: UDP}]
    """
MANIFESTS = (
    """
    apiVersion: k8snetlab.dev/v1
    kind: Lab
    spec: {nodes: 2, MODE}
    """
    + "".join(DEPLOYMENT.replace("NAME", name) for name in ("one", "two", "three"))
    + """
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: all}
    spec: {selector: {tier: all}, ports: [{port: 80, targetPort: 8080}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: all-published}
    spec: {publishNotReadyAddresses: true, type: NodePort, selector: {tier: all}, ports: [{port: 80, targetPort: 8080}]}
    """
)


def manifests_of(mode: str) -> Manifests:
    return load_text(dedent(MANIFESTS).replace("MODE", mode).encode(), "t.yaml")


def resolved(manifests: Manifests, previous: Cluster | None, readiness: Mapping[str, bool]) -> Cluster:
    return resolve(manifests, Overrides(), previous, readiness, with_addons=True)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(("scale", "ready")), st.sampled_from(("one", "two", "three")), st.integers(0, 4)),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_the_same_objects_as_a_new_plan(mode: str, changes: list[tuple[str, str, int]]) -> None:
    manifests, readiness = manifests_of(mode), dict[str, bool]()
    cluster = resolved(manifests, None, readiness)
    plan = build(cluster)
    for kind, name, number in changes:
        was = manifests
        if kind == "scale":
            manifests = scale(manifests, ("StatefulSet", "default", name), number)
        else:
            pod = f"default/{name}-{number}"
            readiness[pod] = not readiness.get(pod, True)
        after = resolved(manifests, cluster, readiness)
        assert (
            resolve(manifests, Overrides(), cluster, readiness, was, with_addons=True) == after
        )  # Services that nobody touched are kept
        whole = build(after)
        found = rebuild(cluster, plan, after)
        if found is not None:
            assert set(found.objects) == set(whole.objects)
            assert len(found.objects) == len(whole.objects)
        cluster, plan = after, found or whole


@pytest.mark.parametrize("mode", MODES)
def test_scaling_and_readiness_need_no_new_plan(mode: str) -> None:
    manifests = scale(manifests_of(mode), ("StatefulSet", "default", "three"), 4)  # two on each node
    before = resolved(manifests, None, {})
    more = resolved(scale(manifests, ("StatefulSet", "default", "two"), 3), before, {})
    assert rebuild(before, build(before), more) is not None
    unready = resolved(manifests, before, {"default/three-1": False})
    assert rebuild(before, build(before), unready) is not None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: scale(m, ("StatefulSet", "default", "one"), 0), id="a Service loses its last endpoint"),
        pytest.param(lambda m: label(m, ("Service", "default", "one"), {"x": "y"}), id="a Service is labelled"),
        pytest.param(
            lambda m: merge(m, load_text(b"apiVersion: v1\nkind: Namespace\nmetadata: {name: new}\n", "u.yaml")),
            id="a namespace comes",
        ),
    ],
)
def test_what_others_share_is_planned_anew(change: Callable[[Manifests], Manifests]) -> None:
    manifests = manifests_of("kubeProxyMode: iptables")
    before = resolved(manifests, None, {})
    assert rebuild(before, build(before), resolved(change(manifests), before, {})) is None


def test_a_plan_that_is_not_of_the_cluster_is_not_used() -> None:
    manifests = manifests_of("kubeProxyMode: iptables")
    before = resolved(manifests, None, {})
    after = resolved(scale(manifests, ("StatefulSet", "default", "two"), 1), before, {})
    plan = build(before)
    assert rebuild(before, replace(plan, objects=plan.objects[: len(plan.objects) // 2]), after) is None
