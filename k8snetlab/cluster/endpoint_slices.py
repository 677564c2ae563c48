"""The EndpointSlice and Endpoints objects that the controllers keep for each Service, for people and DNS to read.

Data planes use `ServicePort.endpoints`, which hold the same facts already put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k8snetlab.cluster.endpoints import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_NAME,
    Written,
    find_backends,
    port_endpoints,
)
from k8snetlab.cluster.model import Cluster, Endpoint, Family, Service
from k8snetlab.cluster.podnames import suffix
from k8snetlab.manifests.api import core
from k8snetlab.manifests.api.meta import ObjectMeta

MAX_ENDPOINTS = 100  # kube-controller-manager --max-endpoints-per-slice
MIRRORING = "endpointslicemirroring-controller.k8s.io"

Mapping = tuple[int, ...]  # the number behind each port of the Service, 0 where an address lacks it
Group = tuple[Family, Mapping, tuple[Endpoint, ...]]  # the endpoints of one family with the same numbers


def group_endpoints(cluster: Cluster, service: Service) -> list[Group]:
    """What stands behind the Service, one entry an address, split where named ports differ; primary family first.

    A headless Service may have no ports and still has addresses: their mapping is empty.
    """
    numbers: dict[tuple[Family, int], list[int]] = {}
    seen: dict[tuple[Family, int], Endpoint] = {}
    ports = service.ports or ()
    listed = [port.endpoints for port in ports] if ports else [_portless(cluster, service)]
    for position, endpoints in enumerate(listed):
        for endpoint in endpoints:
            family: Family = 4 if endpoint.ip.version == 4 else 6
            key = family, int(endpoint.ip)
            seen.setdefault(key, endpoint)
            numbers.setdefault(key, [0] * len(ports))
            if ports:
                numbers[key][position] = endpoint.port
    groups: dict[tuple[Family, Mapping], list[Endpoint]] = {}
    for key in sorted(seen, key=lambda key: key[1]):
        groups.setdefault((key[0], tuple(numbers[key])), []).append(seen[key])
    families = families_of(service)
    found = [(family, mapping, tuple(endpoints)) for (family, mapping), endpoints in groups.items()]
    return sorted(found, key=lambda group: (families.index(group[0]), group[1]))


def families_of(service: Service) -> tuple[Family, ...]:
    return tuple(6 if name == "IPv6" else 4 for name in service.spec.ip_families)


def _portless(cluster: Cluster, service: Service) -> tuple[Endpoint, ...]:
    spec = replace(service.spec, ports=(core.ServicePort(port=1),))
    backends = find_backends(cluster.pods, cluster.nodes, Written())
    return port_endpoints(service.namespace, service.name, spec, service.annotations, families_of(service), backends)[0]


def generated_slices(cluster: Cluster, service: Service) -> tuple[core.EndpointSlice, ...]:
    """The Service's slices: at most 100 endpoints each, one family and one set of port numbers each.

    A Service with selector and without pods has one empty slice a family. Addresses that stand in slices written by
    hand are left out: those slices exist beside these.
    """
    if service.spec.type == "ExternalName":
        return ()
    by_hand = {
        address
        for written in cluster.endpoint_slices
        if written.metadata.namespace == service.namespace
        and written.metadata.labels.get(SERVICE_NAME) == service.name
        and written.metadata.labels.get(MANAGED_BY) != CONTROLLER
        for endpoint in written.endpoints
        for address in endpoint.addresses
    }
    slices: list[core.EndpointSlice] = []
    for family, mapping, endpoints in group_endpoints(cluster, service):
        own = [endpoint for endpoint in endpoints if str(endpoint.ip) not in by_hand]
        for start in range(0, len(own), MAX_ENDPOINTS):
            slices.append(_slice(service, family, mapping, own[start : start + MAX_ENDPOINTS], len(slices)))
    if service.spec.selector:
        present = {slice_.address_type for slice_ in slices}
        for family in families_of(service):
            if f"IPv{family}" not in present:
                slices.append(_slice(service, family, (), (), len(slices)))
    return tuple(slices)


def _slice(
    service: Service, family: Family, mapping: Mapping, endpoints: Sequence[Endpoint], number: int
) -> core.EndpointSlice:
    labels = {SERVICE_NAME: service.name, MANAGED_BY: CONTROLLER if service.spec.selector else MIRRORING}
    if service.headless:
        labels["service.kubernetes.io/headless"] = ""
    tail = suffix(service.namespace, service.name, str(family), str(number))
    return core.EndpointSlice(
        metadata=ObjectMeta(name=f"{service.name}-{tail}", namespace=service.namespace, labels=labels),
        address_type="IPv4" if family == 4 else "IPv6",
        endpoints=tuple(_slice_endpoint(endpoint) for endpoint in endpoints),
        ports=tuple(
            core.SlicePort(name=port.name, port=number, protocol=port.protocol)
            for port, number in zip(service.ports, mapping, strict=False)
            if number
        ),
    )


def _slice_endpoint(endpoint: Endpoint) -> core.SliceEndpoint:
    hints = None
    if endpoint.zones or endpoint.nodes:
        hints = core.EndpointHints(
            for_zones=tuple(core.ForZone(name=zone) for zone in endpoint.zones),
            for_nodes=tuple(core.ForNode(name=node) for node in endpoint.nodes),
        )
    return core.SliceEndpoint(
        addresses=(str(endpoint.ip),),
        conditions=core.EndpointConditions(
            ready=endpoint.ready, serving=endpoint.serving, terminating=endpoint.terminating
        ),
        hostname=endpoint.hostname or None,
        node_name=endpoint.node,
        zone=endpoint.zone or None,
        target_ref=_reference(endpoint),
        hints=hints,
    )


def _reference(endpoint: Endpoint) -> core.ObjectReference | None:
    if endpoint.pod is None:
        return None
    namespace, _, name = endpoint.pod.partition("/")
    return core.ObjectReference(kind="Pod", namespace=namespace, name=name)


def endpoints_object(cluster: Cluster, service: Service) -> core.Endpoints:
    """The older Endpoints object: the primary family only, terminating pods left out."""
    return core.Endpoints(
        metadata=ObjectMeta(name=service.name, namespace=service.namespace, labels=service.labels),
        subsets=tuple(_subsets(cluster, service)),
    )


def _subsets(cluster: Cluster, service: Service) -> Iterator[core.EndpointSubset]:
    for family, mapping, endpoints in group_endpoints(cluster, service):
        ready = tuple(_address(endpoint) for endpoint in endpoints if endpoint.ready)
        waiting = tuple(_address(endpoint) for endpoint in endpoints if not endpoint.ready and not endpoint.terminating)
        if family == families_of(service)[0] and (ready or waiting):
            yield core.EndpointSubset(
                addresses=ready,
                not_ready_addresses=waiting,
                ports=tuple(
                    core.EndpointsPort(name=port.name, port=number, protocol=port.protocol)
                    for port, number in zip(service.ports, mapping, strict=True)
                    if number
                ),
            )


def _address(endpoint: Endpoint) -> core.EndpointAddress:
    return core.EndpointAddress(
        ip=str(endpoint.ip),
        hostname=endpoint.hostname,
        node_name=endpoint.node,
        target_ref=_reference(endpoint),
    )
