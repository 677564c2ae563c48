"""What is said of one flow: on pods, endpoints and addresses, and beside what its packet did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.flows.model import Outcome, Result
from k8snetlab.flows.targets import flow
from k8snetlab.oracle.explanation import Explanation, agrees, explain, explained
from k8snetlab.oracle.reasons import CONTESTED
from k8snetlab.report.explain import explain_json, explain_text

Build = Callable[..., Cluster]

TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: db1, labels: {app: db, n: one}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{name: pg, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db2, labels: {app: db, n: two}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{name: pg, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec:
  type: NodePort
  clusterIP: 10.96.0.50
  selector: {app: db}
  ports: [{port: 5000, targetPort: pg, nodePort: 30000}]
---
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {n: one}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: api}}
    ports:
    - port: pg
"""


def given(build: Build, sender: str, destination: str, port: int | None = None, text: str = TEXT) -> Explanation:
    cluster = build(text, nodes=2)
    return explain(cluster, flow(cluster, sender, destination, port=port))


@pytest.mark.parametrize(
    ("sender", "destination", "port", "expected", "reason"),
    [
        pytest.param(
            "api", "db1", 5432, "allowed", "allowed by NetworkPolicy default/db ingress[0] (t.yaml:42)", id="by-rule"
        ),
        pytest.param(
            "web",
            "db1",
            5432,
            "denied",
            "NetworkPolicy default/db (t.yaml:36) isolates default/db1 for ingress "
            "and nothing allows TCP 5432 from default/web",
            id="isolated",
        ),
        pytest.param("web", "db2", 5432, "allowed", "no policy denies it", id="not-isolated"),
        pytest.param("db1", "db1", 1, "allowed", "a pod always reaches itself", id="itself"),
        pytest.param(
            "node/node1", "db1", 1, "allowed", "a pod and its own node always reach each other", id="own-node"
        ),
        pytest.param("api", "db1", None, "denied", "", id="ping"),
        pytest.param("api", "svc/db", None, "allowed", "", id="service"),
        pytest.param("web", "svc/db", None, "some", "", id="service-some"),
        pytest.param("web", "10.96.0.50", 5000, "some", "", id="cluster-ip"),
        pytest.param("web", "http://db.default:5000/", None, "some", "", id="service-by-name"),
        pytest.param("web", "http://db:5000/", None, "some", "", id="service-by-short-name"),
        pytest.param("web", "http://db.default.svc.cluster.local:5000/", None, "some", "", id="service-by-full-name"),
        pytest.param("external/client", "node/node1", 30000, "open", "", id="node-port"),
        pytest.param("api", "node/node2", 22, "allowed", "no policy denies it", id="a-port-of-a-node"),
        pytest.param("api", "svc/none", None, "open", "svc/default/none port 80 has no endpoint to go to", id="empty"),
        pytest.param(
            "api",
            "http://example.com/",
            None,
            "open",
            "example.com is a name, and only its resolver knows what it stands for",
            id="name",
        ),
    ],
)
def test_flows(build: Build, sender: str, destination: str, port: int | None, expected: str, reason: str) -> None:
    found = given(build, sender, destination, port)
    assert found.expected == expected
    if reason:
        assert found.reason == reason


def test_the_way_to_the_own_node_is_contested(build: Build) -> None:
    deny = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: out}\n"
    text = TEXT + deny + "spec: {podSelector: {matchLabels: {app: api}}, policyTypes: [Egress]}\n"
    assert given(build, "api", "node/node1", 22, text).expected == "open"
    assert given(build, "api", "node/node1", 22, text).reason == CONTESTED
    assert given(build, "api", "node/node2", 22, text).expected == "denied"
    assert given(build, "node/node1", "api", 22, text).expected == "allowed"


def test_each_endpoint_is_judged_by_its_own_port(build: Build) -> None:
    found = given(build, "web", "svc/db")
    assert [(each.destination, each.port, each.allowed) for each in found.judgements] == [
        ("default/db1", 5432, False),
        ("default/db2", 5432, True),
    ]


@pytest.mark.parametrize(
    ("sender", "outcome", "reason", "agreed", "said"),
    [
        pytest.param(
            "web", "timeout", "no answer within 1 s", True, "no answer within 1 s: NetworkPolicy", id="denied"
        ),
        pytest.param("web", "ok", "", False, "NOT enforced: NetworkPolicy", id="not-enforced"),
        pytest.param("web", "refused", "connection refused", False, "connection refused: NOT enforced", id="refused"),
        pytest.param("web", "refused", "network unreachable (ICMP)", None, "network unreachable (ICMP)", id="no-route"),
        pytest.param("web", "error", "no program", None, "no program", id="could-not-run"),
        pytest.param("api", "ok", "", True, "allowed by NetworkPolicy default/db ingress[0] (t.yaml:42)", id="allowed"),
        pytest.param("api", "timeout", "silence", False, "silence: no policy denies it: allowed by", id="lost"),
    ],
)
def test_beside_the_packet(
    build: Build, sender: str, outcome: Outcome, reason: str, agreed: bool | None, said: str
) -> None:
    found, result = given(build, sender, "db1", 5432), Result(outcome=outcome, reason=reason)
    assert agrees(found, result) is agreed
    assert explained(found, result).startswith(said)


def test_nothing_is_added_where_no_policy_has_a_part(build: Build) -> None:
    found = given(build, "web", "db2", 5432)
    assert explained(found, Result(outcome="timeout", reason="silence")) == "silence"


def test_text(build: Build) -> None:
    cluster = build(TEXT, nodes=2)
    asked = flow(cluster, "web", "svc/db")
    text = explain_text(asked, explain(cluster, asked), Result(outcome="ok", server="default/db2"))
    assert text.splitlines() == [
        "pod/default/web -> svc/default/db TCP 5000",
        "svc/default/db port 5000 is translated to its endpoints before policies are asked",
        "",
        "to default/db1 (10.244.0.3) TCP 5432",
        "  egress of default/web",
        "    no policy selects default/web for egress: allowed",
        "  ingress of default/db1",
        "    NetworkPolicy default/db selects default/db1: isolates it for ingress (t.yaml:36)",
        "      ingress[0] does not match: from does not match default/web (t.yaml:42)",
        "    no rule allows it: default/db1 is isolated for ingress, so it is denied",
        "",
        "to default/db2 (10.244.1.2) TCP 5432",
        "  egress of default/web",
        "    no policy selects default/web for egress: allowed",
        "  ingress of default/db2",
        "    no policy selects default/db2 for ingress: allowed",
        "",
        "policies: some endpoints are allowed, some denied: NetworkPolicy default/db (t.yaml:36) isolates default/db1 "
        "for ingress and nothing allows TCP 5432 from default/web",
        "packet:   ok by default/db2",
        "          the policies do not say which",
    ]


def test_json(build: Build) -> None:
    cluster = build(TEXT, nodes=2)
    asked = flow(cluster, "api", "db1", port=5432)
    told = explain_json(asked, explain(cluster, asked), None)
    assert list(told) == [
        "from", "to", "protocol", "port", "expected", "reason", "destinations",
        "observed", "observed_reason", "server", "agrees",
    ]  # fmt: skip
    assert (told["expected"], told["observed"], told["agrees"]) == ("allowed", None, None)
    destinations: Any = told["destinations"]
    (destination,) = destinations
    assert destination["steps"][-1] == {
        "direction": "ingress",
        "policy": "NetworkPolicy default/db",
        "rule": "ingress[0]",
        "source": "t.yaml:42",
        "matched": True,
        "text": "ingress[0] matches: allowed",
    }


ADMIN = """---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: first}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {action: Pass, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
  - {action: %s, from: [{namespaces: {}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: last}
spec:
  tier: Baseline
  priority: 1
  subject: {namespaces: {}}
  ingress:
  - {name: no web, action: Deny, from: [{pods: {podSelector: {matchLabels: {app: web}}}}]}
"""


def test_tiers(build: Build) -> None:
    """Passed on to the NetworkPolicy where there is one, which is final, and to Baseline where there is none."""
    text = TEXT + ADMIN % "Deny"
    assert (
        given(build, "api", "db1", 5432, text).reason == "denied by ClusterNetworkPolicy first ingress[1] (t.yaml:56)"
    )
    assert "NetworkPolicy default/db (t.yaml:36) isolates" in given(build, "web", "db1", 5432, text).reason
    baseline = given(build, "web", "db2", 5432, text)
    assert baseline.reason == "denied by ClusterNetworkPolicy last ingress[0] 'no web' (t.yaml:66)"
    (judgement,) = baseline.judgements
    assert [step.text for step in judgement.steps] == [
        "no policy selects default/web for egress: allowed",
        "ClusterNetworkPolicy first selects default/db2: tier Admin",
        "ingress[0] matches: passed on to the next tier",
        "ClusterNetworkPolicy last selects default/db2: tier Baseline",
        "ingress[0] 'no web' matches: denied",
    ]
    accepted = given(build, "api", "db1", 1, TEXT + ADMIN % "Accept")
    assert accepted.reason == "allowed by ClusterNetworkPolicy first ingress[1] (t.yaml:56)"
