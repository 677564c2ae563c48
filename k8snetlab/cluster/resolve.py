"""From manifests to a cluster: what the control plane would decide, all of it, as one pure function.

The previous cluster plays the part of etcd: what it holds stays as it is while other things come and go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from k8snetlab.cluster.addons import addons
from k8snetlab.cluster.addresses import parse_address
from k8snetlab.cluster.bandwidth import check_bandwidth
from k8snetlab.cluster.certificates import tls_secrets
from k8snetlab.cluster.config import LabDocument, Overrides, configure, override
from k8snetlab.cluster.creation_order import creation_order
from k8snetlab.cluster.endpoints import Backends, find_backends, port_endpoints, read_written
from k8snetlab.cluster.ip_pools import adopt_pools, make_pools, reservations
from k8snetlab.cluster.ipam import Allocation, allocate
from k8snetlab.cluster.listeners import bind_losers, wanted_listeners
from k8snetlab.cluster.load_balancer import assign_statuses, source_ranges
from k8snetlab.cluster.model import Cluster, Family, IPAddress, IPPool, LabConfig, Node, Pod, Service, ServicePort
from k8snetlab.cluster.nodes import cut_off, make_nodes
from k8snetlab.cluster.problems import problem, raise_all
from k8snetlab.cluster.readiness import probes_pass
from k8snetlab.cluster.scheduling import schedule
from k8snetlab.cluster.service_spec import affinity_seconds
from k8snetlab.cluster.services import Draft, complete_spec, draft_services
from k8snetlab.cluster.workloads import PodSeed, expand
from k8snetlab.errors import Problem
from k8snetlab.manifests.api import admin_policy, calico, core, lab, networking
from k8snetlab.manifests.api.meta import Labels
from k8snetlab.manifests.document import Document, Manifests

__all__ = ["Overrides", "resolve"]

NO_READINESS: Mapping[str, bool] = {}
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
Kind = TypeVar("Kind")


def resolve(
    manifests: Manifests,
    overrides: Overrides = Overrides(),  # noqa: B008 - a frozen value
    previous: Cluster | None = None,
    readiness: Mapping[str, bool] = NO_READINESS,
    previous_manifests: Manifests | None = None,
    *,
    with_addons: bool = False,
) -> Cluster:
    """What a control plane makes of the manifests; the same input always gives an equal cluster.

    `previous_manifests` are those that `previous` was made from: a Service whose document is the same object in both is
    not worked out again, it only gets its endpoints. `readiness` (pod key → ready, from `set-ready`) wins over the
    probes; nodes that are down are in it too, see `nodes.cut_off`. `with_addons` adds what a running cluster has of
    its own (`addons`). Raises `ClusterError` with every problem: a second Lab document, overlapping subnets, no node
    that fits, an address or port that is taken, a full range.
    """
    documents = manifests.documents
    problems: list[Problem] = []
    config, pools, nodes = _ground(documents, overrides, previous, problems)
    nodes = cut_off(nodes, readiness)
    raise_all(problems)
    if with_addons:
        documents = (*documents, *addons(config, nodes, documents))
    namespaces = _namespaces(documents)
    pods_before = {pod.key: pod for pod in previous.pods} if previous else {}
    services_before = {service.key: service for service in previous.services} if previous else {}
    seeds, workloads = expand(documents, nodes, pods_before.values(), problems)
    check_bandwidth(seeds, problems)
    placed = schedule(seeds, nodes, namespaces, pods_before, problems)
    addresses = allocate(config, pools, nodes, placed, previous, problems)
    same = _same_documents(config, previous, previous_manifests)
    drafts = draft_services(_of_kind(documents, core.Service), config, services_before, problems, same)
    certificates = tls_secrets(documents, problems)
    statuses = assign_statuses(drafts, config, services_before)
    services = [_service(draft, statuses.get(draft.key, ()), problems) for draft in drafts]
    raise_all(problems)
    pods = _pods(placed, addresses, services, readiness)
    nodes = addresses.nodes
    written = read_written(_objects(documents, core.EndpointSlice), _objects(documents, core.Endpoints))
    backends = find_backends(pods, nodes, written)
    return Cluster(
        config=config,
        nodes=nodes,
        namespaces=namespaces,
        pods=pods,
        services=tuple(
            _with_endpoints(service, draft.families, backends) for service, draft in zip(services, drafts, strict=True)
        ),
        workloads=workloads,
        tls_secrets=certificates,
        creation_order=creation_order(documents, previous.creation_order if previous else None),
        ip_pools=addresses.pools,
        ip_ranges=addresses.ranges,
        ignored=_ignored(manifests, config),
        **_as_written(documents),
    )


def _ground(
    documents: Sequence[Document], overrides: Overrides, previous: Cluster | None, problems: list[Problem]
) -> tuple[LabConfig, tuple[IPPool, ...], tuple[Node, ...]]:
    """What everything else stands on: the configuration, the pools of addresses, the nodes."""
    pool_documents = _of_kind(documents, calico.IPPool)
    lab_document = adopt_pools(_lab_document(documents, overrides, problems), pool_documents)
    config = configure(lab_document, problems)
    if config.network == "calico":
        reserved = reservations(_of_kind(documents, calico.IPReservation))
        config = replace(config, reserved=(*config.reserved, *reserved))
    pools = make_pools(config, lab_document, pool_documents, problems)
    earlier = previous.nodes if previous else ()
    nodes = make_nodes(config, lab_document, overrides.nodes, _of_kind(documents, core.Node), earlier, problems)
    return config, pools, nodes


def _as_written(documents: Sequence[Document]) -> dict[str, tuple[Any, ...]]:
    """The objects of which the control plane decides nothing: the fields of `Cluster` that hold them."""
    return {
        "endpoint_slices": _by_name(_objects(documents, core.EndpointSlice)),
        "network_policies": _by_name(_objects(documents, networking.NetworkPolicy)),
        "admin_policies": (
            *_by_name(_objects(documents, admin_policy.ClusterNetworkPolicy)),
            *_by_name(_objects(documents, admin_policy.AdminNetworkPolicy)),
            *_by_name(_objects(documents, admin_policy.BaselineAdminNetworkPolicy)),
        ),
        "ingresses": _by_name(_objects(documents, networking.Ingress)),
        "ingress_classes": _by_name(_objects(documents, networking.IngressClass)),
        "gateway_classes": _of_gateway_api(documents, "GatewayClass"),
        "gateways": _of_gateway_api(documents, "Gateway"),
        "http_routes": _of_gateway_api(documents, "HTTPRoute"),
        "reference_grants": _of_gateway_api(documents, "ReferenceGrant"),
        "checks": tuple(_objects(documents, lab.Check)),
    }


def _same_documents(config: LabConfig, previous: Cluster | None, manifests: Manifests | None) -> frozenset[int]:
    """The ids of the documents that `previous` was made from, under this very config."""
    if previous is None or manifests is None or previous.config != config:
        return frozenset()
    return frozenset(map(id, manifests.documents))


def _ignored(manifests: Manifests, config: LabConfig) -> Mapping[str, int]:
    """Kinds that nobody reads; Calico's own are read with Calico only."""
    if config.network == "calico":
        return manifests.ignored
    own = Counter(each.kind for each in manifests.documents if each.kind in ("IPPool", "IPReservation"))
    return {**manifests.ignored, **own}


def _of_kind(documents: Sequence[Document], kind: type) -> list[Document]:
    return [document for document in documents if isinstance(document.object, kind)]


def _objects(documents: Sequence[Document], kind: type[Kind]) -> list[Kind]:
    return [document.object for document in documents if isinstance(document.object, kind)]


Named = TypeVar(
    "Named",
    core.EndpointSlice,
    networking.NetworkPolicy,
    admin_policy.ClusterNetworkPolicy,
    admin_policy.AdminNetworkPolicy,
    admin_policy.BaselineAdminNetworkPolicy,
    networking.Ingress,
    networking.IngressClass,
)


def _by_name(objects: Sequence[Named]) -> tuple[Named, ...]:
    return tuple(sorted(objects, key=lambda each: (each.metadata.namespace, each.metadata.name)))


def _of_gateway_api(documents: Sequence[Document], kind: str) -> tuple[Any, ...]:
    """By the name of the kind: the module with its class is imported only where there is one."""
    found = [document for document in documents if document.kind == kind]
    return tuple(document.object for document in sorted(found, key=lambda each: each.key))


def _lab_document(documents: Sequence[Document], overrides: Overrides, problems: list[Problem]) -> LabDocument:
    found = _of_kind(documents, lab.Lab)
    for extra in found[1:]:
        message = f"there is a Lab document already, at {found[0].source}; a lab has one at most"
        problems.append(problem(extra.source, f"Lab {extra.object.metadata.name}".rstrip(), "", message))
    if not found:
        return override(None, None, overrides)
    written = found[0].object
    assert isinstance(written, lab.Lab)
    return override(written, found[0].source, overrides)


def _namespaces(documents: Sequence[Document]) -> dict[str, Labels]:
    """Every namespace that an object lives in exists, as if created first, and carries its own name as a label."""
    names = {document.object.metadata.namespace for document in documents} - {""}
    labels: dict[str, Labels] = {name: {} for name in names | {"default"}}
    for written in _objects(documents, core.Namespace):
        labels[written.metadata.name] = written.metadata.labels
    return {name: {**labels[name], NAMESPACE_LABEL: name} for name in sorted(labels)}


def _service(draft: Draft, status: tuple[core.LoadBalancerIngress, ...], problems: list[Problem]) -> Service:
    """A Service with all but its endpoints. Of its load balancer addresses only those with ipMode VIP are proxied."""
    if draft.kept and draft.before is not None and draft.before.load_balancer_status == status:
        return draft.before
    spec = complete_spec(draft)
    metadata = draft.service.metadata
    vips = [parse_address(ingress.ip) for ingress in status if ingress.ip and ingress.ip_mode != "Proxy"]
    return Service(
        namespace=metadata.namespace,
        name=metadata.name,
        labels=metadata.labels,
        annotations=metadata.annotations,
        spec=spec,
        cluster_ips=tuple(draft.ips[family] for family in draft.families if family in draft.ips),
        external_ips=_external_ips(draft, problems),
        load_balancer_ips=tuple(ip for ip in vips if ip is not None),
        load_balancer_status=status,
        load_balancer_source_ranges=source_ranges(draft, problems),
        ports=tuple(
            ServicePort(
                name=port.name,
                protocol=port.protocol,
                port=port.port,
                target_port=port.port if port.target_port is None else port.target_port,
                node_port=port.node_port,
                endpoints=(),
            )
            for port in spec.ports
        ),
        session_affinity_seconds=affinity_seconds(spec),
        health_check_node_port=draft.health_port,
        source=draft.source,
    )


def _external_ips(draft: Draft, problems: list[Problem]) -> tuple[IPAddress, ...]:
    found: list[IPAddress] = []
    for position, text in enumerate(draft.spec.external_ips if draft.spec.type != "ExternalName" else ()):
        ip = parse_address(text)
        if ip is None:
            message = f"Invalid value: {text!r}: must be an IP address"
            problems.append(problem(draft.source, draft.subject, f"spec.externalIPs[{position}]", message))
        else:
            found.append(ip)
    return tuple(found)


def _with_endpoints(service: Service, families: Sequence[Family], backends: Backends) -> Service:
    found = port_endpoints(service.namespace, service.name, service.spec, service.annotations, families, backends)
    if all(port.endpoints == endpoints for port, endpoints in zip(service.ports, found, strict=True)):
        return service
    ports = zip(service.ports, found, strict=True)
    return replace(service, ports=tuple(replace(port, endpoints=endpoints) for port, endpoints in ports))


def _pods(
    placed: Sequence[tuple[PodSeed, Node]],
    addresses: Allocation,
    services: Sequence[Service],
    readiness: Mapping[str, bool],
) -> tuple[Pod, ...]:
    """The pods with their addresses, by namespace and name. One that cannot bind its ports is never ready."""
    pods = [_pod(seed, node, addresses, readiness) for seed, node in placed]
    pods.sort(key=lambda pod: (pod.namespace, pod.name))
    if on_nodes := [pod for pod in pods if pod.host_network]:
        losers = bind_losers(on_nodes, wanted_listeners(on_nodes, services))
        pods = [replace(pod, ready=False) if pod.key in losers else pod for pod in pods]
    return tuple(pods)


def _pod(seed: PodSeed, node: Node, addresses: Allocation, readiness: Mapping[str, bool]) -> Pod:
    ready = node.ready and seed.phase in ("Running", "Unknown") and readiness.get(seed.key, probes_pass(seed.spec))
    return Pod(
        namespace=seed.namespace,
        name=seed.name,
        node=node.name,
        ips=addresses.ips[seed.key],
        slot=addresses.slots[seed.key],
        labels=seed.labels,
        annotations=seed.annotations,
        spec=seed.spec,
        owner=seed.owner,
        ordinal=seed.order[-1],
        phase=seed.phase,
        ready=ready,
        terminating=seed.terminating,
        source=seed.source,
    )
