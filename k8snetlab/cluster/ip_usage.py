"""How full each range of addresses is, for `get ipam` and `get ippools`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from k8snetlab.cluster.model import Cluster, IPAddress, IPNetwork, IPRange
from k8snetlab.cluster.networks import facts
from k8snetlab.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`capacity` counts what pods (and, with Calico and Weave Net, the nodes' own links) can have at all, `reserved`
    what of it nobody gets unasked, `borrowed` what of `used` other nodes' pods have."""

    capacity: int
    used: int
    reserved: int
    borrowed: int

    @property
    def free(self) -> int:
        return self.capacity - self.used - self.reserved


def usage(cluster: Cluster, each: IPRange) -> Usage:
    held = [(ip, node) for ip, node in _held(cluster) if ip in each.cidr]
    first, last = _bounds(cluster, each.cidr)
    reserved = sum(
        max(min(int(high), last) - max(int(low), first) + 1, 0)
        for low, high in cluster.config.reserved
        if low.version == each.cidr.version
    )
    asked_for = sum(
        any(low.version == ip.version and int(low) <= int(ip) <= int(high) for low, high in cluster.config.reserved)
        for ip, _ in held
    )
    return Usage(
        capacity=last - first + 1,
        used=len(held),
        reserved=reserved - asked_for,
        borrowed=sum(node != each.node for _, node in held),
    )


def rendered_ranges(cluster: Cluster) -> Iterator[dict[str, Any]]:
    for each in cluster.ip_ranges:
        found = usage(cluster, each)
        yield {
            "apiVersion": "k8snetlab.dev/v1",
            "kind": "IPRange",
            "metadata": {"name": str(each.cidr)},
            "spec": {"cidr": str(each.cidr), "pool": each.pool, "node": each.node},
            "status": {
                "capacity": found.capacity,
                "used": found.used,
                "reserved": found.reserved,
                "free": found.free,
                "borrowed": found.borrowed,
            },
        }


def rendered_pools(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """In the shape of Calico's IPPools, also where other networks' pools are meant."""
    for pool in cluster.ip_pools:
        yield {
            "apiVersion": "projectcalico.org/v3",
            "kind": "IPPool",
            "metadata": {"name": pool.name},
            "spec": {
                "cidr": str(pool.cidr),
                "blockSize": pool.blocks,
                "natOutgoing": pool.nat_outgoing,
                "vxlanMode": "Always" if pool.encapsulated else "Never",
                "disabled": pool.disabled,
                "nodeSelector": pool.node_selector,
            },
        }


def _held(cluster: Cluster) -> Iterator[tuple[IPAddress, str]]:
    """Every address that somebody has, with the node where it is; a host-local bridge's own is outside its range."""
    if facts(cluster.config.network).ipam != "host-local":
        for node in cluster.nodes:
            yield from ((ip, node.name) for ip in node.network_addresses)
    for pod in cluster.pods:
        if not pod.host_network:
            yield from ((ip, pod.node) for ip in pod.ips)


def _bounds(cluster: Cluster, cidr: IPNetwork) -> tuple[int, int]:
    """The first and last address that can be had, as numbers; each IPAM leaves out others."""
    first, last = int(cidr.network_address), int(cidr.broadcast_address)
    match facts(cluster.config.network).ipam:
        case "host-local":  # the network, the gateway and the broadcast
            return first + 2, last - (1 if cidr.version == 4 else 0)
        case "ring":  # only those of the whole subnet
            subnet = next(subnet for subnet in cluster.config.pod_subnets if subnet.version == cidr.version)
            whole_first = int(subnet.network_address) + 1
            whole_last = int(subnet.broadcast_address) - (1 if cidr.version == 4 else 0)
            return max(first, whole_first), min(last, whole_last)
        case "blocks":
            return first, last
