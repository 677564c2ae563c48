"""What to ask of the same Services under several kube-proxy modes, and what a difference between the answers means.

Every client that matters (beside an endpoint, away from them, an endpoint itself, a node, a node's loopback, outside)
asks every address that a Service has, and some that it has not (conformance 4.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, IPAddress, Node, Pod, Service, ServicePort
from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Flow, FlowProtocol, Place, Result
from k8snetlab.flows.targets import node_place, pod_place
from k8snetlab.oracle.divergences import (
    LOCAL_SHORT_CIRCUIT,
    LOCAL_WITHOUT_ENDPOINTS,
    LOCALHOST_NODE_PORT,
    NO_ENDPOINTS_FROM_NODE,
    NODE_SOURCE,
    PING_TO_CLUSTER_IP,
    UNALLOCATED_CLUSTER_IP,
    UNDEFINED_PORT,
    Divergence,
)
from k8snetlab.oracle.places import Scene, address_of, external_place, probe_protocol
from k8snetlab.oracle.services import node_sources

# A client that is an endpoint asks until it has been answered by itself; an n-th of the answers are its own.
_TRIES_PER_ENDPOINT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One flow to send under every mode. `client` and `destination` are its class, `service` is empty for none.

    `known` are the divergences that may explain why modes answer differently. With `itself` only answers of the sender
    count, and it is asked `tries` times.
    """

    client: str
    destination: str
    service: str
    flow: Flow
    known: tuple[Divergence, ...] = ()
    itself: bool = False
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a question: `whose` says whose address the server saw (pod, client, node, or the address)."""

    result: Result
    whose: str

    @property
    def seen(self) -> tuple[str, str]:
        """What must be the same under two modes for them to be alike."""
        return self.result.outcome, self.whose


def questions(cluster: Cluster) -> tuple[Question, ...]:
    """By Service, in its order; the same for every mode, since addresses do not depend on it."""
    found: list[Question] = []
    for family in cluster.config.families:
        scene = Scene(cluster, family)
        for service in cluster.services:
            if service.proxied() and not service.headless:
                for port in service.ports:
                    found += _of_port(scene, service, port)
        found += _beside_the_ports(scene)
        found += _unallocated(scene)
    return tuple(dict.fromkeys(found))


def answer(cluster: Cluster, question: Question, results: Sequence[Result]) -> Answer:
    """Of several results the first that counts: the sender's own answer where it asks itself, else the first."""
    sender = question.flow.sender
    own = [result for result in results if not question.itself or result.server == sender.name]
    result = (own or results)[0]
    return Answer(result=result, whose=_whose(cluster, sender, result.source))


def explain(question: Question, answers: Mapping[str, Answer]) -> tuple[bool, Divergence | None]:
    """Whether the modes (the keys) differ and, when they do, the documented divergence that parts them as seen."""
    if len({each.seen for each in answers.values()}) < 2:
        return False, None
    for known in question.known:
        with_it = {each.seen for mode, each in answers.items() if mode in known.modes}
        without = {each.seen for mode, each in answers.items() if mode not in known.modes}
        if with_it and without and not with_it & without:
            return True, known
    return True, None


def _of_port(scene: Scene, service: Service, port: ServicePort) -> Iterator[Question]:
    protocol = probe_protocol(scene, port, [e for e in port.endpoints if e.ip.version == scene.family])
    if protocol is None:  # nothing of the lab answers at some endpoint
        return
    virtual = address_of(service.cluster_ips, scene.family)
    known = (LOCAL_WITHOUT_ENDPOINTS,) if service.internal_local else ()
    for client, place, home in _insiders(scene, port):
        itself = client == "endpoint"
        tries = _TRIES_PER_ENDPOINT * len(port.endpoints) if itself and not service.session_affinity_seconds else 1
        for destination, address, number in _addresses(scene, service, port, home):
            yield Question(
                client=client,
                destination=destination,
                service=service.key,
                flow=Flow(
                    sender=place,
                    destination=Place(kind="service", name=service.key),
                    address=str(address),
                    protocol=protocol,
                    port=number,
                ),
                known=known if address == virtual else _known(service, port, home, of_node=place.kind == "node"),
                itself=itself,
                tries=tries if address == virtual or service.external_local else 1,
            )
    yield from _localhost(scene, service, port, protocol)
    yield from _from_outside(scene, service, port, protocol)


def _addresses(scene: Scene, service: Service, port: ServicePort, home: str) -> Iterator[tuple[str, IPAddress, int]]:
    """Where a client on the node `home` may ask for a port: name, address, port number.

    With policy Local not the node ports of other nodes: those take a pod for a stranger or not by chance of the
    endpoint, which may answer past them.
    """
    virtual = address_of(service.cluster_ips, scene.family)
    if virtual is not None:
        yield "ClusterIP", virtual, port.port
    for name, node in _entries(scene, port).items() if port.node_port else ():
        address = scene.node_ip(node)
        if address is not None and (node.name == home or not service.external_local):
            yield f"NodePort {name}", address, port.node_port
    for kind, addresses in (("LB IP", service.load_balancer_ips), ("externalIP", service.external_ips)):
        for address in addresses:
            if address.version == scene.family:
                yield kind, address, port.port


def _entries(scene: Scene, port: ServicePort) -> dict[str, Node]:
    """A node with an endpoint of the port, and one without, as far as there are such."""
    having = {e.node for e in port.endpoints if e.ready and e.ip.version == scene.family}
    with_one = next((node for node in scene.nodes.values() if node.name in having), None)
    without = next((node for node in scene.nodes.values() if node.name not in having), None)
    found = {"with endpoint": with_one, "without endpoint": without}
    return {name: node for name, node in found.items() if node is not None}


def _insiders(scene: Scene, port: ServicePort) -> Iterator[tuple[str, Place, str]]:
    """Who asks from inside, and on which node: pods, an endpoint, nodes."""
    backends = {endpoint.pod for endpoint in port.endpoints}
    having = {endpoint.node for endpoint in port.endpoints if endpoint.ready}
    strangers = [pod for pod in scene.pods if pod.key not in backends]
    own = next((p for p in scene.pods if any(e.pod == p.key and e.ready for e in port.endpoints)), None)
    found: tuple[tuple[str, Pod | None], ...] = (
        ("pod beside", next((pod for pod in strangers if pod.node in having), None)),
        ("pod elsewhere", next((pod for pod in strangers if pod.node not in having), None)),
        ("endpoint", own),
    )
    for name, pod in found:
        if pod is not None:
            yield name, pod_place(pod), pod.node
    for name, node in _entries(scene, port).items():
        yield f"node {name}", node_place(node), node.name


def _known(service: Service, port: ServicePort, entry: str, *, of_node: bool = False) -> tuple[Divergence, ...]:
    """What may part the modes when a client enters by the node `entry`."""
    if of_node and not any(endpoint.ready or endpoint.serving for endpoint in port.endpoints):
        return (NO_ENDPOINTS_FROM_NODE,)
    if not service.external_local:
        return ()
    if any(endpoint.node == entry and endpoint.ready for endpoint in port.endpoints):
        return (NODE_SOURCE,) if of_node else (LOCAL_SHORT_CIRCUIT,)
    return (LOCAL_WITHOUT_ENDPOINTS,)


def _localhost(scene: Scene, service: Service, port: ServicePort, protocol: FlowProtocol) -> Iterator[Question]:
    for name, node in _entries(scene, port).items() if port.node_port else ():
        yield Question(
            client=f"node {name}",
            destination="NodePort at localhost",
            service=service.key,
            flow=Flow(
                sender=node_place(node),
                destination=Place(kind="service", name=service.key),
                address="127.0.0.1" if scene.family == 4 else "::1",
                protocol=protocol,
                port=port.node_port,
            ),
            known=(LOCALHOST_NODE_PORT,),
        )


def _from_outside(scene: Scene, service: Service, port: ServicePort, protocol: FlowProtocol) -> Iterator[Question]:
    asked: list[tuple[str, IPAddress, int, Node]] = []
    for name, node in _entries(scene, port).items() if port.node_port else ():
        own = scene.node_ip(node)
        if own is not None:
            asked.append((f"NodePort {name}", own, port.node_port, node))
    asked += [("LB IP", ip, port.port, by[0]) for ip, by in scene.announced.items() if ip in service.load_balancer_ips]
    asked += [("externalIP", ip, port.port, by) for ip, by in scene.routed.items() if ip in service.external_ips]
    for destination, address, number, node in asked:
        if address.version == scene.family:
            yield Question(
                client="external",
                destination=destination,
                service=service.key,
                flow=Flow(
                    sender=external_place(names.CLIENT),
                    destination=Place(kind="service", name=service.key),
                    address=str(address),
                    protocol=protocol,
                    port=number,
                ),
                known=_known(service, port, node.name),
            )


def _beside_the_ports(scene: Scene) -> Iterator[Question]:
    """A port of a ClusterIP that the Service does not have, and a ping to it; one Service stands for all."""
    services = (service for service in scene.cluster.services if service.proxied())
    found = ((service, address_of(service.cluster_ips, scene.family)) for service in services)
    service, virtual = next(((each, ip) for each, ip in found if ip is not None), (None, None))
    if service is None or virtual is None:
        return
    taken = {port.port for port in service.ports if port.protocol == "TCP"}
    number = next(number for number in range(9, 65536) if number not in taken)
    to = Place(kind="service", name=service.key)
    for client, place in _anybody(scene):
        strange = Flow(sender=place, destination=to, address=str(virtual), protocol="TCP", port=number)
        ping = Flow(sender=place, destination=to, address=str(virtual), protocol="ICMP")
        yield Question(
            client=client, destination="undefined port", service=service.key, flow=strange, known=(UNDEFINED_PORT,)
        )
        yield Question(
            client=client, destination="ping to ClusterIP", service=service.key, flow=ping, known=(PING_TO_CLUSTER_IP,)
        )


def _unallocated(scene: Scene) -> Iterator[Question]:
    """An address of the Service range that no Service has: the last one that is free."""
    subnet = next((each for each in scene.cluster.config.service_subnets if each.version == scene.family), None)
    taken = {ip for service in scene.cluster.services for ip in service.cluster_ips}
    if subnet is None or not taken:
        return
    free = next(ip for offset in range(2, subnet.num_addresses) if (ip := subnet[-offset]) not in taken)
    for client, place in _anybody(scene):
        flow = Flow(
            sender=place, destination=Place(kind="ip", name=str(free)), address=str(free), protocol="TCP", port=80
        )
        yield Question(
            client=client, destination="unallocated ClusterIP", service="", flow=flow, known=(UNALLOCATED_CLUSTER_IP,)
        )


def _anybody(scene: Scene) -> Iterator[tuple[str, Place]]:
    for pod in scene.pods[:1]:
        yield "pod", pod_place(pod)
    for node in list(scene.nodes.values())[:1]:
        yield "node", node_place(node)


def _whose(cluster: Cluster, sender: Place, source: str) -> str:
    if not source:
        return ""
    address = ip_address(source)
    pod = cluster.pod(sender.name) if sender.kind == "pod" else None
    if pod is not None and not pod.host_network and address in pod.ips:
        return "pod"
    if sender.kind == "external" and address == names.outside_address(sender.name, 4 if address.version == 4 else 6):
        return "client"
    of_nodes = {ip for node in cluster.nodes for ip in node_sources(cluster, node, 4 if address.version == 4 else 6)}
    return "node" if address in of_nodes else source
