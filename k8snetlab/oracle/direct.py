"""Checks of the pod network itself, without Services: every pod reaches every other without NAT, nodes reach pods and
pods nodes, and the way out of the cluster is masqueraded. Source: Kubernetes, "The Kubernetes network model".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice, permutations

from k8snetlab.cluster import names
from k8snetlab.cluster.model import IPAddress, Node, Pod
from k8snetlab.cluster.mtu import mtus, overhead
from k8snetlab.flows.model import Check, Flow, Place, SeenSource
from k8snetlab.flows.targets import node_place, pod_place
from k8snetlab.oracle.places import Scene, external_place
from k8snetlab.oracle.services import node_sources
from k8snetlab.oracle.under_policies import under_policies

# Representatives, not all pairs: `matrix` is for those.
MOST_NODE_PAIRS = 12
MOST_NODES = 12
MOST_LOCAL = 6


def direct_checks(scene: Scene) -> Iterator[Check]:
    for check in chain(_containers(scene), _same_node(scene), _cross_node(scene), _pod_and_node(scene), _egress(scene)):
        yield from under_policies(scene, check)


def _containers(scene: Scene) -> Iterator[Check]:
    """Containers of one pod share its loopback; pods with several containers come first."""
    serving = [pod for pod in scene.pods if scene.tcp_port(pod)]
    serving.sort(key=lambda pod: len(pod.containers) < 2)
    several = [pod for pod in serving if len(pod.containers) > 1]
    for pod in (several or serving[:1])[:MOST_LOCAL]:
        loopback = "127.0.0.1" if scene.family == 4 else "::1"
        yield http(
            "container-to-container", pod_place(pod), pod_place(pod), loopback, scene.tcp_port(pod) or 0, server=pod
        )


def _same_node(scene: Scene) -> Iterator[Check]:
    for pods in islice(scene.by_node.values(), MOST_NODES):
        if len(pods) > 1:
            yield from _pair(scene, "pod-to-pod-same-node", pods[0], _prefer_serving(scene, pods[1:]))


def _cross_node(scene: Scene) -> Iterator[Check]:
    peopled = [pods for pods in scene.by_node.values() if pods]
    for here, there in islice(permutations(peopled, 2), MOST_NODE_PAIRS):
        receiver = _prefer_serving(scene, there)
        yield from _pair(scene, "pod-to-pod-cross-node", here[0], receiver)
        yield from _largest(scene, here[0], receiver)


def _largest(scene: Scene, sender: Pod, receiver: Pod) -> Iterator[Check]:
    """The largest packet that the pods' links let out must arrive in one piece, tunnels or not (POD.9).

    Where cables carry less than that it is lost without a word: no path MTU discovery can find such a black hole.
    """
    address, sizes = scene.ip(receiver), mtus(scene.cluster)
    assert address is not None
    fits = sizes.fits(overhead(scene.cluster))
    flow = Flow(
        sender=pod_place(sender),
        destination=pod_place(receiver),
        address=str(address),
        protocol="ICMP",
        size=sizes.pods,
    )
    name = f"{sender.key} pings {receiver.key} with {sizes.pods} bytes"
    yield Check(type="pod-to-pod-cross-node", name=name, flow=flow, expected="ok" if fits else "timeout")


def _pair(scene: Scene, kind: str, sender: Pod, receiver: Pod) -> Iterator[Check]:
    """Ping and, where the receiver listens, HTTP; the server must see the sender's own address (POD.2, POD.3)."""
    address, own = scene.ip(receiver), scene.ip(sender)
    assert address is not None
    assert own is not None
    yield ping(kind, pod_place(sender), pod_place(receiver), address)
    port = scene.tcp_port(receiver)
    if port:
        yield http(
            kind, pod_place(sender), pod_place(receiver), address, port, server=receiver, source="pod", sources=(own,)
        )


def _pod_and_node(scene: Scene) -> Iterator[Check]:
    nodes = list(scene.nodes.values())
    for node in nodes[:MOST_LOCAL]:
        others = [other for other in nodes if other.name != node.name]
        pods = scene.by_node[node.name]
        for target in (node, *others[:1]):
            address = scene.node_ip(target)
            if pods and address:
                yield ping("pod-to-node", pod_place(pods[0]), node_place(target), address)
        for there in (node, *others[:1]):
            pods_there = scene.by_node[there.name]
            if pods_there:
                yield from _node_to_pod(scene, node, _prefer_serving(scene, pods_there))


def _node_to_pod(scene: Scene, node: Node, pod: Pod) -> Iterator[Check]:
    address, port = scene.ip(pod), scene.tcp_port(pod)
    assert address is not None
    if port is None:
        yield ping("node-to-pod", node_place(node), pod_place(pod), address)
        return
    sources = node_sources(scene.cluster, node, scene.family)
    yield http(
        "node-to-pod", node_place(node), pod_place(pod), address, port, server=pod, source="node", sources=sources
    )


def _egress(scene: Scene) -> Iterator[Check]:
    """Nobody outside has a route back to a pod, so the node lends it its address on the fabric (POD.8)."""
    for node in islice(scene.nodes.values(), MOST_NODES):
        address = scene.node_ip(node)
        for pod in scene.by_node[node.name][:1]:
            yield http(
                "pod-to-external",
                pod_place(pod),
                external_place(names.INTERNET),
                names.outside_address(names.INTERNET, scene.family),
                80,
                source="node",
                sources=(address,) if address else (),
            )


def _prefer_serving(scene: Scene, pods: tuple[Pod, ...]) -> Pod:
    return next((pod for pod in pods if scene.tcp_port(pod)), pods[0])


def ping(kind: str, sender: Place, receiver: Place, address: IPAddress) -> Check:
    flow = Flow(sender=sender, destination=receiver, address=str(address), protocol="ICMP")
    return Check(type=kind, name=f"{sender.name} pings {receiver.name}", flow=flow)


def http(
    kind: str,
    sender: Place,
    receiver: Place,
    address: IPAddress | str,
    port: int,
    *,
    server: Pod | None = None,
    source: SeenSource | None = None,
    sources: tuple[IPAddress, ...] = (),
) -> Check:
    return Check(
        type=kind,
        name=f"{sender.name} to {receiver.name}:{port}",
        flow=Flow(sender=sender, destination=receiver, address=str(address), protocol="HTTP", port=port),
        source=source,
        sources=sources,
        servers=(server.key,) if server else (f"external/{receiver.name}",) if receiver.kind == "external" else (),
    )
