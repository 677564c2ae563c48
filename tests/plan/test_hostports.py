"""Host ports: portmap's chains to the letter, and where packets come out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.hostports import pod_chain, sandbox_id
from k8snetlab.plan.proxy.walk import Packet, walk
from k8snetlab.plan.state import Family, IptablesChain, Sysctl

Resolved = Callable[..., Cluster]
POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: node1
  containers:
    - name: c
      ports:
        - {containerPort: 80, hostPort: 8080}
        - {containerPort: 81, hostPort: 8081, hostIP: 172.18.0.2}
        - {containerPort: 82, hostPort: 8082, hostIP: 0.0.0.0, protocol: UDP}
        - {containerPort: 82, hostPort: 8084, hostIP: 127.0.0.1, protocol: SCTP}
        - {containerPort: 83, hostPort: 8083, hostIP: "::1"}
"""
NODE1 = frozenset({ip_address("172.18.0.2"), ip_address("10.244.0.1")})


def chains(cluster: Cluster, family: Family = 4, node: str = "node1") -> list[IptablesChain]:
    return [
        obj
        for obj in build(cluster).objects
        if isinstance(obj, IptablesChain) and (obj.netns, obj.family) == (node, family)
    ]


def rules(found: Iterable[IptablesChain], start: str) -> list[str]:
    """In the words of `iptables-save`, all rules of the chains that begin so."""
    return [f"-A {chain.name} {rule}" for chain in found if chain.name.startswith(start) for rule in chain.rules]


@pytest.mark.parametrize("family", [4, 6])
def test_the_chains_are_those_that_the_plugin_writes(
    family: Family, resolved: Resolved, is_golden: Callable[[str, str], None]
) -> None:
    """The golden text was held against what portmap 1.1.1 itself made of the same mappings."""
    lab = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {ipFamily: dual}\n---\n"
    found = chains(resolved(lab + POD), family)
    is_golden(f"hostport-ipv{family}.rules", "\n".join(rules(found, "CNI-")) + "\n")


@pytest.mark.root
@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_says_them_back(family: Family, resolved: Resolved, restored: Callable[..., object]) -> None:
    lab = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {ipFamily: dual}\n---\n"
    found = chains(resolved(lab + POD), family)
    assert restored(found) >= set(found)  # type: ignore[operator]


def test_a_node_without_host_ports_has_none_of_it(resolved: Resolved) -> None:
    cluster = resolved(POD)
    assert not rules(chains(cluster, node="node2"), "CNI-")
    sysctls = {obj.netns for obj in build(cluster).objects if isinstance(obj, Sysctl) and "cni0" in obj.key}
    assert sysctls == {"node1"}


def test_hooks_are_after_those_of_the_proxy_but_the_masquerade_is_first(resolved: Resolved) -> None:
    found = {(chain.table, chain.name): chain.rules for chain in chains(resolved(POD))}
    for hook in ("PREROUTING", "OUTPUT"):
        assert "KUBE-SERVICES" in found["nat", hook][0]
        assert found["nat", hook][-1] == "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"
    assert found["nat", "POSTROUTING"][0].endswith("-j CNI-HOSTPORT-MASQ")


def test_one_match_takes_fifteen_ports(resolved: Resolved) -> None:
    ports = ", ".join(f"{{containerPort: {port}, hostPort: {port}}}" for port in range(7001, 7018))
    pod = (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: many}}\nspec: {{containers: [{{name: c, ports: [{ports}]}}]}}\n"
    )
    entries = rules(chains(resolved(pod)), "CNI-HOSTPORT-DNAT")
    counts = [entry.partition("--dports ")[2].split()[0].count(",") + 1 for entry in entries]
    assert counts == [15, 2]


def test_a_chain_is_named_after_network_and_sandbox(resolved: Resolved) -> None:
    pod = resolved(POD).pods[0]
    assert len(sandbox_id(pod)) == 64
    assert len(pod_chain("bridge", pod)) == 28
    assert pod_chain("bridge", pod) != pod_chain("cbr0", pod)


WAYS = [
    pytest.param("203.0.113.10", "172.18.0.2", 8080, False, "10.244.0.2", 80, False, id="outside"),
    pytest.param("10.244.0.2", "172.18.0.2", 8080, False, "10.244.0.2", 80, True, id="hairpin"),
    pytest.param("10.244.1.2", "172.18.0.2", 8080, False, "10.244.0.2", 80, False, id="pod-elsewhere"),
    pytest.param("127.0.0.1", "127.0.0.1", 8080, True, "10.244.0.2", 80, True, id="loopback"),
    pytest.param("172.18.0.2", "172.18.0.2", 8081, True, "10.244.0.2", 81, False, id="its-address"),
    pytest.param("127.0.0.1", "127.0.0.1", 8081, True, "127.0.0.1", 8081, False, id="not-on-loopback"),
    pytest.param("203.0.113.10", "172.18.0.2", 8083, False, "172.18.0.2", 8083, False, id="other-family"),
]


@pytest.mark.parametrize(("source", "destination", "port", "made_here", "to", "to_port", "masqueraded"), WAYS)
def test_where_a_packet_goes(
    source: str,
    destination: str,
    port: int,
    made_here: bool,
    to: str,
    to_port: int,
    masqueraded: bool,
    resolved: Resolved,
) -> None:
    packet = Packet(ip_address(source), ip_address(destination), "tcp", port, made_here)
    (way,) = walk(chains(resolved(POD)), packet, NODE1)
    assert (str(way.packet.destination), way.packet.port, way.packet.masqueraded) == (to, to_port, masqueraded)


def test_a_node_port_of_the_same_number_comes_first(resolved: Resolved) -> None:
    other = """
---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
spec: {nodeName: node2, containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {type: NodePort, selector: {app: other}, ports: [{port: 80, nodePort: 30080}]}
"""
    cluster = resolved(POD.replace("hostPort: 8080", "hostPort: 30080") + other)
    packet = Packet(ip_address("203.0.113.10"), ip_address("172.18.0.2"), "tcp", 30080)
    (way,) = walk(chains(cluster), packet, NODE1)
    assert str(way.packet.destination) == "10.244.1.2"
