"""Derive the checks of a cluster: one for each type of communication and object, and those of the Check documents.

The number grows with Services and nodes, never with pairs of pods. The same cluster always gives the same checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node, Pod, Service, ServicePort
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Check, Flow, IPAddress, Place
from k8snetlab.flows.targets import node_place, pod_place
from k8snetlab.oracle.direct import direct_checks
from k8snetlab.oracle.dns import dns_checks
from k8snetlab.oracle.hostports import host_port_checks
from k8snetlab.oracle.places import Scene, address_of, external_place, probe_protocol
from k8snetlab.oracle.policy_checks import policy_checks
from k8snetlab.oracle.services import Client, Expectation, Via, expect, node_sources
from k8snetlab.oracle.under_policies import MOST_TRIES, service_under_policies, under_policies
from k8snetlab.oracle.written import written_checks

# The types of communication that exist, in the order in which they are shown.
TYPES = (
    "container-to-container",
    "pod-to-pod-same-node",
    "pod-to-pod-cross-node",
    "pod-to-itself-via-service",
    "pod-to-node",
    "node-to-pod",
    "pod-to-clusterip",
    "node-to-clusterip",
    "pod-to-headless",
    "pod-to-nodeport",
    "external-to-nodeport",
    "external-to-hostport",
    "pod-to-hostport",
    "node-to-hostport",
    "external-to-loadbalancer",
    "external-to-externalip",
    "external-to-ingress",
    "external-to-gateway",
    "pod-to-dns",
    "pod-to-external",
    "policy-allowed",
    "policy-denied",
    "custom",  # Check documents
)


def derive(cluster: Cluster) -> tuple[Check, ...]:
    """Every check of the cluster, by type in the order of `TYPES`."""
    found: list[Check] = []
    for family in cluster.config.families:
        scene = Scene(cluster, family)
        found += direct_checks(scene)
        found += dns_checks(scene)
        found += policy_checks(scene)
        found += host_port_checks(scene)
        for service in cluster.own_services:
            found += _service_checks(scene, service)
        if cluster.ingresses or cluster.gateways:
            from k8snetlab.oracle.gateway_checks import gateway_checks

            found += gateway_checks(scene)
    found += written_checks(cluster)
    order = {kind: number for number, kind in enumerate(TYPES)}
    return tuple(sorted(dict.fromkeys(found), key=lambda check: order[check.type]))


def of_types(checks: Sequence[Check], types: Sequence[str]) -> tuple[Check, ...]:
    """Those of the given types, all when none is given; UsageError for a type that does not exist."""
    unknown = [kind for kind in types if kind not in TYPES]
    if unknown:
        raise UsageError(f"unknown type of check: {', '.join(unknown)}", hint=f"the types are {', '.join(TYPES)}")
    return tuple(check for check in checks if not types or check.type in types)


def _service_checks(scene: Scene, service: Service) -> Iterator[Check]:
    if service.headless:
        yield from _headless(scene, service)
    virtual = address_of(service.cluster_ips, scene.family)
    if virtual is None or not service.proxied() or scene.cluster.config.proxy_mode == "none":
        return
    for port in service.ports:
        yield from _cluster_ip(scene, service, port, virtual)
        if port.node_port:
            yield from _node_port(scene, service, port)
        yield from _from_outside(scene, service, port)


def _cluster_ip(scene: Scene, service: Service, port: ServicePort, virtual: IPAddress) -> Iterator[Check]:
    """From a pod beside an endpoint and one that is not, from an endpoint itself, and from a node."""
    for pod in _clients(scene, port):
        yield from _checks(scene, "pod-to-clusterip", _pod_client(scene, pod), service, port, "cluster-ip", virtual)
    yield from _hairpin(scene, service, port, virtual)
    node = next(iter(scene.nodes.values()))
    yield from _checks(scene, "node-to-clusterip", _node_client(scene, node), service, port, "cluster-ip", virtual)


def _hairpin(scene: Scene, service: Service, port: ServicePort, virtual: IPAddress) -> Iterator[Check]:
    """An endpoint of the Service asks it until it is answered by itself, and must then see its node's address (HAIR.1).

    With n endpoints, 12 n tries miss one of them with probability e^-12.
    """
    backend = next((pod for pod in scene.pods if any(e.pod == pod.key and e.ready for e in port.endpoints)), None)
    if backend is None:
        return
    client = _pod_client(scene, backend)
    sources = node_sources(scene.cluster, scene.nodes[backend.node], scene.family)
    for check in _checks(scene, "pod-to-itself-via-service", client, service, port, "cluster-ip", virtual):
        # With session affinity the first answer binds the client, perhaps to another endpoint: only a sole one is sure.
        certain = service.session_affinity_seconds == 0 or len(check.servers) == 1
        if backend.key in check.servers and certain:
            tries = 12 * (len(check.servers) + len(check.forbidden))
            if not check.forbidden or tries <= MOST_TRIES:
                yield replace(check, source="node", sources=sources, servers=(backend.key,), tries=tries)


def _node_port(scene: Scene, service: Service, port: ServicePort) -> Iterator[Check]:
    """From a pod to its own node and to another one, and from outside to every node."""
    for pod in _clients(scene, port)[:1]:
        own = scene.nodes[pod.node]
        other = next((node for node in scene.nodes.values() if node.name != pod.node), None)
        if service.external_local:
            # The other node hands a pod's connection to an endpoint anywhere without masquerading it, so an endpoint on
            # a third node answers the pod directly, with an address the pod never asked: no promise to check here.
            other = None
        for node in (own, other):
            if node is not None and (address := scene.node_ip(node)):
                client = _pod_client(scene, pod)
                yield from _checks(scene, "pod-to-nodeport", client, service, port, "node-port", address, entry=node)
    outside = Client(address=names.outside_address(names.CLIENT, scene.family))
    for node in scene.nodes.values():
        address = scene.node_ip(node)
        if address:
            yield from _checks(scene, "external-to-nodeport", outside, service, port, "node-port", address, entry=node)


def _from_outside(scene: Scene, service: Service, port: ServicePort) -> Iterator[Check]:
    """From outside to the addresses of load balancers and to external IPs, by whichever nodes take them in."""
    outside = Client(address=names.outside_address(names.CLIENT, scene.family))
    for address, nodes in scene.announced.items():
        if address in service.load_balancer_ips and address.version == scene.family:
            yield from _external_address(scene, "external-to-loadbalancer", outside, service, port, address, nodes)
    for address, node in scene.routed.items():
        if address in service.external_ips and address.version == scene.family:
            yield from _external_address(scene, "external-to-externalip", outside, service, port, address, (node,))


def _external_address(
    scene: Scene,
    kind: str,
    client: Client,
    service: Service,
    port: ServicePort,
    address: IPAddress,
    nodes: Sequence[Node],
) -> Iterator[Check]:
    """One check; with several nodes (BGP) the router picks one by the connection, so any of their answers will do."""
    via: Via = "load-balancer" if kind == "external-to-loadbalancer" else "external-ip"
    found = [
        check for node in nodes for check in _checks(scene, kind, client, service, port, via, address, routed_to=node)
    ]
    if found and all(check.expected == found[0].expected for check in found):
        sources = dict.fromkeys(source for check in found for source in check.sources)
        servers = dict.fromkeys(server for check in found for server in check.servers)
        yield replace(found[0], sources=tuple(sources), servers=tuple(servers))


def _headless(scene: Scene, service: Service) -> Iterator[Check]:
    """A headless Service gives its clients the pods themselves: no proxy, no NAT (HL.6)."""
    for port in service.ports:
        for endpoint in port.endpoints:
            server = scene.cluster.pod(endpoint.pod) if endpoint.pod else None
            client = next((pod for pod in scene.pods if server is None or pod.key != server.key), None)
            protocol = probe_protocol(scene, port, (endpoint,))
            usable = endpoint.ip.version == scene.family and endpoint.ready
            if not usable or server is None or client is None or protocol is None:
                continue
            own = scene.ip(client)
            check = Check(
                type="pod-to-headless",
                name=f"{client.key} to {service.key}:{endpoint.port} ({server.name})",
                flow=Flow(
                    sender=pod_place(client),
                    destination=_service_place(service),
                    address=str(endpoint.ip),
                    protocol=protocol,
                    port=endpoint.port,
                ),
                source="pod",
                sources=(own,) if own else (),
                servers=(server.key,),
            )
            yield from under_policies(scene, check)
            break


def _checks(
    scene: Scene,
    kind: str,
    client: Client,
    service: Service,
    port: ServicePort,
    via: Via,
    address: IPAddress,
    entry: Node | None = None,
    routed_to: Node | None = None,
) -> Iterator[Check]:
    """One check, to a node's port (`entry`), or to an address that a node takes in (`routed_to`).

    None when nothing of the lab answers at one of the endpoints: then nobody knows what comes of it.
    """
    expectation = expect(scene.cluster, service, port, client, via, entry or routed_to)
    if entry is not None and not _opens_node_ports(scene, address):
        expectation = Expectation(outcome="refused")
    protocol = probe_protocol(scene, port, expectation.endpoints)
    if protocol is None:
        return
    sender = _sender(client)
    number = port.node_port if via == "node-port" else port.port
    where = f"{entry.name}:{number} ({service.key})" if entry else f"{service.key}:{number}"
    where = f"{address}:{number} ({service.key})" if routed_to else where
    check = Check(
        type=kind,
        name=f"{sender.name} to {where}",
        flow=Flow(
            sender=sender,
            destination=node_place(entry) if entry else _service_place(service),
            address=str(address),
            protocol=protocol,
            port=number,
        ),
        expected=expectation.outcome,
        source=expectation.source,
        sources=expectation.sources,
        servers=expectation.servers,
    )
    yield from service_under_policies(scene, check, service, port, client, expectation, entry)


def _clients(scene: Scene, port: ServicePort) -> list[Pod]:
    """Up to two pods to ask from, none of them an endpoint if that can be: one on an endpoint's node, one elsewhere."""
    backends = {endpoint.pod for endpoint in port.endpoints}
    nodes = {endpoint.node for endpoint in port.endpoints}
    pods = [pod for pod in scene.pods if pod.key not in backends] or list(scene.pods)
    beside = next((pod for pod in pods if pod.node in nodes), None)
    away = next((pod for pod in pods if pod.node not in nodes or (len(nodes) > 1 and pod is not beside)), None)
    return [pod for pod in (beside, away) if pod is not None]


def _pod_client(scene: Scene, pod: Pod) -> Client:
    address = scene.ip(pod)
    assert address is not None
    return Client(address=address, node=scene.nodes[pod.node], pod=pod)


def _node_client(scene: Scene, node: Node) -> Client:
    address = scene.node_ip(node)
    assert address is not None
    return Client(address=address, node=node)


def _sender(client: Client) -> Place:
    if client.pod is not None:
        return pod_place(client.pod)
    return node_place(client.node) if client.node is not None else external_place("client")


def _service_place(service: Service) -> Place:
    return Place(kind="service", name=service.key)


def _opens_node_ports(scene: Scene, address: IPAddress) -> bool:
    """kube-proxy's --nodeport-addresses; ranges of only the other family are as good as none (NP.3, NP.6)."""
    chosen = [cidr for cidr in scene.cluster.config.node_port_addresses if cidr.version == scene.family]
    return not chosen or any(address in cidr for cidr in chosen)
