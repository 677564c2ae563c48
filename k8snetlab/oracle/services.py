"""What Kubernetes promises to a client of a Service: the outcome, who may answer, and which address the server sees.

Written from the specification alone (Service API reference, "Virtual IPs and Service Proxies", KEP-1669, KEP-4444 and
the truth table of kube-proxy's own end-to-end tests), never from the rules the lab plans: `plan` and
`cluster.endpoint_choice` are another reading of the same text, and a disagreement is a bug in one of them. Where a mode
of kube-proxy is documented to behave otherwise, `divergences` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from k8snetlab.cluster.model import Cluster, Endpoint, Family, IPAddress, Node, Pod, Service, ServicePort
from k8snetlab.cluster.networks import facts
from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Outcome, SeenSource
from k8snetlab.oracle.divergences import LOCAL_WITHOUT_ENDPOINTS

Via = Literal["cluster-ip", "node-port", "load-balancer", "external-ip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who connects: a pod (`pod` set), a process of a node (only `node` set), or somebody outside (neither)."""

    address: IPAddress
    node: Node | None = None
    pod: Pod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """`servers` are pod keys, none when somebody else than a pod may answer; `sources` every address the server may
    see, `source` whose they are. `endpoints` are those that the connection may go to."""

    outcome: Outcome
    endpoints: tuple[Endpoint, ...] = ()
    servers: tuple[str, ...] = ()
    source: SeenSource | None = None
    sources: tuple[IPAddress, ...] = ()


def expect(
    cluster: Cluster, service: Service, port: ServicePort, client: Client, via: Via, entry: Node | None = None
) -> Expectation:
    """What a connection must come to. `entry` is the node by which it enters the cluster, or whose nodePort is used.

    None is needed for a ClusterIP, and by pods and nodes: the rules of their own node know every other address.
    """
    family: Family = 4 if client.address.version == 4 else 6
    endpoints = [endpoint for endpoint in port.endpoints if endpoint.ip.version == family]
    if via == "load-balancer" and not _admitted(service, client):
        # Only load balancer addresses are guarded, and in silence (conformance LB.4, LB.6).
        return Expectation(outcome="timeout")
    local_policy = service.internal_local if via == "cluster-ip" else service.external_local
    if local_policy and cluster.config.proxy_mode in LOCAL_WITHOUT_ENDPOINTS.modes:
        return _expect_shared_list(cluster, service, port, client, via, entry, endpoints)
    if via == "cluster-ip":
        assert client.node is not None, "nobody outside has a route to a ClusterIP"
        usable = local_choice(endpoints, client.node) if service.internal_local else open_choice(endpoints, client.node)
        return _judge(cluster, endpoints, usable, client, keeps=_keeps(cluster, client), entry=client.node)
    entry = entry or client.node
    assert entry is not None
    if not service.external_local:
        return _judge(cluster, endpoints, open_choice(endpoints, entry), client, keeps=False, entry=entry)
    # externalTrafficPolicy Local is about clients from outside: the cluster's own pods, and processes of the entry node
    # itself, are answered as if it were Cluster (KEP-1669; proxier_test "pod to NodePort with eTP:Local").
    if client.pod is not None and not client.pod.host_network:
        return _judge(cluster, endpoints, open_choice(endpoints, entry), client, keeps=True, entry=entry)
    if client.node is not None and client.node.name == entry.name:
        return _judge(cluster, endpoints, open_choice(endpoints, entry), client, keeps=False, entry=entry)
    return _judge(cluster, endpoints, local_choice(endpoints, entry), client, keeps=True, entry=entry)


def _keeps(cluster: Cluster, client: Client) -> bool:
    """Whether a client of a ClusterIP keeps its address.

    A pod does, a node process does not: it may have picked any of the node's addresses before the destination was
    translated, so the reply could bypass the node (proxier_test "node to ClusterIP").
    """
    return client.pod is not None and not client.pod.host_network and not cluster.config.masquerade_all


def _expect_shared_list(
    cluster: Cluster,
    service: Service,
    port: ServicePort,
    client: Client,
    via: Via,
    entry: Node | None,
    endpoints: Sequence[Endpoint],
) -> Expectation:
    """Policy Local where every client gets the same list of backends (ipvs: `LOCAL_SHORT_CIRCUIT`): the local ones or,
    where there are none, all of them. Nobody is masqueraded at a node port with this policy."""
    node = client.node if via == "cluster-ip" else entry or client.node
    assert node is not None
    usable = local_choice(endpoints, node)
    elsewhere = not usable
    # An internal-only Service with internalTrafficPolicy Local has no list of the cluster's endpoints to fall back on.
    reached_from_outside = bool(port.node_port or service.external_ips or service.load_balancer_ips)
    if elsewhere and (reached_from_outside or not service.internal_local):
        usable = open_choice(endpoints, node)
    if not usable:
        return Expectation(outcome="refused")
    if via == "cluster-ip":
        return _judge(cluster, endpoints, usable, client, keeps=_keeps(cluster, client), entry=node)
    at_home = client.node is not None and client.node.name == node.name
    if elsewhere and not at_home:
        return Expectation(outcome="timeout")  # the endpoint answers the client itself, past the node it has asked
    of_pod = client.pod is not None and not client.pod.host_network
    return _judge(cluster, endpoints, usable, client, keeps=of_pod or not at_home, entry=node)


def _admitted(service: Service, client: Client) -> bool:
    """loadBalancerSourceRanges; a family that none of them belongs to is not restricted."""
    ranges = [network for network in service.load_balancer_source_ranges if network.version == client.address.version]
    return not ranges or any(client.address in network for network in ranges)


def open_choice(endpoints: Sequence[Endpoint], node: Node) -> list[Endpoint]:
    """Policy Cluster, seen from a node: the ready ones, narrowed by topology hints; else those still serving while
    they terminate."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if not ready:
        return [endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating]
    near = [endpoint for endpoint in ready if node.name in endpoint.nodes]
    if near and all(endpoint.nodes for endpoint in ready):
        return near
    same_zone = [endpoint for endpoint in ready if node.zone and node.zone in endpoint.zones]
    if same_zone and all(endpoint.zones for endpoint in ready):
        return same_zone
    return ready


def local_choice(endpoints: Sequence[Endpoint], node: Node) -> list[Endpoint]:
    """Policy Local: only endpoints on this node, the ready ones or, if none is, those serving while they terminate."""
    here = [endpoint for endpoint in endpoints if endpoint.node == node.name]
    return [e for e in here if e.ready] or [e for e in here if e.serving and e.terminating]


def node_sources(_cluster: Cluster, node: Node, family: Family) -> tuple[IPAddress, ...]:
    """Every address a server may know a node by: its own, those the pod network gives it (its bridge's, its tunnel
    end's), and those it has on further networks."""
    further = (address.ip for each in node.interfaces for address in each.addresses)
    own = (*node.addresses, *node.network_addresses, *further)
    return tuple(address for address in own if address.version == family)


def _judge(
    cluster: Cluster,
    endpoints: Sequence[Endpoint],
    usable: Sequence[Endpoint],
    client: Client,
    *,
    keeps: bool,
    entry: Node,
) -> Expectation:
    if not usable:
        # Nothing anywhere is refused at once; a Local policy with endpoints only elsewhere is dropped in silence, so
        # that a load balancer's probe sees a dead node (conformance SVC.7, TP.2, TP.6).
        elsewhere = any(e.ready or (e.serving and e.terminating) for e in endpoints)
        return Expectation(outcome="timeout" if elsewhere else "refused")
    keys = {endpoint.pod for endpoint in usable}
    servers = () if None in keys else tuple(sorted(key for key in keys if key))
    family: Family = 4 if client.address.version == 4 else 6
    of_entry = node_sources(cluster, entry, family)
    promise = Expectation(outcome="ok", endpoints=tuple(usable), servers=servers, source="node", sources=of_entry)
    lent = [endpoint for endpoint in usable if _borrows(cluster, endpoint, client)]
    if not keeps or len(lent) == len(usable):
        return promise
    own: SeenSource = "pod" if client.pod is not None else "client"
    return replace(promise, source=own, sources=(client.address, *(of_entry if lent else ())))


def _borrows(cluster: Cluster, endpoint: Endpoint, client: Client) -> bool:
    """Whether even a client that keeps its address towards others is seen as the node by this endpoint.

    Hairpin: the server is the client. With its own address as source it would answer itself, past the node (HAIR.1).
    Egress: what a pod sends to an endpoint outside the cluster is masqueraded on its way out (POD.8).
    """
    if endpoint.ip == client.address:
        return True
    if client.pod is None:
        return False
    if any(endpoint.ip in node.addresses for node in cluster.nodes):
        # Many networks masquerade all that leaves the pod network, also what goes to other nodes; the pod's own node it
        # reaches without leaving.
        away = client.node is None or endpoint.ip not in client.node.addresses
        return away and facts(cluster.config.network).masquerades_to_nodes
    return not endpoint.pod and not any(endpoint.ip in subnet for subnet in cluster.config.pod_subnets)
