"""Every small mistake that the mutants stand for, and the connection that shows it."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.oracle.coverage import cover, unmatched
from k8snetlab.oracle.mutants import mutants
from k8snetlab.oracle.witness import witness

Build = Callable[..., Cluster]

PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: x, labels: {team: x}}
---
apiVersion: v1
kind: Namespace
metadata: {name: y, labels: {team: y}}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80, name: http}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: y, labels: {app: b}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: y, labels: {app: c}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
"""

EITHER = """
podSelector: {matchLabels: {app: a}}
ingress:
- from: [{podSelector: {matchLabels: {app: b}}}, {namespaceSelector: {matchLabels: {team: y}}}]
"""


def told(build: Build, spec: str) -> dict[str, str | None]:
    cluster = build(PODS + indent(spec, "  "), nodes=2)
    found = {}
    for mutant in mutants(cluster):
        assert mutant.policy == "x/p"
        assert mutant.source is not None
        shown = witness(cluster, mutant.cluster, mutant.kind, mutant.policy)
        found[f"{mutant.part}: {mutant.change}"] = str(shown) if shown else None
    return found


@pytest.mark.parametrize(
    ("spec", "mutant", "shown"),
    [
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: []",
            "spec: policy dropped",
            "pod/x/b -> pod/x/a TCP 80: now allowed",
            id="policy",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: []",
            "spec.podSelector: selects every pod of the namespace",
            "pod/x/a -> pod/x/b TCP 80: now blocked",
            id="pod selector",
        ),
        pytest.param(
            "podSelector: {}\npolicyTypes: [Ingress, Egress]\ningress: [{}]",
            "spec.policyTypes: Egress removed",
            "pod/x/b -> pod/x/a TCP 80: now allowed",
            id="egress no longer isolated",
        ),
        pytest.param(
            "podSelector: {}\npolicyTypes: [Ingress, Egress]\negress: [{}]",
            "spec.policyTypes: Ingress removed",
            "pod/x/b -> pod/x/a TCP 80: now allowed",
            id="ingress no longer isolated",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\negress: [{to: [{podSelector: {}}]}]",
            "spec.egress[0]: rule dropped",
            "pod/x/a -> pod/x/b TCP 80: now blocked",
            id="the last egress rule goes, the isolation stays",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\n"
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: y}}, podSelector: {matchLabels: {app: b}}}]}]",
            "spec.ingress[0].from[0]: AND split into OR by a dash",
            "pod/x/b -> pod/x/a TCP 80: now allowed",
            id="AND to OR",
        ),
        pytest.param(
            EITHER,
            "spec.ingress[0].from[0] and [1]: OR joined into AND by a missing dash",
            "pod/x/b -> pod/x/a TCP 80: now blocked",
            id="OR to AND",
        ),
        pytest.param(
            EITHER,
            "spec.ingress[0].from[1]: peer dropped",
            "pod/y/b -> pod/x/a TCP 80: now blocked",
            id="peer",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]",
            "spec.ingress[0].from: removed: anybody",
            "pod/y/b -> pod/x/a TCP 80: now allowed",
            id="all peers",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\n"
            "ingress: [{from: [{namespaceSelector: {matchLabels: {team: x}}}]}]",
            "spec.ingress[0].from[0].namespaceSelector: matches every namespace",
            "pod/y/b -> pod/x/a TCP 80: now allowed",
            id="namespace selector",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{from: [{ipBlock: {cidr: 10.244.1.0/24}}]}]",
            "spec.ingress[0].from[0].ipBlock: cidr widened to 10.244.0.0/23",
            "pod/x/b -> pod/x/a TCP 80: now allowed",
            id="cidr",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\n"
            "ingress: [{from: [{ipBlock: {cidr: 10.244.0.0/16, except: [10.244.1.3/32]}}]}]",
            "spec.ingress[0].from[0].ipBlock: except 10.244.1.3/32 dropped",
            "pod/y/c -> pod/x/a TCP 80: now allowed",
            id="except",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{ports: [{port: 80}]}]",
            "spec.ingress[0].ports[0]: port changed to 81",
            "pod/x/b -> pod/x/a TCP 80: now blocked",
            id="port",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{ports: [{port: 80}]}]",
            "spec.ingress[0].ports: removed: any port",
            "pod/x/b -> pod/x/a UDP 80: now allowed",
            id="ports",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{ports: [{port: http}]}]",
            "spec.ingress[0].ports[0]: TCP changed to UDP",
            "pod/x/b -> pod/x/a TCP 80: now blocked",
            id="protocol of a named port",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{ports: [{port: 80, endPort: 90}]}]",
            "spec.ingress[0].ports[0]: endPort dropped",
            "pod/x/b -> pod/x/a TCP 90: now blocked",
            id="endPort",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]",
            "spec.ingress[0].from[0].ipBlock: cidr widened to 192.0.2.0/23",
            None,
            id="nobody here can tell",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: a}}\ningress: [{from: [{ipBlock: {cidr: 203.0.113.128/25}}]}]",
            "spec.ingress[0].from[0].ipBlock: cidr widened to 203.0.113.0/24",
            "external/client -> pod/x/a TCP 80: now allowed",
            id="the world outside can",
        ),
    ],
)  # fmt: skip
def test_mutants(build: Build, spec: str, mutant: str, shown: str | None) -> None:
    found = told(build, spec)
    assert mutant in found, sorted(found)
    assert found[mutant] == shown


def test_no_two_mutants_are_alike(build: Build) -> None:
    spec = (
        "podSelector: {matchLabels: {app: a}}\npolicyTypes: [Ingress, Egress]\n"
        "ingress: [{from: [{podSelector: {}}, {namespaceSelector: {}}],"
        " ports: [{port: 80}, {port: 53, protocol: UDP}]}]\n"
        "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]"
    )
    cluster = build(PODS + indent(spec, "  "), nodes=2)
    versions = [mutant.cluster.network_policies for mutant in mutants(cluster)]
    assert len(versions) == len({repr(version) for version in versions}) > 10
    assert cluster.network_policies not in versions


def test_rules_of_a_direction_that_is_not_isolated_have_no_mutants(build: Build) -> None:
    found = told(build, "podSelector: {}\npolicyTypes: [Ingress]\negress: [{to: [{podSelector: {}}]}]")
    assert not any("egress" in part for part in found)


def test_coverage(build: Build) -> None:
    spec = (
        "podSelector: {}\npolicyTypes: [Ingress, Egress]\n"
        "ingress: [{from: [{podSelector: {matchLabels: {app: nobody}}}, {podSelector: {}}]}, {ports: [{port: 80}]}]\n"
        "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]"
    )
    cluster = build(PODS + indent(spec, "  "), nodes=2)
    rules = cover(cluster, {"x/p ingress[0]": 3, "x/p ingress[1]": 0, "y/other ingress[0]": 9})
    assert [(rule.policy, rule.rule, rule.packets) for rule in rules] == [
        ("NetworkPolicy x/p", "ingress[0]", 3),
        ("NetworkPolicy x/p", "ingress[1]", 0),
        ("NetworkPolicy x/p", "egress[0]", None),
    ]
    assert [(each.policy, each.selector) for each in unmatched(cluster)] == [
        ("NetworkPolicy x/p", "spec.ingress[0].from[0]")
    ]


def test_a_policy_for_nobody(build: Build) -> None:
    cluster = build(PODS + "  podSelector: {matchLabels: {app: nobody}}\n  ingress: []\n", nodes=2)
    assert [(each.selector, str(each.source)) for each in unmatched(cluster)] == [("spec.podSelector", "t.yaml:30")]


ADMIN = """
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: guard}
spec:
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: z}}}]}]
"""


def test_admin_policies_are_covered_by_their_own_names(build: Build) -> None:
    cluster = build(PODS + "  podSelector: {}\n" + ADMIN, nodes=2)
    assert [(rule.policy, rule.packets) for rule in cover(cluster, {"cluster/guard ingress[0]": 1})] == [
        ("AdminNetworkPolicy guard", 1)
    ]
    assert [each.selector for each in unmatched(cluster)] == ["spec.ingress[0].from[0]"]


@pytest.mark.parametrize(
    ("kind", "version", "spec", "shown"),
    [
        pytest.param(
            "AdminNetworkPolicy",
            "v1alpha1",
            "{priority: 1, subject: {namespaces: {}}, ingress: ["
            "{action: Allow, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}]},"
            "{action: Deny, from: [{namespaces: {}}]}]}",
            {
                "spec: policy dropped": "pod/x/a -> pod/x/b TCP 80: now allowed",
                "spec.ingress[0]: rule dropped": "pod/x/b -> pod/x/a TCP 80: now blocked",
                "spec.ingress[0]: Allow changed to Deny": "pod/x/b -> pod/x/a TCP 80: now blocked",
                "spec.ingress[1]: rule dropped": "pod/x/a -> pod/x/b TCP 80: now allowed",
                "spec.ingress[1]: Deny changed to Allow": "pod/x/a -> pod/x/b TCP 80: now allowed",
            },
            id="AdminNetworkPolicy",
        ),
        pytest.param(
            "ClusterNetworkPolicy",
            "v1alpha2",
            "{tier: Baseline, priority: 1, subject: {namespaces: {}},"
            " egress: [{action: Deny, to: [{namespaces: {}}]}]}",
            {
                "spec: policy dropped": "pod/x/b -> pod/x/a TCP 80: now allowed",
                "spec.egress[0]: rule dropped": "pod/x/b -> pod/x/a TCP 80: now allowed",
                "spec.egress[0]: Deny changed to Accept": "pod/x/b -> pod/x/a TCP 80: now allowed",
            },
            id="ClusterNetworkPolicy",
        ),
    ],
)
def test_admin_policies_have_mutants(build: Build, kind: str, version: str, spec: str, shown: dict[str, str]) -> None:
    pods = PODS.rpartition("---")[0]
    head = f"apiVersion: policy.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: guard}}\n"
    cluster = build(f"{pods}---\n{head}spec: {spec}\n", nodes=2)
    found = {
        f"{each.part}: {each.change}": str(witness(cluster, each.cluster, each.kind, each.policy))
        for each in mutants(cluster)
    }
    assert found == shown
