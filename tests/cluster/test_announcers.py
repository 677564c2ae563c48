"""Who takes in what comes from outside: MetalLB's elections, and the routes of externalIPs."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from k8snetlab.cluster.announcers import announced, routed
from k8snetlab.cluster.model import Cluster

Build = Callable[..., Cluster]
Yaml = Callable[..., str]

TYPE = "type: LoadBalancer, "
LOCAL = TYPE + "externalTrafficPolicy: Local, "
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers: ''"


def nodes(excluded: str) -> str:
    labels = {name: EXCLUDED if name == excluded else "" for name in ("node1", "node2", "node3")}
    return "".join(
        f"---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{label}}}}}\n"
        for name, label in labels.items()
    )


def winners(cluster: Cluster) -> dict[str, list[str]]:
    return {str(address): [node.name for node in nodes] for address, nodes in announced(cluster).items()}


def by_hash(address: str, *nodes: str) -> list[str]:
    """As MetalLB sorts them."""
    return sorted(nodes, key=lambda node: sha256(f"{node}#{address}".encode()).digest())


def test_one_node_answers_and_which_one_differs_by_address(build: Build, workload: Yaml, service: Yaml) -> None:
    text = workload("web") + "".join(
        service(f"s{number}", TYPE + "selector: {app: web}, ", selector=False) for number in range(30)
    )
    found = winners(build(text))
    assert found == {address: by_hash(address, "node1", "node2", "node3")[:1] for address in found}
    assert {node for nodes in found.values() for node in nodes} == {"node1", "node2", "node3"}


def test_with_policy_local_it_is_a_node_with_an_endpoint(build: Build, workload: Yaml, service: Yaml) -> None:
    for node in ("node1", "node2", "node3"):
        text = workload("web", spec=f"nodeName: {node}, ") + service("web", LOCAL)
        assert winners(build(text)) == {"172.18.255.1": [node]}


def test_bgp_announces_from_every_node_that_may(build: Build, workload: Yaml, service: Yaml) -> None:
    lab = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {loadBalancer: {pool: 192.0.2.0/28, mode: bgp}}\n"
    text = lab + workload("web", spec="nodeName: node2, ") + service("web", TYPE)
    local = service("local", LOCAL + "selector: {app: web}, ", selector=False)
    assert winners(build(text + local)) == {
        "192.0.2.1": ["node2"],
        "192.0.2.2": by_hash("192.0.2.2", "node1", "node2", "node3"),
    }


@pytest.mark.parametrize(
    ("spec", "ready"),
    [
        pytest.param(TYPE, False, id="no-endpoint-can-serve"),
        pytest.param(TYPE + "loadBalancerClass: example.com/lb, ", True, id="other-class"),
        pytest.param("type: NodePort, ", True, id="node-port"),
    ],
)
def test_nobody_answers(build: Build, workload: Yaml, service: Yaml, spec: str, ready: bool) -> None:
    text = workload("web") + service("web", spec)
    pod = build(text).pods[0].key
    assert winners(build(text, readiness={pod: ready})) == {}


def test_an_address_of_somebody_elses_controller_is_not_announced(build: Build, workload: Yaml, service: Yaml) -> None:
    status = "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n"
    assert winners(build(workload("web") + service("web", TYPE) + status)) == {}


def test_an_excluded_node_hands_over(build: Build, workload: Yaml, service: Yaml) -> None:
    text = workload("web") + service("web", TYPE)
    first, second, third = by_hash("172.18.255.1", "node1", "node2", "node3")
    assert winners(build(text)) == {"172.18.255.1": [first]}
    assert winners(build(text + nodes(first))) == {"172.18.255.1": [second]}
    assert winners(build(text, readiness={f"Node/{first}": False})) == {"172.18.255.1": [second]}
    # One that does not announce moves nothing when it goes.
    assert winners(build(text + nodes(third))) == {"172.18.255.1": [first]}


@pytest.mark.parametrize(
    ("external", "policy", "expected"),
    [
        pytest.param("192.0.2.7", "", "any", id="cluster"),
        pytest.param("192.0.2.7", "externalTrafficPolicy: Local, ", "node3", id="local"),
        pytest.param("172.18.0.2", "", "", id="a-nodes-own"),
        pytest.param("203.0.113.77", "", "", id="the-clients-network"),
        pytest.param("2001:db8:99::7", "", "", id="a-family-the-lab-has-not"),
    ],
)
def test_external_ips_are_routed(
    build: Build, workload: Yaml, service: Yaml, external: str, policy: str, expected: str
) -> None:
    spec = f"{policy}externalIPs: ['{external}'], "
    found = routed(build(workload("web", spec="nodeName: node3, ") + service("web", spec)))
    any_node = by_hash(external, "node1", "node2", "node3")[0]
    assert [node.name for node in found.values()] == ([] if not expected else [expected.replace("any", any_node)])


def test_without_endpoints_an_external_ip_is_routed_all_the_same(build: Build, service: Yaml) -> None:
    """So that the client hears a refusal, and not the silence of an address that is nowhere."""
    assert len(routed(build(service("web", "externalIPs: [192.0.2.7], ")))) == 1
