"""Compare a plan with what is there: a set difference, since both speak the vocabulary of `plan.state`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from k8snetlab.plan.state import Drift, IptablesChain, KernelObject, Netns, NftChain, Plan

# What tells an object from others of its class and namespace, so that one with another value is the same one changed.
_IDENTITY: Mapping[str, tuple[str, ...]] = {
    "Netns": ("name",),
    "Bridge": ("netns", "name"),
    "Veth": ("netns", "name"),
    "Vxlan": ("netns", "name"),
    "Dummy": ("netns", "name"),
    "Address": ("netns", "link", "interface"),
    "Route": ("netns", "destination"),
    "Neighbour": ("netns", "link", "address"),
    "FdbEntry": ("netns", "link", "mac", "destination"),
    "TokenBucket": ("netns", "link"),
    "Sysctl": ("netns", "key"),
    "IptablesChain": ("netns", "family", "table", "name", "backend"),
    "NftTable": ("netns", "family", "name"),
    "NftSet": ("netns", "family", "table", "name"),
    "NftChain": ("netns", "family", "table", "name"),
    "NftElement": ("netns", "family", "table", "set", "key"),
    "IpSet": ("netns", "name"),
    "IpSetEntry": ("netns", "set", "entry"),
    "VirtualServer": ("netns", "protocol", "address", "port"),
    "RealServer": ("netns", "protocol", "virtual", "virtual_port", "address", "port"),
    "UdpDestination": ("netns", "family", "address", "port"),
    "PodServer": ("netns", "pod"),
    "DnsServer": ("netns", "pod"),
    "DnsName": ("view", "name"),
    "HealthCheck": ("netns", "service"),
    "Announcement": ("address",),
    "LearnedRoute": ("netns", "destination"),
    "File": ("path",),
    "ProxyFile": ("name",),
    "SelfSigned": ("name",),
    "Process": ("name",),
}


def diff(plan: Plan, observed: Iterable[KernelObject]) -> Drift:
    """What the kernel lacks, in the plan's order, and what it has too much of, in the order given.

    A changed object is in both; `details` then says what about it differs, under its identity.
    """
    planned, present = set(plan.objects), list(dict.fromkeys(observed))
    there = set(present)
    missing = tuple(item for item in plan.objects if item not in there)
    extra = tuple(item for item in present if item not in planned)
    return Drift(missing, extra, _details(missing, extra))


def changes(drift: Drift) -> dict[str, int]:
    """How many objects a drift makes, removes and changes in place: `created`, `deleted`, `updated`."""
    missing = {identity(item) for item in drift.missing}
    extra = {identity(item) for item in drift.extra}
    return {
        "created": len(missing - extra),
        "deleted": len(extra - missing),
        "updated": len(missing & extra),
    }


def identity(item: KernelObject) -> tuple[object, ...]:
    kind = type(item).__name__
    return (kind, *(getattr(item, name) for name in _IDENTITY[kind]))


def detail_key(item: KernelObject) -> str:
    """The key of `Drift.details`: what the object is, without what may change about it."""
    return " ".join(str(part) for part in identity(item))


def namespaces(items: Iterable[KernelObject]) -> frozenset[str]:
    return frozenset(item.name for item in items if isinstance(item, Netns))


def _details(missing: tuple[KernelObject, ...], extra: tuple[KernelObject, ...]) -> dict[str, str]:
    found = {identity(item): item for item in extra}
    changed = [(item, found[identity(item)]) for item in missing if identity(item) in found]
    return {detail_key(planned): _change(planned, there) for planned, there in changed}


def _change(planned: KernelObject, there: KernelObject) -> str:
    if isinstance(planned, IptablesChain) and isinstance(there, IptablesChain):
        policy = [f"policy {there.policy}, planned {planned.policy}"] if planned.policy != there.policy else []
        rules = _rules(planned.rules, there.rules)
        return "; ".join([*policy, rules] if rules else policy)
    if isinstance(planned, NftChain) and isinstance(there, NftChain) and planned.hook == there.hook:
        return _rules(planned.rules, there.rules) or f"comment {there.comment!r}, planned {planned.comment!r}"
    names = [field.name for field in fields(planned) if getattr(planned, field.name) != getattr(there, field.name)]
    return "; ".join(f"{name} {getattr(there, name)}, planned {getattr(planned, name)}" for name in names)


def _rules(planned: tuple[str, ...], there: tuple[str, ...]) -> str:
    """What differs between the rules of a chain; empty when nothing does."""
    lacking = [f"lacks: {rule}" for rule in planned if rule not in there]
    surplus = [f"has: {rule}" for rule in there if rule not in planned]
    return "; ".join([*lacking, *surplus]) or ("the rules are in another order" if planned != there else "")
