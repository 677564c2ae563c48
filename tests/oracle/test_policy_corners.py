"""Single questions to the policy oracle: what implementations most often get wrong, and what the API leaves open."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from textwrap import dedent, indent

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.oracle.parties import Party, address_owners, node_party, pod_party
from k8snetlab.oracle.policy import PolicyVerdict, judge
from k8snetlab.oracle.policy_rules import PolicyProtocol

Build = Callable[..., Cluster]

PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: a, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: b, labels: {team: b}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec:
  nodeName: node1
  containers:
  - {name: c, image: x, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web8080, namespace: a, labels: {app: web, v: two}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: a, labels: {app: client}}
spec: {nodeName: node2, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: b, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: a, labels: {app: client}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: x}]}
---
"""


def policy(spec: str, namespace: str = "a", name: str = "p") -> str:
    head = (
        f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
    )
    return f"{head}spec:\n{indent(dedent(spec).strip(), '  ')}\n---\n"


def party(cluster: Cluster, name: str) -> Party:
    """`a/web`, `node1` or an address."""
    if pod := cluster.pod(name):
        found = pod_party(pod, 4)
    elif node := cluster.node(name):
        found = node_party(node, 4)
    else:
        found = address_owners(cluster).party(ip_address(name))
    assert found is not None
    return found


def ask(cluster: Cluster, question: str) -> PolicyVerdict:
    """`a/client > a/web TCP/80`."""
    source, _, destination, what = question.split()
    protocol, _, port = what.partition("/")
    assert protocol in ("TCP", "UDP", "SCTP", "ICMP")
    asked: PolicyProtocol = protocol  # type: ignore[assignment]
    return judge(cluster, party(cluster, source), party(cluster, destination), asked, int(port or 0))


DENY_WEB = "podSelector: {matchLabels: {app: web}}\ningress: []"
WEB = "podSelector: {matchLabels: {app: web}}\n"
CLIENTS = "podSelector: {matchLabels: {app: client}}\npolicyTypes: [Egress]\n"


@pytest.mark.parametrize(
    ("spec", "allowed", "denied"),
    [
        pytest.param(
            WEB + "ingress: [{ports: [{}]}]",
            ["a/client > a/web TCP/80", "b/client > a/web TCP/1"],
            ["a/client > a/web UDP/53", "a/client > a/web SCTP/80", "a/client > a/web ICMP"],
            id="an-empty-port-is-all-of-tcp",
        ),
        pytest.param(
            WEB + "ingress: [{ports: []}]",
            ["a/client > a/web UDP/53", "a/client > a/web ICMP", "203.0.113.10 > a/web SCTP/1"],
            [],
            id="no-ports-is-everything",
        ),
        pytest.param(
            WEB + "ingress: [{ports: [{port: 53}]}]",
            ["a/client > a/web TCP/53"],
            ["a/client > a/web UDP/53"],
            id="a-port-without-protocol-is-tcp",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: client}}\negress: [{to: [{podSelector: {}}]}]",
            ["a/client > a/web TCP/80"],
            ["a/client > b/client TCP/80", "a/web > a/client TCP/80", "a/client > 198.51.100.10 TCP/80"],
            id="only-egress-rules-isolate-ingress-too",
        ),
        pytest.param(
            "podSelector: {}\npolicyTypes: [Egress]\ningress: []\negress: [{}]",
            ["b/client > a/web TCP/80", "a/client > a/web TCP/80"],
            [],
            id="rules-of-a-direction-not-listed-are-void",
        ),
        pytest.param(
            "podSelector: {}\npolicyTypes: [Ingress]\negress: []",
            ["a/client > b/client TCP/80"],
            ["a/client > a/web TCP/80"],
            id="an-empty-egress-with-only-ingress-listed",
        ),
        pytest.param(
            WEB + "ingress: [{ports: [{port: http}]}]",
            ["a/client > a/web TCP/80", "a/client > a/web8080 TCP/8080"],
            ["a/client > a/web TCP/8080", "a/client > a/web8080 TCP/80", "a/client > a/web UDP/80"],
            id="a-named-port-differs-from-pod-to-pod",
        ),
        pytest.param(
            CLIENTS + "egress: [{ports: [{port: http}]}]",
            ["a/client > a/web TCP/80", "a/client > a/web8080 TCP/8080"],
            ["a/client > a/web8080 TCP/80", "a/client > 198.51.100.10 TCP/80", "a/client > node1 TCP/80"],
            id="a-named-port-is-the-destinations-for-egress-too",
        ),
        pytest.param(
            WEB + "ingress: [{ports: [{port: dns}]}]",
            [],
            ["a/client > a/web TCP/53", "a/client > a/web UDP/53"],
            id="a-named-port-of-another-protocol",
        ),
        pytest.param(
            WEB + "ingress: [{ports: [{port: 80, endPort: 90}]}]",
            ["a/client > a/web TCP/80", "a/client > a/web TCP/90"],
            ["a/client > a/web TCP/79", "a/client > a/web TCP/91", "a/client > a/web UDP/85"],
            id="both-ends-of-a-range",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{podSelector: {}}]}]",
            ["a/client > a/web TCP/80"],
            ["b/client > a/web TCP/80", "203.0.113.10 > a/web TCP/80"],
            id="an-empty-pod-selector-is-of-the-own-namespace",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{namespaceSelector: {}}]}]",
            ["a/client > a/web TCP/80", "b/client > a/web TCP/80"],
            ["203.0.113.10 > a/web TCP/80", "node2 > a/web TCP/80"],
            id="an-empty-namespace-selector-is-nobody-outside",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{podSelector: {matchExpressions: [{key: v, operator: NotIn, values: [two]}]}}]}]",
            ["a/client > a/web TCP/80"],
            ["a/web8080 > a/web TCP/80", "b/client > a/web TCP/80"],
            id="not-in-matches-who-lacks-the-key",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{podSelector: {matchExpressions: [{key: v, operator: DoesNotExist}]}}]}]",
            ["a/client > a/web TCP/80"],
            ["a/web8080 > a/web TCP/80"],
            id="does-not-exist",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]",
            ["a/client > a/web TCP/80", "a/host > a/web TCP/80"],
            ["a/host > a/web8080 TCP/80"],
            id="a-host-network-pod-is-its-node-not-a-peer",
        ),
        pytest.param(
            "podSelector: {}\npolicyTypes: [Ingress, Egress]",
            [
                "a/web > a/web TCP/80",
                "node1 > a/web TCP/80",
                "a/web > node1 TCP/80",
                "a/host > a/web TCP/80",
                "a/host > b/client TCP/80",
                "b/client > node2 TCP/80",
            ],
            ["node2 > a/web TCP/80", "a/web > node2 TCP/80", "a/web > b/client TCP/80", "a/web > a/client TCP/80"],
            id="itself-and-the-own-node-are-always-reached",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.0.0/16]}}]}]",
            ["203.0.113.10 > a/web TCP/80", "node2 > a/web TCP/80"],
            ["a/client > a/web TCP/80", "b/client > a/web TCP/80"],
            id="everybody-but-pods",
        ),
        pytest.param(
            WEB + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.244.0.0/16]}}, {podSelector: {}}]}]",
            ["a/client > a/web TCP/80"],
            ["b/client > a/web TCP/80"],
            id="an-exception-is-only-of-its-own-block",
        ),
        pytest.param(
            WEB + 'ingress: [{from: [{ipBlock: {cidr: "::/0"}}]}]',
            [],
            ["a/client > a/web TCP/80", "203.0.113.10 > a/web TCP/80"],
            id="a-block-of-the-other-family",
        ),
        pytest.param(
            WEB + "ingress:\n- {from: [{podSelector: {}}], ports: [{port: 80}]}\n- {ports: [{port: 81}]}",
            ["a/client > a/web TCP/80", "b/client > a/web TCP/81"],
            ["b/client > a/web TCP/80", "a/client > a/web TCP/82"],
            id="from-and-ports-are-both-needed-rules-are-added",
        ),
    ],
)  # fmt: skip
def test_one_policy(build: Build, spec: str, allowed: list[str], denied: list[str]) -> None:
    cluster = build(PODS + policy(spec), nodes=2)
    assert [question for question in allowed if not ask(cluster, question).allowed] == []
    assert [question for question in denied if ask(cluster, question).allowed] == []


def test_nobody_asks_anything_without_policies(build: Build) -> None:
    verdict = ask(build(PODS, nodes=2), "203.0.113.10 > a/web TCP/80")
    assert verdict.allowed
    assert [ruling.isolating for ruling in verdict.rulings] == [()]


def test_policies_of_the_same_name_in_two_namespaces(build: Build) -> None:
    text = PODS + policy("podSelector: {}", "a", "same") + policy("podSelector: {}\ningress: [{}]", "b", "same")
    cluster = build(text, nodes=2)
    assert not ask(cluster, "b/client > a/web TCP/80").allowed
    assert ask(cluster, "a/web > b/client TCP/80").allowed


def test_only_the_way_there_is_asked_about(build: Build) -> None:
    """Egress of the destination has no part in it: replies belong to the connection."""
    cluster = build(PODS + policy(WEB + "policyTypes: [Egress]"), nodes=2)
    assert ask(cluster, "a/client > a/web TCP/80").allowed
    assert not ask(cluster, "a/web > a/client TCP/80").allowed


def test_both_ends_are_needed(build: Build) -> None:
    server, client = policy(WEB + "ingress: [{}]", name="s"), policy(CLIENTS + "egress: []", name="c")
    verdict = ask(build(PODS + server + client, nodes=2), "a/client > a/web TCP/80")
    assert [(r.direction, r.allowed) for r in verdict.rulings] == [("egress", False), ("ingress", True)]
    assert not verdict.allowed


def test_dual_stack_blocks_are_told_apart(build: Build) -> None:
    cluster = build(
        PODS + policy(WEB + 'ingress: [{from: [{ipBlock: {cidr: "fd00::/8"}}]}]'), nodes=2, ip_family="dual"
    )
    web, client = cluster.pod("a/web"), cluster.pod("a/client")
    assert web is not None
    assert client is not None
    four, six = [(pod_party(client, family), pod_party(web, family)) for family in (4, 6)]
    assert four[0] is not None and four[1] is not None and six[0] is not None and six[1] is not None  # noqa: PT018
    assert not judge(cluster, four[0], four[1], "TCP", 80).allowed
    assert judge(cluster, six[0], six[1], "TCP", 80).allowed
