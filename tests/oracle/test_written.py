"""Check documents: what each stands for, and what is said of those that make no sense."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Check
from k8snetlab.oracle.written import written_checks

LAB = """
    apiVersion: v1
    kind: Namespace
    metadata: {name: shop, labels: {team: web}}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: a, namespace: shop, labels: {app: web}}
    spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: b, namespace: shop, labels: {app: web}}
    spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: c, labels: {app: web}}
    spec: {nodeName: node1, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {clusterIP: 10.96.0.50, selector: {app: web}, ports: [{port: 80}, {name: dns, port: 53, protocol: UDP}]}
    ---
    apiVersion: k8snetlab.dev/v1
    kind: Check
    metadata: {name: one, namespace: shop}
    spec: """
Checks = Callable[[str], tuple[Check, ...]]


@pytest.fixture(name="checks")
def checks_fixture(build: Callable[..., Cluster]) -> Checks:
    def checks(spec: str) -> tuple[Check, ...]:
        return tuple(written_checks(build(LAB.replace("{port: 80}, {name", "{name: http, port: 80}, {name") + spec)))

    return checks


def pairs(checks: tuple[Check, ...]) -> list[tuple[str, str]]:
    return [(str(each.flow.sender), str(each.flow.destination)) for each in checks]


@pytest.mark.parametrize(
    ("spec", "protocol", "port", "address"),
    [
        pytest.param("{from: pod/shop/a, to: svc/shop/web, port: 80}", "TCP", 80, "10.96.0.50", id="port"),
        pytest.param("{from: a, to: svc/web}", "TCP", 80, "10.96.0.50", id="in its own namespace, the first port"),
        pytest.param("{from: a, to: svc/web, port: 53, protocol: UDP}", "UDP", 53, "10.96.0.50", id="UDP"),
        pytest.param("{from: a, to: pod/shop/b}", "ICMP", 0, "10.244.1.2", id="no port: ping"),
        pytest.param("{from: a, to: 'http://10.96.0.50/cart'}", "HTTP", 80, "10.96.0.50", id="URL"),
        pytest.param("{from: external/client, to: node/node2, port: 30080}", "TCP", 30080, "172.18.0.3", id="node"),
        pytest.param("{from: node/node1, to: 10.0.0.1, port: 9, protocol: UDP}", "UDP", 9, "10.0.0.1", id="address"),
    ],
)
def test_one_flow(checks: Checks, spec: str, protocol: str, port: int, address: str) -> None:
    [check] = checks(spec)
    assert (check.type, check.name, check.expected) == ("custom", "one", "ok")
    assert (check.flow.protocol, check.flow.port, check.flow.address) == (protocol, port, address)


@pytest.mark.parametrize("expected", ["ok", "refused", "timeout"])
def test_expect(checks: Checks, expected: str) -> None:
    [check] = checks(f"{{from: a, to: pod/shop/b, port: 80, expect: {expected}}}")
    assert check.expected == expected
    assert check.servers == (("shop/b",) if expected == "ok" else ())


SAME = "{podSelector: {matchLabels: {app: web}}}"


@pytest.mark.parametrize(
    ("peer", "selected"),
    [
        pytest.param(SAME, ["a", "b"], id="a missing namespace selector is the own namespace"),
        pytest.param("{namespaceSelector: {matchLabels: {team: web}}}", ["a", "b"], id="every pod of the namespaces"),
        pytest.param(
            "{podSelector: {matchLabels: {app: web}}, namespaceSelector: {}}", ["c", "a", "b"], id="everywhere"
        ),
        pytest.param("{podSelector: {matchExpressions: [{key: app, operator: Exists}]}}", ["a", "b"], id="expression"),
    ],
)
def test_selected_pods(checks: Checks, peer: str, selected: list[str]) -> None:
    found = checks(f"{{from: {peer}, to: svc/web}}")
    assert [each.flow.sender.name.split("/")[1] for each in found] == selected
    assert [each.name for each in found] == [f"one ({each.flow.sender.name} to shop/web)" for each in found]


def test_all_pairs_but_with_oneself(checks: Checks) -> None:
    assert pairs(checks(f"{{from: {SAME}, to: {SAME}, port: 80}}")) == [
        ("pod/shop/a", "pod/shop/b"),
        ("pod/shop/b", "pod/shop/a"),
    ]


def test_one_pod_may_ask_itself(checks: Checks) -> None:
    assert pairs(checks("{from: a, to: pod/shop/a, port: 80}")) == [("pod/shop/a", "pod/shop/a")]
    assert pairs(checks(f"{{from: pod/shop/a, to: {SAME}, port: 80}}")) == [("pod/shop/a", "pod/shop/b")]


@pytest.mark.parametrize(
    ("sender", "source", "addresses"),
    [
        pytest.param("a", "pod", {"10.244.0.3"}, id="pod"),
        pytest.param("external/client", "client", {"203.0.113.10"}, id="client"),
        pytest.param("node/node1", "client", {"172.18.0.2", "10.244.0.1"}, id="a node as the client"),
    ],
)
def test_source(checks: Checks, sender: str, source: str, addresses: set[str]) -> None:
    [check] = checks(f"{{from: {sender}, to: svc/web, source: {source}}}")
    assert check.source == source
    assert {str(each) for each in check.sources} == addresses


def test_source_node_is_any_node(checks: Checks) -> None:
    [check] = checks("{from: a, to: svc/web, source: node}")
    assert {str(each) for each in check.sources} >= {"172.18.0.2", "172.18.0.3", "172.18.0.4", "10.244.1.1"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        pytest.param("{from: x, to: svc/web}", "Check shop/one: no pod shop/x", id="sender"),
        pytest.param("{from: a, to: svc/wub}", "Check shop/one: no service shop/wub", id="destination"),
        pytest.param("{from: svc/web, to: a}", "svc/web: a Service cannot send or run anything", id="Service sends"),
        pytest.param(
            "{from: {podSelector: {matchLabels: {app: x}}}, to: a}",
            "Check shop/one: its selector matches no pod",
            id="none",
        ),
        pytest.param("{from: a, to: pod/shop/b, protocol: UDP}", "UDP to pod/shop/b needs a port", id="no port"),
        pytest.param(
            "{from: a, to: pod/shop/b, source: pod}",
            "Check shop/one: a ping does not tell which address was seen",
            id="ping",
        ),
    ],
)
def test_what_makes_no_sense(checks: Checks, spec: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        checks(spec)
    assert message in str(raised.value)
    assert str(raised.value).startswith("Check shop/one: ")
