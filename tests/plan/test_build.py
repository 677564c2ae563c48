"""The plan as a whole: golden, ordered, free of duplicates, deterministic, and changed only where the cluster is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.errors import UsageError
from k8snetlab.plan.build import MESHED_NODES, build
from k8snetlab.plan.network.bridged import MESHED_PODS
from k8snetlab.plan.network.calico import CABLE_MAC
from k8snetlab.plan.state import (
    Address,
    Announcement,
    Bridge,
    DnsName,
    DnsServer,
    FdbEntry,
    File,
    HealthCheck,
    IpSet,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Netns,
    Plan,
    PodServer,
    Process,
    ProxyFile,
    Route,
    SelfSigned,
    Sysctl,
    UdpDestination,
    Veth,
    Vxlan,
)
from k8snetlab.plan.text import describe

NETWORKS = ("flannel-vxlan", "flannel-host-gw-dual", "calico-vxlan-dual", "calico-bgp", "weave")
GOLDEN = ("one-pod", "host-gw", "vxlan", "dual-stack-vxlan", "services", *NETWORKS)
PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
"""
Resolved = Callable[..., Cluster]


@pytest.mark.parametrize("name", GOLDEN)
def test_plan_is_golden(name: str, golden_cluster: Callable[[str], Cluster], is_golden: Callable[..., None]) -> None:
    plan = build(golden_cluster(name))
    is_golden(f"{name}.txt", "".join(f"{describe(obj)}\n" for obj in plan.objects))


@pytest.mark.parametrize("name", GOLDEN)
def test_plan_is_the_same_twice_and_has_no_duplicates(name: str, golden_cluster: Callable[[str], Cluster]) -> None:
    plan = build(golden_cluster(name))
    assert plan == build(golden_cluster(name))
    assert len(set(plan.objects)) == len(plan.objects)
    assert len(set(map(identity, plan.objects))) == len(plan.objects)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_object_stands_on_those_before_it(name: str, golden_cluster: Callable[[str], Cluster]) -> None:
    made: set[tuple[str, str]] = set()  # (namespace, link), the link empty for the namespace itself
    for obj in build(golden_cluster(name)).objects:
        assert set(needs(obj)) <= made, describe(obj)
        made |= set(makes(obj))


LINK = ("netns", "name")
IDENTITY: dict[type, tuple[str, ...]] = {
    Netns: ("name",),
    Bridge: LINK,
    Veth: LINK,
    Vxlan: LINK,
    Address: ("netns", "link", "interface"),
    Announcement: ("address",),
    Route: ("netns", "destination"),
    Neighbour: ("netns", "link", "address"),
    FdbEntry: ("netns", "link", "mac", "destination"),
    File: ("path",),
    IpSet: ("netns", "name"),
    IpSetEntry: ("netns", "set", "entry"),
    Sysctl: ("netns", "key"),
    IptablesChain: ("netns", "family", "table", "name"),
    UdpDestination: ("netns", "family", "address", "port"),
    PodServer: ("netns", "pod"),
    DnsServer: ("netns", "pod"),
    DnsName: ("view", "name"),
    HealthCheck: ("netns", "service"),
    LearnedRoute: ("netns", "destination"),
    Process: ("name",),
}


def identity(obj: KernelObject) -> tuple[object, ...]:
    """What two objects of a plan may not have in common, whatever else they say."""
    kind = "link" if IDENTITY[type(obj)] is LINK else type(obj).__name__
    return (kind, *(getattr(obj, name) for name in IDENTITY[type(obj)]))


def needs(obj: KernelObject) -> Iterator[tuple[str, str]]:
    match obj:
        case Netns() | DnsName() | File() | ProxyFile() | SelfSigned():
            return
        case Route(link=""):
            yield (obj.netns, "")
        case Veth():
            yield (obj.netns, "")
            yield (obj.peer_netns, "")
            if obj.master:
                yield (obj.netns, obj.master)
        case Vxlan():
            yield (obj.netns, obj.underlay)
        case Address() | Route() | Neighbour() | FdbEntry():
            yield (obj.netns, obj.link)
        case _:
            yield (obj.netns, "")


def makes(obj: KernelObject) -> Iterator[tuple[str, str]]:
    match obj:
        case Netns():
            yield (obj.name, "")
        case Bridge() | Vxlan():
            yield (obj.netns, obj.name)
        case Veth():
            yield (obj.netns, obj.name)
            yield (obj.peer_netns, obj.peer_name)
        case _:
            return


@pytest.mark.parametrize("name", GOLDEN)
def test_interface_indexes_and_macs_are_unique(name: str, golden_cluster: Callable[[str], Cluster]) -> None:
    indexes: list[tuple[str, int]] = []
    macs: list[str] = []
    for obj in build(golden_cluster(name)).objects:
        if isinstance(obj, Bridge | Veth | Vxlan):
            indexes.append((obj.netns, obj.index))
            macs.append(obj.mac)
        if isinstance(obj, Veth):
            indexes.append((obj.peer_netns, obj.peer_index))
            macs.append(obj.peer_mac)
    assert len(set(indexes)) == len(indexes)
    macs = [mac for mac in macs if mac != CABLE_MAC]  # all of Calico's cables have the same on the node's end
    assert len(set(macs)) == len(macs)


def objects(plan: Plan, netns: str = "") -> set[KernelObject]:
    return {obj for obj in plan.objects if not netns or getattr(obj, "netns", getattr(obj, "name", "")) == netns}


def test_another_pod_changes_only_its_own_objects_and_its_neighbours(resolved: Resolved) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {nodeName: node1, containers: [{name: c}]}\n"
    before, after = (build(resolved("---\n".join(pod % name for name in names))) for names in ("ab", "abc"))
    assert objects(before) <= objects(after)
    added = objects(after) - objects(before)
    assert {type(obj) for obj in added if getattr(obj, "netns", "") != "default_c"} == {Netns, Veth, Neighbour}
    assert all("10.244.0.4" in describe(obj) for obj in added if isinstance(obj, Neighbour) and obj.netns == "node1")


@pytest.mark.parametrize(
    ("replicas", "meshed"), [pytest.param(MESHED_PODS, True, id="few"), pytest.param(MESHED_PODS + 1, False, id="many")]
)
def test_pods_of_a_node_know_each_other_while_they_are_few(resolved: Resolved, replicas: int, meshed: bool) -> None:
    plan = build(resolved(PODS.format(replicas=replicas), nodes=1))
    known = [obj for obj in plan.objects if isinstance(obj, Neighbour) and obj.netns.startswith("default_")]
    assert len(known) == replicas * (replicas if meshed else 1)  # the gateway, and perhaps the other pods


@pytest.mark.parametrize("nodes", [MESHED_NODES, MESHED_NODES + 1])
def test_nodes_know_each_other_while_they_are_few(resolved: Resolved, nodes: int) -> None:
    plan = build(resolved(PODS.format(replicas=1), nodes=nodes))
    known = [obj for obj in plan.objects if isinstance(obj, Neighbour) and obj.netns == "node1" and obj.link == "eth0"]
    assert len(known) == (nodes if nodes <= MESHED_NODES else 1)  # the router, and perhaps the other nodes


def test_the_plan_grows_with_the_pods_and_not_with_their_square(resolved: Resolved) -> None:
    sizes = [len(build(resolved(PODS.format(replicas=pods), nodes=4)).objects) for pods in (200, 400, 600)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == 200 * 9


@pytest.mark.parametrize(
    ("spec", "pod_mtu", "node_mtu"),
    [
        pytest.param("backend: host-gw", 1500, 1500, id="routes"),
        pytest.param("backend: vxlan", 1450, 1500, id="vxlan"),
        pytest.param("backend: vxlan, ipFamily: ipv6", 1430, 1500, id="vxlan over IPv6"),
        pytest.param("backend: vxlan, mtu: 1400", 1400, 1500, id="vxlan, given"),
        pytest.param("backend: vxlan, mtu: 8950", 8950, 9000, id="vxlan, jumbo"),
        pytest.param("backend: host-gw, mtu: 9000", 9000, 9000, id="routes, jumbo"),
        pytest.param("backend: vxlan, mtu: 65535", 65485, 65535, id="vxlan, the largest"),
    ],
)
def test_mtu(resolved: Resolved, spec: str, pod_mtu: int, node_mtu: int) -> None:
    lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: 2, {spec}}}\n---\n"
    found: dict[str, set[int]] = {"pod": set(), "node": set()}
    for obj in build(resolved(lab + PODS.format(replicas=2))).objects:
        if isinstance(obj, Veth):
            found["pod" if obj.master == "cni0" else "node"] |= {obj.mtu, obj.peer_mtu} - {
                1500 if not obj.master else 0
            }
        if isinstance(obj, Vxlan) or (isinstance(obj, Bridge) and obj.name == "cni0"):
            found["pod"].add(obj.mtu)
    assert found == {"pod": {pod_mtu}, "node": {node_mtu}}


def test_the_router_knows_no_way_to_pods_or_services(resolved: Resolved) -> None:
    cluster = resolved(PODS.format(replicas=4), nodes=2)
    plan = build(cluster)
    routes = [obj for obj in plan.objects if isinstance(obj, Route) and obj.netns == "router"]
    assert [route.kind for route in routes] == ["blackhole"]
    connected = [obj.interface.network for obj in plan.objects if isinstance(obj, Address) and obj.netns == "router"]
    pods = [pod.ips[0] for pod in cluster.pods]
    assert not any(ip in network for ip in (*pods, ip_address("10.96.0.10")) for network in connected)
    assert ip_network("172.18.0.0/16") in connected


def test_host_network_pods_listen_in_their_node(golden_cluster: Callable[[str], Cluster]) -> None:
    servers = [obj for obj in build(golden_cluster("host-gw")).objects if isinstance(obj, PodServer)]
    assert PodServer("node2", "default/agent", "node2", "node2", (("TCP", 9100),)) in servers
    assert not any(obj.pod == "default/b" for obj in servers)  # it declares no port, so nothing listens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"network": "cilium"}, "network cilium", id="network"),
        pytest.param({"proxy_mode": "ebpf"}, "kube-proxy mode ebpf", id="proxy mode"),
    ],
)
def test_what_is_not_there_is_refused_with_what_there_is(
    golden_cluster: Callable[[str], Cluster], change: dict[str, str], message: str
) -> None:
    cluster = golden_cluster("one-pod")
    with pytest.raises(UsageError) as raised:
        build(replace(cluster, config=replace(cluster.config, **change)))  # type: ignore[arg-type]
    assert raised.value.message.startswith(message)
    assert "bridge" in raised.value.hint or "iptables" in raised.value.hint
    assert raised.value.exit_code == 2
