"""Checks of hostPort: a port of one node, and of no other, leads to a pod (conformance HP; Kubernetes, Container v1).

Who connects keeps its address, but for those whose answer would not come back by the node: the pod itself and its
neighbours on the link, and whoever asks 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from k8snetlab.cluster import names
from k8snetlab.cluster.hostports import PortMapping, port_mappings
from k8snetlab.cluster.model import IPAddress, Node, Pod
from k8snetlab.cluster.networks import facts, pod_interface
from k8snetlab.flows.model import Check, Flow, FlowProtocol, Place, SeenSource
from k8snetlab.flows.targets import node_place, pod_place
from k8snetlab.oracle.places import Scene, external_place
from k8snetlab.oracle.services import node_sources

MOST_PODS = 12  # representatives: a DaemonSet has a host port on every node


def host_port_checks(scene: Scene) -> Iterator[Check]:
    for pod in islice((pod for pod in scene.pods if port_mappings(pod)), MOST_PODS):
        for mapping in port_mappings(pod):
            protocol = _protocol(scene, pod, mapping)
            if protocol is not None and not _taken_by_service(scene, mapping):
                yield from _mapping(scene, pod, mapping, protocol)


def _mapping(scene: Scene, pod: Pod, mapping: PortMapping, protocol: FlowProtocol) -> Iterator[Check]:
    node = scene.nodes[pod.node]
    own = scene.node_ip(node)
    if own is None or (mapping.address is not None and mapping.address.version != own.version):
        return  # the port is not mapped in this family
    of_node = node_sources(scene.cluster, node, scene.family)
    address = mapping.address or own
    if mapping.address is None and scene.family == 4:
        loopback = names.LOOPBACK[scene.family]
        yield _check("node-to-hostport", node_place(node), node, loopback, mapping, protocol, pod, "node", of_node)
    if address == own or (address.is_loopback and scene.family == 4):
        yield _check("node-to-hostport", node_place(node), node, address, mapping, protocol, pod, "node", of_node)
    if address != own:
        return
    client = names.outside_address(names.CLIENT, scene.family)
    outside = external_place(names.CLIENT)
    yield _check("external-to-hostport", outside, node, own, mapping, protocol, pod, "client", (client,))
    yield from _from_pods(scene, pod, mapping, protocol)
    yield from _elsewhere(scene, node, mapping, protocol)


def _from_pods(scene: Scene, pod: Pod, mapping: PortMapping, protocol: FlowProtocol) -> Iterator[Check]:
    """From the pod itself (hairpin), one beside it and one on another node."""
    node, own = scene.nodes[pod.node], scene.ip(pod)
    address = scene.node_ip(node)
    assert own is not None
    assert address is not None
    beside = next((each for each in scene.by_node[node.name] if each.key != pod.key), None)
    away = next((each for each in scene.pods if each.node != node.name), None)
    for client in (pod, beside, away):
        if client is None:
            continue
        ip = scene.ip(client)
        assert ip is not None
        source: SeenSource = "pod"
        sources: tuple[IPAddress, ...] = (ip,)
        if client.node != node.name:
            if facts(scene.cluster.config.network).masquerades_to_nodes:
                source, sources = "node", node_sources(scene.cluster, scene.nodes[client.node], scene.family)
        elif ip in pod_interface(scene.cluster.config, node, own).network:
            source, sources = "node", node_sources(scene.cluster, node, scene.family)
        yield _check("pod-to-hostport", pod_place(client), node, address, mapping, protocol, pod, source, sources)


def _elsewhere(scene: Scene, node: Node, mapping: PortMapping, protocol: FlowProtocol) -> Iterator[Check]:
    """The other nodes know nothing of the port; one of them, on which nothing else has it, is asked."""
    taken = {
        pod.node
        for pod in scene.cluster.pods
        if (mapping.protocol, mapping.port) in _ports_on_node(scene, pod)
    }  # fmt: skip
    other = next((each for each in scene.nodes.values() if each.name not in taken and each.name != node.name), None)
    address = scene.node_ip(other) if other else None
    if other is None or address is None or mapping.protocol == "SCTP":
        return
    flow = Flow(
        sender=external_place(names.CLIENT),
        destination=node_place(other),
        address=str(address),
        protocol=protocol,
        port=mapping.port,
    )
    name = f"{names.CLIENT} to {other.name}:{mapping.port}, not mapped there"
    yield Check(type="external-to-hostport", name=name, flow=flow, expected="refused")


def _ports_on_node(scene: Scene, pod: Pod) -> set[tuple[str, int]]:
    if pod.host_network:
        return set(scene.listening.get(pod.key, ()))
    return {(mapping.protocol, mapping.port) for mapping in port_mappings(pod)}


def _protocol(scene: Scene, pod: Pod, mapping: PortMapping) -> FlowProtocol | None:
    """How to ask so that the pod can answer: see `derive._protocol`; None when nothing of it listens."""
    if (mapping.protocol, mapping.container_port) in scene.listening.get(pod.key, ()):
        return "HTTP" if mapping.protocol == "TCP" else mapping.protocol
    return "TCP" if pod.key in scene.programs and mapping.protocol == "TCP" else None


def _taken_by_service(scene: Scene, mapping: PortMapping) -> bool:
    """kube-proxy is asked first: a nodePort of the same number hides the host port (HP.8)."""
    return scene.cluster.config.proxy_mode != "none" and any(
        port.node_port == mapping.port and port.protocol == mapping.protocol
        for service in scene.cluster.services
        for port in service.ports
    )


def _check(
    kind: str,
    sender: Place,
    node: Node,
    address: IPAddress,
    mapping: PortMapping,
    protocol: FlowProtocol,
    pod: Pod,
    source: SeenSource,
    sources: tuple[IPAddress, ...],
) -> Check:
    where = f"127.0.0.1:{mapping.port}" if address.is_loopback else f"{node.name}:{mapping.port}"
    place = node_place(node)
    return Check(
        type=kind,
        name=f"{sender.name} to {where} ({pod.key})",
        flow=Flow(sender=sender, destination=place, address=str(address), protocol=protocol, port=mapping.port),
        source=source,
        sources=sources,
        servers=(pod.key,),
    )
