"""Whose rule is it? From a line that the kernel refused back to the Service that it was planned for.

A rule, chain, set entry or virtual server says itself whose it is, in one of these ways, the surest first: by name (a
comment, an nftables chain's name), by the hash in an iptables chain's name, by an address of the Service, by a port of
the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster, Service
from k8snetlab.plan.proxy.chains import chain_hash, endpoint_text, port_name

_NAME: Final = re.compile(r"(?<![\w./-])([a-z0-9-]+/[a-z0-9-]+)(?![\w./-]*/\d)")
_NFT_NAME: Final = re.compile(r"[A-Z2-7]{8}-([a-z0-9-]+/[a-z0-9-]+)/")
_HASH: Final = re.compile(r"KUBE-(?:SVC|SVL|EXT|FW|SEP)-([A-Z2-7]{16})")
_ADDRESS: Final = re.compile(r"[0-9a-fA-F]*[.:][0-9a-fA-F.:]+")
_NODE_PORT: Final = re.compile(r"(?:--dport |tcp \. |udp \. |sctp \. |PORT[A-Z-]* (?:[\d.a-f:]+,\w+:)?)(\d+)")


def refused_service(cluster: Cluster, refused: str) -> Service | None:
    """The Service of the cluster that a refused line, as a KernelError's `subject` has it, was planned for."""
    services = [service for service in cluster.services if service.proxied()]
    by_name = {service.key: service for service in services}
    for pattern in (_NFT_NAME, _NAME):
        for name in pattern.findall(refused):
            if name in by_name:
                return by_name[name]
    hashes = set(_HASH.findall(refused))
    if hashes:
        return next((service for service in services if not hashes.isdisjoint(_hashes(service))), None)
    # An IPv4 address may be followed by `:port`, and an IPv6 one stand in brackets.
    found = {text.rstrip(".:") for text in _ADDRESS.findall(refused)}
    found |= {text.rpartition(":")[0] for text in found}
    for service in services:
        addresses = (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
        if not found.isdisjoint(map(str, addresses)):
            return service
    numbers = {int(number) for number in _NODE_PORT.findall(refused)}
    return next((service for service in services if not numbers.isdisjoint(_node_ports(service))), None)


def _hashes(service: Service) -> Iterator[str]:
    for port in service.ports:
        name, protocol = port_name(service.namespace, service.name, port.name), port.protocol.lower()
        yield chain_hash(name, protocol)
        for endpoint in port.endpoints:
            yield chain_hash(name, protocol, endpoint_text(endpoint.ip, endpoint.port, endpoint.ip.version))


def _node_ports(service: Service) -> set[int]:
    return {*(port.node_port for port in service.ports), service.health_check_node_port} - {0}
