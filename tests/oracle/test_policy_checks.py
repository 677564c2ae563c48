"""What policies make of the derived checks, and the checks of the policies themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.flows.model import Check
from k8snetlab.oracle.derive import derive
from k8snetlab.oracle.policy_checks import MOST_ALLOWED, MOST_DENIED

Build = Callable[..., Cluster]

# db on both nodes behind a NodePort Service, an api pod beside the first and a web pod beside the second.
APP = """
apiVersion: v1
kind: Pod
metadata: {name: db1, labels: {app: db, n: one}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db2, labels: {app: db, n: two}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec: {nodeName: node1, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {type: NodePort, selector: {app: db}, ports: [{port: 5000, targetPort: 5432, nodePort: 30000}]}
---
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s}
spec: {podSelector: {matchLabels: {%s}}, %s}
---
"""


def outcomes(checks: Iterable[Check], kind: str) -> dict[str, str]:
    return {check.name: check.expected for check in checks if check.type == kind}


def only(checks: Iterable[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def test_denied_in_the_pod_network(build: Build) -> None:
    checks = derive(build(APP + POLICY % ("db", "app: db", "ingress: []"), nodes=2))
    pairs = outcomes(checks, "pod-to-pod-cross-node")
    assert pairs["default/api to default/db2:5432"] == "timeout"
    assert pairs["default/api pings default/db2"] == "timeout"
    assert outcomes(checks, "node-to-pod") == {
        "node1 to default/db1:5432": "ok",  # its own node always reaches a pod
        "node1 to default/db2:5432": "timeout",
        "node2 to default/db2:5432": "ok",
        "node2 to default/db1:5432": "timeout",
    }
    denied = only(checks, "default/api to default/db2:5432")
    assert (denied.source, denied.sources, denied.servers) == (None, (), ())
    assert denied.because == (
        "NetworkPolicy default/db (t.yaml:28) isolates default/db2 for ingress "
        "and nothing allows TCP 5432 from default/api"
    )


def test_denied_egress(build: Build) -> None:
    checks = derive(build(APP + POLICY % ("api", "app: api", "policyTypes: [Egress]"), nodes=2))
    assert outcomes(checks, "pod-to-clusterip")["default/api to default/db:5000"] == "timeout"
    assert outcomes(checks, "pod-to-clusterip")["default/web to default/db:5000"] == "ok"
    assert outcomes(checks, "pod-to-nodeport")["default/api to node1:30000 (default/db)"] == "timeout"


def test_nothing_is_promised_of_the_way_to_the_own_node(build: Build) -> None:
    """The documentation says that it is always allowed, engines enforce egress there."""
    open_checks = outcomes(derive(build(APP, nodes=2)), "pod-to-node")
    assert "default/web pings node2" not in open_checks  # db is the first pod of its node
    assert open_checks["default/api pings node1"] == "ok"
    checks = derive(build(APP + POLICY % ("all", "app: api", "policyTypes: [Egress]"), nodes=2))
    assert "default/api pings node1" not in outcomes(checks, "pod-to-node")
    assert outcomes(checks, "pod-to-node")["default/api pings node2"] == "timeout"


def test_a_service_is_judged_by_its_target_port(build: Build) -> None:
    by_target = POLICY % ("db", "app: db", "ingress: [{ports: [{port: 5432}]}]")
    by_service = POLICY % ("db", "app: db", "ingress: [{ports: [{port: 5000}]}]")
    assert set(outcomes(derive(build(APP + by_target, nodes=2)), "pod-to-clusterip").values()) == {"ok"}
    assert set(outcomes(derive(build(APP + by_service, nodes=2)), "pod-to-clusterip").values()) == {"timeout"}


def test_some_of_the_endpoints(build: Build) -> None:
    """Those that may be reached must answer, the others must not, and it is asked often enough to be sure of both."""
    checks = derive(build(APP + POLICY % ("db", "n: one", "ingress: []"), nodes=2))
    check = only(checks, "default/api to default/db:5000")
    assert (check.expected, check.servers, check.forbidden) == ("ok", ("default/db2",), ("default/db1",))
    assert (1 / 2) ** check.tries < 2e-4
    assert "isolates default/db1" in check.because


def test_with_affinity_nobody_knows(build: Build) -> None:
    app = APP.replace("type: NodePort", "type: NodePort, sessionAffinity: ClientIP")
    checks = derive(build(app + POLICY % ("db", "n: one", "ingress: []"), nodes=2))
    assert "default/api to default/db:5000" not in outcomes(checks, "pod-to-clusterip")


def test_where_it_is_not_said_what_a_policy_sees(build: Build) -> None:
    """A client masqueraded by the node of the endpoint may be seen as itself or as that node."""
    allowing_nobody = derive(build(APP + POLICY % ("db", "app: db", "ingress: []"), nodes=2))
    assert outcomes(allowing_nobody, "external-to-nodeport") == {}
    both = "ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}, {ipBlock: {cidr: 172.18.0.0/16}}]}]"
    checks = derive(build(APP + POLICY % ("db", "app: db", both), nodes=2))
    assert "client to node1:30000 (default/db)" not in outcomes(checks, "external-to-nodeport")  # or as cni0
    everybody = derive(build(APP + POLICY % ("db", "app: db", "ingress: [{}]"), nodes=2))
    assert set(outcomes(everybody, "external-to-nodeport").values()) == {"ok"}


def test_with_policy_local_the_client_itself_is_judged(build: Build) -> None:
    app = APP.replace("type: NodePort", "type: NodePort, externalTrafficPolicy: Local")
    allowed = POLICY % ("db", "app: db", "ingress: [{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}]")
    for policy, outcome in ((allowed, "ok"), (POLICY % ("db", "app: db", "ingress: []"), "timeout")):
        checks = derive(build(app + policy, nodes=2))
        assert set(outcomes(checks, "external-to-nodeport").values()) == {outcome}


def test_no_endpoints_and_no_way_out(build: Build) -> None:
    """Refused or dropped: who comes first is nowhere said."""
    nobody = APP.replace("selector: {app: db}, ports", "selector: {app: nobody}, ports")
    assert set(outcomes(derive(build(nobody, nodes=2)), "pod-to-clusterip").values()) == {"refused"}
    checks = derive(build(nobody + POLICY % ("all", "app: api", "policyTypes: [Egress]"), nodes=2))
    assert "default/api to default/db:5000" not in outcomes(checks, "pod-to-clusterip")


def test_rules_and_isolated_pods(build: Build) -> None:
    policy = POLICY % ("db", "app: db", "ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]")
    checks = derive(build(APP + policy, nodes=2))
    assert outcomes(checks, "policy-allowed") == {
        "default/api to default/db1:5432: NetworkPolicy default/db ingress[0] (t.yaml:31)": "ok"
    }
    denied = outcomes(checks, "policy-denied")
    assert len(denied) == 2  # one of each pod that is isolated
    assert set(denied.values()) == {"timeout"}


def test_admin_policies_are_checked_too(build: Build) -> None:
    policy = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: no-db}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: db}}}}
  ingress:
  - {name: api, action: Accept, from: [{pods: {podSelector: {matchLabels: {app: api}}}}]}
  - {name: rest, action: Deny, from: [{namespaces: {}}]}
"""
    checks = derive(build(APP + policy, nodes=2))
    (allowed,) = outcomes(checks, "policy-allowed")
    assert allowed.endswith("ClusterNetworkPolicy no-db ingress[0] 'api' (t.yaml:36)")
    reasons = {check.because for check in checks if check.type == "policy-denied"}
    assert reasons == {"denied by ClusterNetworkPolicy no-db ingress[1] 'rest' (t.yaml:37)"}


@pytest.mark.parametrize("number", [3, 120])
def test_the_number_is_bounded(build: Build, number: int) -> None:
    many = "".join(
        POLICY % (f"p{n}", "app: db", f"ingress: [{{ports: [{{port: {5432 if n == 0 else 6000 + n}}}]}}]")
        + POLICY % (f"d{n}", "app: web", "ingress: []")
        for n in range(number)
    )
    checks = derive(build(APP + many, nodes=2))
    assert 0 < len(outcomes(checks, "policy-allowed")) <= MOST_ALLOWED
    assert 0 < len(outcomes(checks, "policy-denied")) <= MOST_DENIED
