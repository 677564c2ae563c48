from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]
Yaml = Callable[..., str]

NODES = """
apiVersion: k8snetlab.dev/v1
kind: Lab
metadata: {name: zoned}
spec:
  nodes:
  - {name: a1, labels: {topology.kubernetes.io/zone: a, cores: "4"}}
  - name: a2
    labels: {topology.kubernetes.io/zone: a, cores: "16"}
    taints: [{key: gpu, value: "yes", effect: NoSchedule}]
  - {name: b1, labels: {topology.kubernetes.io/zone: b}}
"""


def affinity(kind: str, term: str) -> str:
    return f"affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: {term}}}}}, "


def expressions(text: str) -> str:
    return affinity("nodeAffinity", f"{{nodeSelectorTerms: [{{matchExpressions: [{text}]}}]}}")


def apart(key: str = "kubernetes.io/hostname") -> str:
    return affinity("podAntiAffinity", f"[{{topologyKey: {key}, labelSelector: {{matchLabels: {{app: web}}}}}}]")


def spread(key: str, when: str = "DoNotSchedule") -> str:
    return (
        f"topologySpreadConstraints: [{{maxSkew: 1, topologyKey: {key}, whenUnsatisfiable: {when}, "
        "labelSelector: {matchLabels: {app: web}}}], "
    )


TOLERATED = "tolerations: [{key: gpu, operator: Exists}], "


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        pytest.param("", {"a1", "b1"}, id="taint"),
        pytest.param(TOLERATED, {"a1", "a2", "b1"}, id="tolerated-by-key"),
        pytest.param("tolerations: [{operator: Exists}], ", {"a1", "a2", "b1"}, id="tolerated-all"),
        pytest.param("tolerations: [{key: gpu, value: 'yes'}], ", {"a1", "a2", "b1"}, id="tolerated-by-value"),
        pytest.param("tolerations: [{key: gpu, value: 'no'}], ", {"a1", "b1"}, id="other-value"),
        pytest.param("tolerations: [{key: gpu, operator: Exists, effect: NoExecute}], ", {"a1", "b1"}, id="effect"),
        pytest.param("nodeSelector: {topology.kubernetes.io/zone: a}, ", {"a1"}, id="node-selector"),
        pytest.param("nodeName: a2, ", {"a2"}, id="node-name-ignores-taints"),
        pytest.param(expressions("{key: cores, operator: Exists}"), {"a1"}, id="exists"),
        pytest.param(expressions("{key: cores, operator: DoesNotExist}"), {"b1"}, id="does-not-exist"),
        pytest.param(expressions("{key: cores, operator: In, values: ['4', '5']}"), {"a1"}, id="in"),
        pytest.param(expressions("{key: cores, operator: NotIn, values: ['4']}"), {"b1"}, id="not-in-without-key"),
        pytest.param(TOLERATED + expressions("{key: cores, operator: Gt, values: ['9']}"), {"a2"}, id="gt"),
        pytest.param(TOLERATED + expressions("{key: cores, operator: Lt, values: ['9']}"), {"a1"}, id="lt"),
        pytest.param(
            affinity(
                "nodeAffinity",
                "{nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b1]}]}]}",
            ),
            {"b1"},
            id="match-fields",
        ),
        pytest.param(apart(), {"a1", "b1"}, id="pod-anti-affinity"),
    ],
)
def test_where_pods_may_go(build: Build, workload: Yaml, spec: str, allowed: set[str]) -> None:
    replicas = 2 if "podAntiAffinity" in spec else 6
    assert {pod.node for pod in build(NODES + workload("web", replicas, spec=spec)).pods} == allowed


@pytest.mark.parametrize(
    ("replicas", "spec", "message"),
    [
        pytest.param(
            3,
            apart(),
            "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, "
            "2 node(s) didn't match pod anti-affinity rules.",
            id="anti-affinity",
        ),
        pytest.param(
            3,
            TOLERATED + apart("topology.kubernetes.io/zone"),
            "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules.",
            id="anti-affinity-by-zone",
        ),
        pytest.param(
            1,
            "nodeSelector: {disk: ssd}, ",
            "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, "
            "2 node(s) didn't match Pod's node affinity/selector.",
            id="selector",
        ),
        pytest.param(1, "nodeName: nowhere, ", "there is no node 'nowhere' in the lab; it has a1, a2, b1", id="name"),
        pytest.param(
            1,
            affinity("podAffinity", "[{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: db}}}]"),
            "2 node(s) didn't match pod affinity rules",
            id="affinity",
        ),
        pytest.param(
            1,
            spread("rack"),
            "2 node(s) didn't match pod topology spread constraints (missing required label)",
            id="spread-key",
        ),
    ],
)
def test_no_node_fits(
    problems: Callable[..., list[str]], workload: Yaml, replicas: int, spec: str, message: str
) -> None:
    (found,) = problems(NODES + workload("web", replicas, spec=spec))
    assert "Deployment default/web" in found
    assert message in found


def test_even_spread_of_each_owner_and_of_all(build: Build, workload: Yaml) -> None:
    cluster = build(workload("web", 7) + workload("api", 3) + workload("db", 2, kind="StatefulSet"), nodes=3)
    assert sorted(Counter(pod.node for pod in cluster.pods).values()) == [4, 4, 4]
    assert sorted(Counter(pod.node for pod in cluster.pods if pod.labels["app"] == "web").values()) == [2, 2, 3]


def test_the_second_half_of_anti_affinity_keeps_others_away(build: Build, workload: Yaml) -> None:
    """A pod without rules of its own must not join one that repels it."""
    loner = workload("loner", spec=apart())
    cluster = build(loner + workload("web", 4), nodes=2)
    nodes = {pod.labels["app"]: pod.node for pod in cluster.pods}
    assert nodes["loner"] != nodes["web"]
    assert len({pod.node for pod in cluster.pods if pod.labels["app"] == "web"}) == 1


def test_pods_that_want_to_be_together_start_anywhere_and_stay_together(build: Build, workload: Yaml) -> None:
    spec = affinity("podAffinity", "[{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: web}}}]")
    assert len({pod.node for pod in build(workload("web", 5, spec=spec)).pods}) == 1


@pytest.mark.parametrize(
    ("namespaces", "together"),
    [
        pytest.param("", False, id="own-namespace-only"),
        pytest.param("namespaces: [other], ", True, id="named"),
        pytest.param("namespaceSelector: {}, ", True, id="all"),
        pytest.param("namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: other}}, ", True, id="selected"),
    ],
)
def test_the_namespaces_of_an_affinity_term(build: Build, workload: Yaml, namespaces: str, together: bool) -> None:
    term = f"[{{{namespaces}topologyKey: kubernetes.io/hostname, labelSelector: {{matchLabels: {{app: db}}}}}}]"
    text = workload("db", spec="nodeName: node3, ", namespace="other") + workload(
        "web", spec=affinity("podAntiAffinity", term), namespace="shop"
    )
    crowd = "".join(workload(f"x{node}", 1, spec=f"nodeName: node{node}, ") for node in (1, 2))
    nodes = {pod.labels["app"]: pod.node for pod in build(text + crowd + crowd.replace("x", "y"), nodes=3).pods}
    assert (nodes["web"] != "node3") is together


def test_spread_over_zones(build: Build, workload: Yaml) -> None:
    pods = build(NODES + workload("web", 4, spec=TOLERATED + spread("topology.kubernetes.io/zone"))).pods
    assert sorted(Counter(pod.node[0] for pod in pods).values()) == [2, 2]


def test_preferred_terms_break_ties(build: Build, workload: Yaml) -> None:
    preferred = (
        "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: "
        "{matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [b]}]}}]}}, "
    )
    assert [pod.node for pod in build(NODES + workload("web", spec=preferred)).pods] == ["b1"]


@pytest.mark.parametrize(
    ("spec", "nodes"),
    [
        pytest.param("", ["a1", "b1"], id="taint"),
        pytest.param(TOLERATED, ["a1", "a2", "b1"], id="tolerated"),
        pytest.param("nodeSelector: {topology.kubernetes.io/zone: b}, ", ["b1"], id="selector"),
    ],
)
def test_a_daemon_set_has_one_pod_on_each_eligible_node(
    build: Build, workload: Yaml, spec: str, nodes: list[str]
) -> None:
    assert sorted(pod.node for pod in build(NODES + workload("agent", kind="DaemonSet", spec=spec)).pods) == nodes


def test_unschedulable_nodes_take_daemons_only(build: Build, workload: Yaml) -> None:
    node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: NAME}\nspec: {unschedulable: CORDON}\n"
    nodes = node.replace("NAME", "n1").replace("CORDON", "true") + node.replace("NAME", "n2").replace("CORDON", "false")
    cluster = build(nodes + workload("web", 3) + workload("agent", kind="DaemonSet"))
    assert {pod.node for pod in cluster.pods if pod.labels["app"] == "web"} == {"n2"}
    assert {pod.node for pod in cluster.pods if pod.labels["app"] == "agent"} == {"n1", "n2"}


PORT = ", ports: [{containerPort: 80, hostPort: 8080%s}]"


def test_host_ports_send_replicas_to_different_nodes(build: Build, workload: Yaml) -> None:
    pods = build(workload("web", 3, container=PORT % ""), nodes=3).pods
    assert {pod.node for pod in pods} == {"node1", "node2", "node3"}


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        pytest.param("", "", True, id="same"),
        pytest.param(", protocol: TCP", ", protocol: UDP", False, id="protocols"),
        pytest.param(", hostIP: 127.0.0.1", ", hostIP: 172.18.0.2", False, id="addresses"),
        pytest.param(", hostIP: 127.0.0.1", "", True, id="one-and-all"),
        pytest.param(", hostIP: 127.0.0.1", ", hostIP: 0.0.0.0", True, id="one-and-unspecified"),
    ],
)
def test_host_ports_on_one_node(
    build: Build, problems: Callable[..., list[str]], workload: Yaml, first: str, second: str, clash: bool
) -> None:
    texts = [
        workload(name, spec="nodeName: node1, ", container=PORT % more)
        for name, more in (("one", first), ("two", second))
    ]
    if clash:
        (found,) = problems("".join(texts))
        assert "hostPort 8080/TCP of node1 is already taken by pod default/one-" in found
    else:
        assert len(build("".join(texts)).pods) == 2


def test_pods_stay_when_others_come_and_their_constraints_only_tighten(build: Build, workload: Yaml) -> None:
    before = build(workload("web", 2), nodes=2)
    after = build(workload("aaa", 3) + workload("web", 2), nodes=3, previous=before)
    assert [after.pod(pod.key) for pod in before.pods] == [
        # only the line in the file differs
        *(pod for pod in after.pods if pod.labels["app"] == "web"),
    ]
    assert [(pod.node, pod.ips) for pod in before.pods] == [
        (pod.node, pod.ips) for pod in after.pods if pod.labels["app"] == "web"
    ]


@pytest.mark.parametrize(
    ("effect", "stays"),
    [pytest.param("NoSchedule", True, id="schedule"), pytest.param("NoExecute", False, id="execute")],
)
def test_only_a_no_execute_taint_drives_running_pods_away(
    build: Build, workload: Yaml, effect: str, stays: bool
) -> None:
    lab = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nmetadata: {name: l}\nspec: {nodes: [{name: a%s}, {name: b}]}\n"
    before = build(lab % "" + workload("web", 2))
    after = build(lab % f", taints: [{{key: k, effect: {effect}}}]" + workload("web", 2), previous=before)
    assert ("a" in {pod.node for pod in after.pods}) is stays
