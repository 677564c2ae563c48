"""Addresses of LoadBalancer Services, assigned as MetalLB's controller does: first free, or the one asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.addresses import address, parse_address, parse_network
from k8snetlab.cluster.model import IPAddress, IPNetwork, LabConfig, Service
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.services import Draft
from k8snetlab.errors import Problem
from k8snetlab.manifests.api import core

WANTED_ANNOTATIONS = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")
SHARING_ANNOTATIONS = ("metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip")
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"  # the form before the field existed


@dataclass(slots=True)
class _Holder:
    """Who has an address: Services that share one name the same key and have no port in common (conformance LB.22).

    `backends` is the selector with externalTrafficPolicy Local, else empty: one node answers for the address, and must
    have endpoints of all that share it (MetalLB's allocator, SharingOK).
    """

    sharing: str
    backends: str
    ports: set[tuple[str, int]] = field(default_factory=set)

    def admits(self, sharing: str, backends: str, ports: set[tuple[str, int]]) -> bool:
        return bool(sharing) and (sharing, backends) == (self.sharing, self.backends) and not ports & self.ports


def assign_statuses(
    drafts: Sequence[Draft], config: LabConfig, previous: Mapping[str, Service]
) -> dict[str, tuple[core.LoadBalancerIngress, ...]]:
    """Service key → status.loadBalancer.ingress, for LoadBalancer Services only.

    A status in the manifest stands: another controller's answer (ipMode Proxy, a host name). With loadBalancerClass a
    Service is not ours. What it had it keeps; an address outside the pool, or in use, leaves it pending, without any.
    """
    holders: dict[IPAddress, _Holder] = {}
    balanced = [draft for draft in drafts if draft.spec.type == "LoadBalancer"]
    statuses = _foreign(balanced, holders)
    for choose in (_held, _wanted):
        for draft in balanced:
            if draft.key not in statuses:
                ips = [ip for ip in choose(draft, previous) if any(ip in pool for pool in config.load_balancer_pools)]
                if ips and all(_try(holders, ip, draft) for ip in ips):
                    statuses[draft.key] = _status(ips)
    free = [(pool, iter(_hosts(pool))) for pool in config.load_balancer_pools]
    for draft in balanced:
        if draft.key not in statuses:
            statuses[draft.key] = _status([] if _asked(draft) else _assigned(free, holders, draft))
    return statuses


def _assigned(
    free: Sequence[tuple[IPNetwork, Iterator[int]]], holders: dict[IPAddress, _Holder], draft: Draft
) -> list[IPAddress]:
    """One address of each of the Service's families, as far as the pools have any left."""
    found: dict[int, IPAddress] = {}
    for pool, offsets in free:
        if pool.version in draft.families and pool.version not in found:
            found.update((ip.version, ip) for ip in _first_free(offsets, pool, holders, draft))
    return [found[family] for family in draft.families if family in found]


def _foreign(
    drafts: Sequence[Draft], holders: dict[IPAddress, _Holder]
) -> dict[str, tuple[core.LoadBalancerIngress, ...]]:
    """The Services that somebody else answers for."""
    statuses: dict[str, tuple[core.LoadBalancerIngress, ...]] = {}
    for draft in drafts:
        given = draft.service.status.load_balancer.ingress
        if given or draft.spec.load_balancer_class is not None:
            statuses[draft.key] = given
            for ingress in given:
                ip = parse_address(ingress.ip)
                if ip is not None:
                    _try(holders, ip, draft)
    return statuses


def _status(ips: Sequence[IPAddress]) -> tuple[core.LoadBalancerIngress, ...]:
    return tuple(core.LoadBalancerIngress(ip=str(ip), ip_mode="VIP") for ip in ips)


def _asked(draft: Draft) -> tuple[str, ...]:
    annotations = draft.service.metadata.annotations
    annotated = next((annotations[name] for name in WANTED_ANNOTATIONS if name in annotations), "")
    text = annotated or draft.spec.load_balancer_ip
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _wanted(draft: Draft, previous: Mapping[str, Service]) -> list[IPAddress]:
    del previous
    return [ip for ip in (parse_address(text) for text in _asked(draft)) if ip is not None]


def _held(draft: Draft, previous: Mapping[str, Service]) -> list[IPAddress]:
    """What it had, unless it now asks for something else."""
    before = previous.get(draft.key)
    ips = list(before.load_balancer_ips) if before else []
    wanted = _wanted(draft, previous)
    return ips if not wanted or ips == wanted else []


def _try(holders: dict[IPAddress, _Holder], ip: IPAddress, draft: Draft) -> bool:
    annotations = draft.service.metadata.annotations
    sharing = next((annotations[name] for name in SHARING_ANNOTATIONS if name in annotations), "")
    local = draft.spec.external_traffic_policy == "Local"
    backends = str(sorted((draft.spec.selector or {}).items())) if local else ""
    ports: set[tuple[str, int]] = {(port.protocol, port.port) for port in draft.spec.ports}
    holder = holders.get(ip)
    if holder is None:
        holders[ip] = _Holder(sharing, backends, ports)
        return True
    if not holder.admits(sharing, backends, ports):
        return False
    holder.ports |= ports
    return True


def _hosts(pool: IPNetwork) -> range:
    """Offsets handed out: not the first and last address, which some peers take for network and broadcast."""
    return range(1, pool.num_addresses - 1) if pool.num_addresses > 2 else range(pool.num_addresses)


def _first_free(
    offsets: Iterator[int], pool: IPNetwork, holders: dict[IPAddress, _Holder], draft: Draft
) -> list[IPAddress]:
    """The next address that nobody has; the iterator never turns back, so a pool is walked once."""
    for offset in offsets:
        ip = address(pool, offset)
        if ip not in holders:
            _try(holders, ip, draft)
            return [ip]
    return []


def source_ranges(draft: Draft, problems: list[Problem]) -> tuple[IPNetwork, ...]:
    """loadBalancerSourceRanges, or the annotation that came before it; only for type LoadBalancer."""
    if draft.spec.type != "LoadBalancer":
        return ()
    texts = draft.spec.load_balancer_source_ranges
    path = "spec.loadBalancerSourceRanges"
    if not texts and RANGES_ANNOTATION in draft.service.metadata.annotations:
        texts = tuple(part for part in draft.service.metadata.annotations[RANGES_ANNOTATION].split(",") if part.strip())
        path = f"metadata.annotations[{RANGES_ANNOTATION}]"
    networks: list[IPNetwork] = []
    for text in texts:
        network = parse_network(text)
        if network is None:
            message = f"Invalid value: {text!r}: must be a CIDR such as 10.0.0.0/8"
            problems.append(problem(draft.source, draft.subject, path, message))
        else:
            networks.append(network)
    return tuple(networks)
