"""The checks of a cluster: every type, enough of them and not too many, and each with the right promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Check
from k8snetlab.oracle.derive import TYPES, derive, of_types

Build = Callable[..., Cluster]

# A workload on every node, behind a Service of each kind.
EVERYTHING = """
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: web}
    spec:
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec:
          containers:
          - {name: web, image: x, ports: [{containerPort: 8080, hostPort: 8088}, {containerPort: 5353, protocol: UDP}]}
          - {name: sidecar, image: x}
    ---
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: client}
    spec:
      selector: {matchLabels: {app: client}}
      template: {metadata: {labels: {app: client}}, spec: {containers: [{name: c, image: x}]}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec:
      type: LoadBalancer
      ipFamilyPolicy: PreferDualStack
      externalIPs: [192.0.2.7, "2001:db8:99::7"]
      selector: {app: web}
      ports:
      - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
      - {name: dns, port: 53, targetPort: 5353, protocol: UDP, nodePort: 30053}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: pods}
    spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
    ---
    apiVersion: k8snetlab.dev/v1
    kind: Check
    metadata: {name: written}
    spec: {from: node/node1, to: external/internet, protocol: ICMP}
    """


def described(checks: tuple[Check, ...], kind: str = "") -> list[str]:
    """`NAME PROTOCOL expected` of the checks of a type."""
    return [f"{each.name} {each.flow.protocol} {each.expected}" for each in checks if kind in ("", each.type)]


@pytest.mark.parametrize("family", ["ipv4", "ipv6", "dual"])
def test_every_type_appears(build: Build, family: str) -> None:
    checks = derive(build(EVERYTHING, ip_family=family, with_addons=True))
    plain = [kind for kind in TYPES if not kind.startswith(("policy-", "external-to-ingress", "external-to-gateway"))]
    assert list(dict.fromkeys(check.type for check in checks)) == plain
    versions = {check.flow.address.count(":") > 0 for check in checks if check.type not in ("custom", "pod-to-dns")}
    assert versions == {"ipv4": {False}, "ipv6": {True}, "dual": {False, True}}[family]


def test_each_names_its_flow(build: Build) -> None:
    checks = derive(build(EVERYTHING))
    assert all(check.flow.sender.netns for check in checks)
    assert all((check.flow.port == 0) == (check.flow.protocol == "ICMP") for check in checks)
    assert all(check.servers for check in checks if check.flow.protocol != "ICMP" and check.expected == "ok")
    assert all(check.source or check.type == "container-to-container" for check in checks if check.flow.port)
    assert max(Counter((check.type, check.name, check.flow.protocol) for check in checks).values()) == 1
    assert len(set(checks)) == len(checks)


def test_the_promise_of_each_type(build: Build) -> None:
    """From one representative of each: protocol, whose address the server sees."""
    seen = {(check.type, check.flow.protocol, check.source) for check in derive(build(EVERYTHING))}
    assert seen == {
        ("container-to-container", "HTTP", None),
        ("pod-to-pod-same-node", "ICMP", None),
        ("pod-to-pod-same-node", "HTTP", "pod"),
        ("pod-to-pod-cross-node", "ICMP", None),
        ("pod-to-pod-cross-node", "HTTP", "pod"),
        ("pod-to-itself-via-service", "HTTP", "node"),
        ("pod-to-itself-via-service", "UDP", "node"),
        ("pod-to-node", "ICMP", None),
        ("node-to-pod", "HTTP", "node"),
        ("pod-to-clusterip", "HTTP", "pod"),
        ("pod-to-clusterip", "UDP", "pod"),
        ("node-to-clusterip", "HTTP", "node"),
        ("node-to-clusterip", "UDP", "node"),
        ("pod-to-headless", "HTTP", "pod"),
        ("external-to-hostport", "HTTP", "client"),
        ("pod-to-hostport", "HTTP", "node"),
        ("pod-to-hostport", "HTTP", "pod"),
        ("node-to-hostport", "HTTP", "node"),
        ("pod-to-nodeport", "HTTP", "node"),
        ("pod-to-nodeport", "UDP", "node"),
        ("external-to-nodeport", "HTTP", "node"),
        ("external-to-nodeport", "UDP", "node"),
        ("external-to-loadbalancer", "HTTP", "node"),
        ("external-to-loadbalancer", "UDP", "node"),
        ("external-to-externalip", "HTTP", "node"),
        ("external-to-externalip", "UDP", "node"),
        ("pod-to-external", "HTTP", "node"),
        ("custom", "ICMP", None),
    }


def test_the_same_cluster_gives_the_same_checks(build: Build) -> None:
    """Whatever the order of the documents in the files."""
    one = derive(build(EVERYTHING))
    assert derive(build(EVERYTHING)) == one
    assert derive(build("---\n".join(reversed(EVERYTHING.split("---\n"))))) == one


def test_the_number_of_checks_is_bounded(shop: Cluster, build: Build) -> None:
    """It grows with Services and nodes, never with pairs of pods."""
    assert 60 <= len(derive(shop)) <= 140
    one = """
    apiVersion: v1
    kind: Service
    metadata: {name: sN}
    spec: {selector: {app: sN}, ports: [{port: 80}]}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: sN}
    spec:
      replicas: 4
      selector: {matchLabels: {app: sN}}
      template: {metadata: {labels: {app: sN}}, spec: {containers: [{name: c, image: x}]}}
    """
    many = "---".join(one.replace("sN", f"s{number}") for number in range(200))
    assert 600 < len(derive(build(many, nodes=10))) < 2000


LOCAL = """
    apiVersion: v1
    kind: Pod
    metadata: {name: web, labels: {app: web}}
    spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: client}
    spec: {nodeName: node2, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, nodePort: 30080}], POLICY: Local}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: nobody}
    spec: {type: NodePort, selector: {app: nobody}, ports: [{port: 80, nodePort: 30081}]}
    """


def test_external_policy_local(build: Build) -> None:
    checks = derive(build(LOCAL.replace("POLICY", "externalTrafficPolicy"), nodes=2))
    assert described(checks, "external-to-nodeport") == [
        "client to node1:30081 (default/nobody) HTTP refused",
        "client to node2:30081 (default/nobody) HTTP refused",
        "client to node1:30080 (default/web) HTTP ok",
        "client to node2:30080 (default/web) HTTP timeout",
    ]
    [kept] = [check for check in checks if check.name == "client to node1:30080 (default/web)"]
    assert (kept.source, [str(each) for each in kept.sources]) == ("client", ["203.0.113.10"])
    # The short-circuit: a pod on a node without an endpoint is served by that node all the same.
    assert "default/client to node2:30080 (default/web) HTTP ok" in described(checks, "pod-to-nodeport")


def test_internal_policy_local(build: Build) -> None:
    checks = derive(build(LOCAL.replace("POLICY", "internalTrafficPolicy"), nodes=2))
    clients = [each for each in described(checks, "pod-to-clusterip") if "default/web:80" in each]
    assert clients == ["default/client to default/web:80 HTTP timeout"]
    assert "node1 to default/web:80 HTTP ok" in described(checks, "node-to-clusterip")
    assert "client to node2:30080 (default/web) HTTP ok" in described(checks, "external-to-nodeport")


def test_without_endpoints_everybody_is_refused(build: Build) -> None:
    checks = derive(build(LOCAL.replace("POLICY: Local", "publishNotReadyAddresses: false"), nodes=2))
    of_nobody = [check for check in checks if "default/nobody" in check.name]
    assert {check.type for check in of_nobody} == {
        "pod-to-clusterip", "node-to-clusterip", "pod-to-nodeport", "external-to-nodeport",
    }  # fmt: skip
    assert {(check.expected, check.servers, check.sources) for check in of_nobody} == {("refused", (), ())}


def test_hairpin_asks_until_the_pod_answers_itself(build: Build) -> None:
    spread = derive(build(EVERYTHING))
    [check] = [c for c in spread if c.type == "pod-to-itself-via-service" and c.flow.protocol == "HTTP"]
    assert check.servers == (check.flow.sender.name,)
    assert check.tries == 36  # three endpoints
    bound = EVERYTHING.replace(
        "      selector: {app: web}\n      ports:",
        "      sessionAffinity: ClientIP\n      selector: {app: web}\n      ports:",
    )
    assert bound != EVERYTHING
    assert not [c for c in derive(build(bound)) if c.type == "pod-to-itself-via-service"]
    assert [c.tries for c in derive(build(bound, nodes=1)) if c.type == "pod-to-itself-via-service"] == [12, 12]


def test_node_ports_of_some_addresses_only(build: Build) -> None:
    lab = "apiVersion: k8snetlab.dev/v1\n    kind: Lab\n    spec: {{nodePortAddresses: [{}]}}\n    ---\n    "
    for cidr, expected in (("172.18.0.0/16", "ok"), ("127.0.0.0/8", "refused"), ("fd00::/8", "ok")):
        checks = derive(build("\n    " + lab.format(f"'{cidr}'") + EVERYTHING.lstrip()))
        found = {check.expected for check in checks if check.type in ("pod-to-nodeport", "external-to-nodeport")}
        assert found == {expected}, cidr


def test_without_a_proxy_there_are_no_services(build: Build) -> None:
    types = {check.type for check in derive(build(EVERYTHING, proxy_mode="none"))}
    of_services = (
        "clusterip",
        "nodeport",
        "loadbalancer",
        "externalip",
        "via-service",
        "policy-",
        "-dns",
        "ingress",
        "gateway",
    )
    assert types == {each for each in TYPES if not any(word in each for word in of_services)}


MANUAL = """
    apiVersion: v1
    kind: Pod
    metadata: {name: client}
    spec: {nodeName: node1, containers: [{name: c, image: x}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: manual}
    spec: {clusterIP: 10.96.0.99, ports: [{port: 80}]}
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {name: manual-1, labels: {kubernetes.io/service-name: manual}}
    addressType: IPv4
    endpoints: [{addresses: [ADDRESS]}]
    ports: [{port: 80}]
    """


def test_an_endpoint_that_the_lab_does_not_have_promises_nothing(build: Build) -> None:
    """A database elsewhere, given by hand: nobody answers for it here."""
    assert not described(derive(build(MANUAL.replace("ADDRESS", "10.20.30.40"))), "pod-to-clusterip")


def test_an_endpoint_outside_the_cluster_sees_the_node(build: Build) -> None:
    cluster = build(MANUAL.replace("ADDRESS", "198.51.100.10"))
    [check] = [each for each in derive(cluster) if each.type == "pod-to-clusterip"]
    assert (check.expected, check.source, check.servers) == ("ok", "node", ())
    assert cluster.nodes[0].addresses[0] in check.sources


@pytest.mark.parametrize(
    ("protocol", "asked"),
    [pytest.param("TCP", {"TCP"}, id="TCP"), pytest.param("UDP", set(), id="UDP")],
)
def test_a_program_of_the_host_is_only_known_to_accept(build: Build, protocol: str, asked: set[str]) -> None:
    """What it says, and whether it answers a datagram at all, is its own affair."""
    checks = derive(
        build(
            f"""
    apiVersion: v1
    kind: Pod
    metadata: {{name: real, labels: {{app: real}}}}
    spec:
      containers:
      - {{name: c, image: host/nc, command: [nc], ports: [{{containerPort: 9, protocol: {protocol}}}]}}
    ---
    apiVersion: v1
    kind: Service
    metadata: {{name: real}}
    spec: {{type: NodePort, selector: {{app: real}}, ports: [{{port: 9, protocol: {protocol}}}]}}
    """
        )
    )
    assert {
        check.flow.protocol for check in checks if "default/real:9" in check.name or "(default/real)" in check.name
    } == asked


def test_of_types(shop: Cluster) -> None:
    checks = derive(shop)
    assert of_types(checks, ()) == checks
    some = of_types(checks, ("pod-to-external", "custom"))
    assert {check.type for check in some} == {"pod-to-external", "custom"}
    with pytest.raises(UsageError, match="unknown type of check: pod-to-moon") as raised:
        of_types(checks, ("custom", "pod-to-moon"))
    assert "pod-to-external" in raised.value.hint


def test_an_empty_cluster_has_few(build: Build) -> None:
    assert derive(build("")) == ()
