"""Topology aware routing by annotation: which zone each endpoint is meant for (`service.kubernetes.io/topology-mode`).

The EndpointSlice controller spreads a Service's ready endpoints over the zones in proportion to the CPUs of their
nodes: at first each endpoint is for its own zone, then zones with more than their share give some to those with less.
Without hints for every endpoint there are none at all, so that no zone gets more than 20 % above its share. The lab's
nodes all count the same. Source: kubernetes 1.33, staging/src/k8s.io/endpointslice/topologycache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Final

from k8snetlab.cluster.model import Endpoint, IPAddress, Node

OVERLOAD: Final = 0.2
LEAST_SHARE: Final = 0.5  # of an endpoint: zones do not give or take less
# The older name wins, as it does in the controller (endpointslice/reconciler.go, hintsEnabled).
ANNOTATIONS: Final = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
CONTROL_PLANE: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


def is_auto(annotations: Mapping[str, str]) -> bool:
    """Whether a Service asks for it; then its trafficDistribution does not count."""
    asked = next((annotations[name] for name in ANNOTATIONS if name in annotations), "")
    return asked in ("Auto", "auto")


def zone_shares(nodes: Iterable[Node]) -> dict[str, float]:
    """Each zone's part of the cluster's CPUs; empty when a node has no zone, or all have the same."""
    workers = [node for node in nodes if not any(label in node.labels for label in CONTROL_PLANE)]
    count = Counter(node.zone for node in workers)
    if "" in count or len(count) < 2:
        return {}
    return {zone: number / len(workers) for zone, number in sorted(count.items())}


def auto_hints(ready: Sequence[Endpoint], shares: Mapping[str, float]) -> dict[IPAddress, str]:
    """The zone that each address is for, given a Service's ready endpoints of one family; empty for no hints."""
    wanted = _wanted(len(ready), shares)
    if not wanted or not all(endpoint.zone for endpoint in ready):
        return {}
    hints = {endpoint.ip: endpoint.zone for endpoint in ready}
    giving, receiving = _exchange(wanted, Counter(hints.values()))
    for endpoint in ready:
        zone = next(iter(+receiving), None)
        if zone is None:
            break
        if giving[endpoint.zone] > 0:
            hints[endpoint.ip] = zone
            giving[endpoint.zone] -= 1
            receiving[zone] -= 1
    return hints


def _wanted(endpoints: int, shares: Mapping[str, float]) -> dict[str, float]:
    """How many endpoints each zone should have; empty when there are too few to give every zone its least number."""
    if not shares or endpoints < len(shares):
        return {}
    least = {zone: ceil(share * endpoints / (1 + OVERLOAD)) for zone, share in shares.items()}
    if sum(least.values()) > endpoints:
        return {}
    return {zone: max(share * endpoints, least[zone]) for zone, share in shares.items()}


def _exchange(wanted: Mapping[str, float], has: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """How many endpoints each zone gives away and how many each receives."""
    surplus = {zone: has.get(zone, 0) - number for zone, number in wanted.items() if has.get(zone, 0) > number}
    need = {zone: number - has.get(zone, 0) for zone, number in wanted.items() if has.get(zone, 0) < number}
    giving, receiving = Counter[str](), Counter[str]()
    while surplus and need:
        giver, taker = max(surplus, key=surplus.__getitem__), max(need, key=need.__getitem__)
        most = surplus[giver], need[taker]
        if min(most) < LEAST_SHARE or max(most) < 1:
            break
        for zones, moved, zone in ((surplus, giving, giver), (need, receiving, taker)):
            zones[zone] -= 1
            moved[zone] += 1
    return giving, receiving
