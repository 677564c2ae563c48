"""Every statement about a Service's data plane, with real packets, in each of kube-proxy's modes (service-modes.yaml).

A row is what a client does; its result is `OUTCOME SERVERS from WHO`, WHO being whose address the servers see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.flows.model import Flow, Result
from k8snetlab.flows.targets import flow
from k8snetlab.kernel import processes
from k8snetlab.lab import life
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.store import Record
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.services import node_sources
from k8snetlab.plan.build import build
from k8snetlab.probe.run import send

pytestmark = pytest.mark.root

MANIFESTS = Path(__file__).with_name("service-modes.yaml")
MODES = [
    pytest.param("iptables", id="iptables"),
    pytest.param("iptables, iptablesBackend: legacy", id="iptables-legacy"),
    pytest.param("nftables", id="nftables"),
    pytest.param("nftables, nftablesLayout: flat", id="nftables-flat"),
    pytest.param("ipvs", id="ipvs", marks=pytest.mark.vm),
]
NODE1, NODE2, NODE3 = "172.18.0.2", "172.18.0.3", "172.18.0.4"
POD, NODE, OUTSIDE = "pod/client", "node/node1", "external/client"
TRIES = 24  # of two equal endpoints one is missed with probability 2^-23

# conformance 4.5 (kube-proxy's TestInternalExternalMasquerade). L is on node1, where every client enters.
BOTH, LOCAL = "ok web-1 web-2 from", "ok web-1 from"
TRUTH = {
    # client to destination: plain, externalTrafficPolicy Local, internalTrafficPolicy Local
    (POD, "ClusterIP"): (f"{BOTH} client", f"{BOTH} client", f"{LOCAL} client"),
    (POD, "NodePort"): (f"{BOTH} node", f"{BOTH} client", f"{BOTH} node"),
    (POD, "LB IP"): (f"{BOTH} node", f"{BOTH} client", f"{BOTH} node"),
    (POD, "external IP"): (f"{BOTH} node", f"{BOTH} client", f"{BOTH} node"),
    (NODE, "ClusterIP"): (f"{BOTH} node", f"{BOTH} node", f"{LOCAL} node"),
    (NODE, "NodePort"): (f"{BOTH} node", f"{BOTH} node", f"{BOTH} node"),
    (NODE, "LB IP"): (f"{BOTH} node", f"{BOTH} node", f"{BOTH} node"),
    (NODE, "external IP"): (f"{BOTH} node", f"{BOTH} node", f"{BOTH} node"),
    (OUTSIDE, "ClusterIP"): (f"{BOTH} node", f"{BOTH} node", f"{LOCAL} node"),
    (OUTSIDE, "NodePort"): (f"{BOTH} node", f"{LOCAL} client", f"{BOTH} node"),
    (OUTSIDE, "LB IP"): (f"{BOTH} node", f"{LOCAL} client", f"{BOTH} node"),
    (OUTSIDE, "external IP"): (f"{BOTH} node", f"{LOCAL} client", f"{BOTH} node"),
}
# ipvs has one list of backends for every client (oracle.divergences, LOCAL_SHORT_CIRCUIT): policy Local is for all.
# A process of the node has the Service's address, which is on kube-ipvs0, for its source, and keeps it (NODE_SOURCE).
IPVS_NODE = {"NodePort": "node", "LB IP": "172.18.255.2", "external IP": "192.0.2.2"}
IPVS_TRUTH = {
    (sender, where): (plain, f"{LOCAL} {IPVS_NODE[where] if sender == NODE else 'client'}", it)
    if where in IPVS_NODE
    else (plain, local, it)
    for (sender, where), (plain, local, it) in TRUTH.items()
}
SERVICES = ("plain", "etp", "itp")  # 10.96.1.1 to .3, nodePorts 30053 to 30055

# statement: sender, destination, port, protocol, tries, result; several results are for iptables, nftables and ipvs,
# the last one for all that follow
ROWS: tuple[tuple[str, str, str, int, str, int, str | tuple[str, ...]], ...] = (
    ("EP.6 unready only", POD, "10.96.1.7", 80, "TCP", 1, "refused"),
    ("EP.6 published though unready", POD, "10.96.1.8", 80, "TCP", 1, "ok sick from client"),
    ("EP.8 and TP.8 hostNetwork endpoint", POD, "10.96.1.15", 80, "TCP", 1, "ok agent from client"),
    ("TP.8 from its node", NODE, "10.96.1.15", 80, "TCP", 1, "ok agent from node"),
    ("EP.9 endpoints by hand, outside the cluster", POD, "10.96.1.14", 80, "TCP", 1, "ok internet from node"),
    ("EP.14 TCP and UDP on one Service: TCP", POD, "10.96.1.1", 80, "TCP", TRIES, f"{BOTH} client"),
    ("EP.15 another proxy's Service", POD, "10.96.1.13", 80, "TCP", 1, "timeout"),
    ("SVC.7 no endpoints: pod to ClusterIP", POD, "10.96.1.6", 80, "TCP", 1, "refused"),
    ("SVC.7 UDP", POD, "10.96.1.6", 53, "UDP", 1, "refused"),
    ("SVC.7 node to ClusterIP", NODE, "10.96.1.6", 80, "TCP", 1, "refused"),
    ("SVC.7 external IP", POD, "192.0.2.6", 80, "TCP", 1, "refused"),
    ("SVC.7 LB IP", POD, "172.18.255.6", 80, "TCP", 1, "refused"),
    # iptables mode looks at KUBE-EXTERNAL-SERVICES in INPUT and FORWARD, not in OUTPUT (IPT.2).
    ("SVC.7 node to LB IP", NODE, "172.18.255.6", 80, "TCP", 1, ("timeout", "refused")),
    ("SVC.7 node port, from outside", OUTSIDE, NODE1, 30086, "TCP", 1, "refused"),
    ("SVC.7 node port, UDP", OUTSIDE, NODE2, 30056, "UDP", 1, "refused"),
    ("SVC.8 a port that the Service has not", POD, "10.96.1.1", 81, "TCP", 1, ("timeout", "refused")),
    ("SVC.8 an address that no Service has", POD, "10.96.200.200", 80, "TCP", 1, "timeout"),
    ("SVC.15 ping to a ClusterIP", POD, "10.96.1.1", 0, "ICMP", 1, ("timeout", "refused")),
    ("HAIR.1 by ClusterIP, the only endpoint", "pod/lone", "10.96.1.4", 80, "TCP", 3, "ok lone from node"),
    ("HAIR.2 by node port", "pod/lone", NODE2, 30084, "TCP", 3, "ok lone from node"),
    ("HAIR.2 by LB IP", "pod/lone", "172.18.255.4", 80, "TCP", 3, "ok lone from node"),
    ("NP.1 a node without endpoints", OUTSIDE, NODE3, 30080, "TCP", TRIES, f"{BOTH} node"),
    ("NP.4 localhost", NODE, "127.0.0.1", 30080, "TCP", TRIES, (f"{BOTH} node", "refused")),
    ("NP.7 the other protocol's number", OUTSIDE, NODE1, 30053, "TCP", 1, "refused"),
    ("NP.10 source ranges are not for node ports", OUTSIDE, NODE1, 30090, "TCP", TRIES, f"{BOTH} node"),
    ("TP.2 only elsewhere: node port", OUTSIDE, NODE1, 30084, "TCP", 1, "timeout"),
    ("TP.2 only elsewhere: LB IP", OUTSIDE, "172.18.255.4", 80, "TCP", 1, "timeout"),
    ("TP.2 only elsewhere: external IP", OUTSIDE, "192.0.2.4", 80, "TCP", 1, "timeout"),
    ("TP.1 here: node port", OUTSIDE, NODE2, 30084, "TCP", 1, "ok lone from client"),
    ("TP.3 a pod is short-circuited", POD, NODE1, 30084, "TCP", 1, "ok lone from client"),
    ("TP.3 by LB IP", POD, "172.18.255.4", 80, "TCP", 1, "ok lone from client"),
    ("TP.4 a node process is short-circuited", NODE, NODE1, 30084, "TCP", 1, "ok lone from node"),
    ("TP.4 by external IP", NODE, "192.0.2.4", 80, "TCP", 1, ("ok lone from node", "ok lone from node", "timeout")),
    ("TP.6 internal, only elsewhere: pod", POD, "10.96.1.5", 80, "TCP", 1, ("timeout", "timeout", "refused")),
    ("TP.6 internal, only elsewhere: node", NODE, "10.96.1.5", 80, "TCP", 1, ("timeout", "timeout", "refused")),
    ("TP.6 internal, here", "node/node2", "10.96.1.5", 80, "TCP", 1, "ok lone from node"),
    ("TERM.2 none ready: those that terminate", POD, "10.96.1.9", 80, "TCP", 1, "ok leaving from client"),
    ("TERM.3 Local, here", OUTSIDE, NODE2, 30089, "TCP", 1, "ok leaving from client"),
    ("TERM.3 Local, elsewhere", OUTSIDE, NODE1, 30089, "TCP", 1, "timeout"),
    ("LB.4 a source in the ranges", POD, "172.18.255.10", 80, "TCP", TRIES, f"{BOTH} node"),
    ("LB.4 a source outside them", "pod/away", "172.18.255.10", 80, "TCP", 1, "timeout"),
    ("LB.4 outside the cluster", OUTSIDE, "172.18.255.10", 80, "TCP", 1, "timeout"),
    ("LB.4 the ClusterIP is for all", "pod/away", "10.96.1.10", 80, "TCP", TRIES, f"{BOTH} client"),
    ("LB.5 the node is not in the ranges", NODE, "172.18.255.10", 80, "TCP", 1, "timeout"),
    ("LB.5 the node is in the ranges", NODE, "172.18.255.11", 80, "TCP", TRIES, f"{BOTH} node"),
    ("LB.5 and pods are not", POD, "172.18.255.11", 80, "TCP", 1, "timeout"),
    ("AFF.1 one client, one endpoint", POD, "10.96.1.12", 53, "UDP", TRIES, "ok ONE from client"),
    ("AFF.1 by node port", OUTSIDE, NODE1, 30062, "UDP", TRIES, "ok ONE from node"),
    ("TD.2 a zone with an endpoint: the same node", POD, "10.96.1.16", 53, "UDP", TRIES, f"{LOCAL} client"),
    ("TD.2 another node of the zone", "pod/beside", "10.96.1.16", 53, "UDP", TRIES, f"{LOCAL} client"),
    ("TD.2 a zone without", "pod/away", "10.96.1.16", 53, "UDP", TRIES, f"{BOTH} client"),
    ("TD.3 PreferSameNode: here", POD, "10.96.1.17", 53, "UDP", TRIES, f"{LOCAL} client"),
    ("TD.3 not here, but in the zone", "pod/beside", "10.96.1.17", 53, "UDP", TRIES, f"{LOCAL} client"),
    ("TD.3 neither", "pod/away", "10.96.1.17", 53, "UDP", TRIES, f"{BOTH} client"),
)  # fmt: skip


def truth(mode: str) -> Iterator[tuple[str, str, str, int, str, int, str]]:
    for (sender, where), results in (IPVS_TRUTH if mode == "ipvs" else TRUTH).items():
        for number, (service, result) in enumerate(zip(SERVICES, results, strict=True), 1):
            addresses = {
                "ClusterIP": f"10.96.1.{number}", "NodePort": NODE1, "LB IP": f"172.18.255.{number}",
                "external IP": f"192.0.2.{number}",
            }  # fmt: skip
            port = 30052 + number if where == "NodePort" else 53
            yield f"4.5 {sender} to {where}, {service}", sender, addresses[where], port, "UDP", TRIES, result


def shown(cluster: Cluster, sent: Flow, results: Sequence[Result]) -> str:
    """All tries of a row in words."""
    outcomes = sorted({result.outcome for result in results})
    if outcomes != ["ok"]:
        return " ".join(outcomes)
    servers = sorted({result.server.partition("/")[2] for result in results} - {""})
    whose = sorted({_whose(cluster, sent, result.source) for result in results} - {""})
    return " ".join(["ok", *servers, *(("from", *whose) if whose else ())])


def _whose(cluster: Cluster, sent: Flow, source: str) -> str:
    """Whose the address is that a server saw: the client's (a pod or somebody outside) or a node's."""
    if not source:
        return ""
    address = ip_address(source)
    if any(address in node_sources(cluster, node, 4) for node in cluster.nodes):
        return "node"
    pod = cluster.pod(sent.sender.name) if sent.sender.kind == "pod" else None
    own = pod.ips if pod else (names.outside_address(names.CLIENT, 4),)
    return "client" if address in own else source


def route_to_node1() -> None:
    """At the network's router, node1 for all addresses of Services: where packets enter is what the rows are about."""
    subnets = ["10.96.0.0/16", "172.18.255.0/24", *(f"192.0.2.{number}/32" for number in (1, 2, 3, 4, 6))]
    for subnet in subnets:
        done = processes.run(["ip", "route", "replace", subnet, "via", NODE1], names.ROUTER)
        assert done.returncode == 0, done.stderr


def probe(holder: Holder, cluster: Cluster, rows: Sequence[tuple[str, str, str, int, str, int]]) -> dict[str, str]:
    """The results of all rows, by statement, from one go of the prober."""
    flows = [
        flow(cluster, sender, destination, port=port or None, protocol=protocol)
        for _, sender, destination, port, protocol, _ in rows
    ]
    repeated = [one for one, (*_, tries) in zip(flows, rows, strict=True) for _ in range(tries)]
    results = iter(run_in(holder, send, repeated, {}, 1.0, 8))
    return {
        statement: shown(cluster, one, [next(results) for _ in range(tries)])
        for one, (statement, *_, tries) in zip(flows, rows, strict=True)
    }


def _column(mode: str) -> int:
    return ("iptables", "nftables", "ipvs").index(mode.partition(",")[0])


@pytest.mark.parametrize("mode", MODES)
def test_every_statement(name: str, mode: str) -> None:
    manifests = load_text(
        MANIFESTS.read_bytes().replace(b"MODE\n", f"{mode}\n".replace(", ", "\n  ").encode()), "t.yaml"
    )
    cluster = resolve(manifests, Overrides(), None, {"default/sick": False})
    rows = [*ROWS, *truth(mode)]
    with life.locked(name) as lab:
        life.up(lab, Record(manifests=manifests, cluster=cluster, plan=build(cluster)))
        assert lab.holder is not None
        run_in(lab.holder, route_to_node1)
        sticky = [(*row[:5], 1) for row in rows if "ONE" in row[6]]
        probe(lab.holder, cluster, sticky)  # alone: of two first packets at once each may choose
        found = probe(lab.holder, cluster, [row[:6] for row in rows])
    expected = {}
    for statement, *_, result in rows:
        expected[statement] = result if isinstance(result, str) else (*result, result[-1])[_column(mode)]
        if "ONE" in expected[statement]:
            one = found[statement].split()[1]
            assert one in ("web-1", "web-2")
            expected[statement] = expected[statement].replace("ONE", one)
    assert found == expected


def test_the_table_is_about_distinct_flows() -> None:
    statements = [row[0] for row in (*ROWS, *truth("iptables"))]
    assert len(set(statements)) == len(statements)
