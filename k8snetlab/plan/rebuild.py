"""A new plan from the old one, when only some pods have changed and what Services have behind them.

Planning a cluster costs time that grows with the whole of it; scaling one Deployment, or a pod that becomes ready,
concerns a few Services. A plan is mostly the sum of what each Service adds, so here the Services that the change is
about are planned alone (with all pods), as they were and as they are, and the difference is made in the old plan. Where
something that several Services share would differ, nothing is guessed: the caller plans the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from k8snetlab.cluster.model import ADDON_LABEL, Cluster, Pod, Service
from k8snetlab.plan.build import build
from k8snetlab.plan.gateway.objects import gateway_objects
from k8snetlab.plan.proxy.iptables import is_large
from k8snetlab.plan.state import (
    Address,
    DnsName,
    DnsServer,
    FdbEntry,
    HealthCheck,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    Neighbour,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    Plan,
    PodServer,
    Process,
    ProxyFile,
    RealServer,
    Route,
    SelfSigned,
    Sysctl,
    UdpDestination,
    Veth,
    VirtualServer,
)

# In these a change leaves the rest of the plan as it is; all other fields of a cluster must be equal.
_MAY_DIFFER: Final = frozenset({"pods", "services", "workloads"})
_PROXIES: Final = frozenset({"iptables", "ipvs", "nftables"})
# What is one thing of one pod or one Service: two of them never make one object.
_OF_ONE: Final = (
    Netns, Veth, Address, Route, Neighbour, FdbEntry, IptablesChain, NftChain, NftSet, NftElement, IpSetEntry,
    VirtualServer, RealServer, UdpDestination, PodServer, HealthCheck, DnsServer, DnsName, Process,
    Sysctl, ProxyFile, SelfSigned,
)  # fmt: skip
_OF_ONE_SERVICE: Final = re.compile(r"KUBE-(SVC|SVL|EXT|FW|SEP)-[A-Z2-7]{16}")


def rebuild(before: Cluster, plan: Plan, after: Cluster) -> Plan | None:
    """What `build(after)` holds, in an order that is as good, given `build(before)`; None where that cannot be said."""
    names = (name for name in Cluster.__slots__ if name not in _MAY_DIFFER)
    if any(getattr(before, name) != getattr(after, name) for name in names) or _slices_by_hand(after):
        return None
    if after.config.proxy_mode not in _PROXIES:
        return None
    pods = _changed(before.pods, after.pods)
    if any(pod.host_network for cluster in (before, after) for pod in cluster.pods if pod.key in pods):
        return None  # its address is its node's, and its ports are taken from other pods
    services = _affected(before, after, pods)
    if services is None or any(is_large(before, family) != is_large(after, family) for family in after.config.families):
        return None
    parts = [tuple(_planned(cluster, services)) for cluster in (before, after)]
    old, new = (set(part) for part in parts)
    missing = [item for item in parts[1] if item not in old]
    extra = [item for item in parts[0] if item not in new]
    return _replaced(plan, missing, extra)


def _planned(cluster: Cluster, services: set[str]) -> Iterator[KernelObject]:
    """The plan of the cluster with these Services only; its proxy, whose files are about all of them, has them all."""
    of_proxy = (ProxyFile, SelfSigned)
    part = build(_part(cluster, services), within=cluster).objects
    yield from (item for item in part if not isinstance(item, of_proxy))
    yield from gateway_objects(cluster)


def _slices_by_hand(cluster: Cluster) -> bool:
    """The API server's own names a node, never a pod."""
    return any(ADDON_LABEL not in each.metadata.labels for each in cluster.endpoint_slices)


def _changed(before: Sequence[Pod], after: Sequence[Pod]) -> set[str]:
    was = {pod.key: pod for pod in before}
    now = {pod.key: pod for pod in after}
    return {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}


def _affected(before: Cluster, after: Cluster, pods: set[str]) -> set[str] | None:
    """The Services whose endpoints differ or have a changed pod among them; None when anything else of one differs."""
    if [service.key for service in before.services] != [service.key for service in after.services]:
        return None
    found = set()
    for was, now in zip(before.services, after.services, strict=True):
        if was != now:
            if _bare(was) != _bare(now):
                return None
            found.add(now.key)
        elif any(endpoint.pod in pods for port in now.ports for endpoint in port.endpoints):
            found.add(now.key)
    return found


def _bare(service: Service) -> Service:
    return replace(service, ports=tuple(replace(port, endpoints=()) for port in service.ports))


def _part(cluster: Cluster, services: set[str]) -> Cluster:
    return replace(cluster, services=tuple(service for service in cluster.services if service.key in services))


def _replaced(plan: Plan, missing: list[KernelObject], extra: list[KernelObject]) -> Plan | None:
    """The plan with the difference made; None when it is about a chain that other Services share."""
    there = set(plan.objects)
    if not there.issuperset(extra) or not all(isinstance(item, _OF_ONE) for item in (*missing, *extra)):
        return None
    added = [item for item in missing if item not in there]
    new, doomed = [[item for item in items if _is_shared(item)] for items in (added, extra)]
    if any(isinstance(item, IptablesChain) for item in (*new, *doomed)):
        return None
    named = {_name(item) for item in plan.objects if _is_shared(item)} if new else set()
    if any(_name(item) in named for item in new):
        return None  # it is there with other contents
    removed = set(extra)
    if doomed:  # chains and maps for Services with so many endpoints: there may be others
        removed -= _still_used(doomed, [item for item in plan.objects if item not in removed])
    return Plan((*(item for item in plan.objects if item not in removed), *added))


def _is_shared(item: KernelObject) -> bool:
    match item:
        case IptablesChain():
            return _OF_ONE_SERVICE.fullmatch(item.name) is None
        case NftChain() | NftSet():
            return "/" not in item.name  # kube-proxy's layout has the Service's name in those of its own
        case _:
            return False


def _name(item: KernelObject) -> tuple[object, ...]:
    assert isinstance(item, IptablesChain | NftChain | NftSet)
    return type(item), item.netns, item.family, item.table, item.name


def _still_used(doomed: Iterable[KernelObject], others: Iterable[KernelObject]) -> set[KernelObject]:
    """Those of the doomed that any other object, or one of them that stays, refers to."""
    words: set[tuple[str, str]] = set()  # of a namespace
    for item in others:
        words.update(_references(item))
    kept: set[KernelObject] = set()
    waiting = [item for item in doomed if isinstance(item, NftChain | NftSet)]
    while stays := [item for item in waiting if item not in kept and (item.netns, item.name) in words]:
        kept.update(stays)
        for item in stays:
            words.update(_references(item))
    return kept


def _references(item: KernelObject) -> Iterator[tuple[str, str]]:
    """The chains and sets that an object of nftables names, with its namespace."""
    match item:
        case NftElement():
            yield item.netns, item.set
            yield item.netns, item.value.rpartition(" ")[2]
        case NftChain():
            yield from ((item.netns, word.lstrip("@")) for rule in item.rules for word in rule.split())
        case _:
            pass
