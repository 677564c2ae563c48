"""Addresses as the host-local plugin hands them out: each node has a range of its own, in every family the same place.

In order, and never again at once after being freed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.addresses import offset
from k8snetlab.cluster.model import IPAddress, LabConfig, Node, Pod
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.static_addresses import StaticAddresses
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.errors import Problem

FIRST_SLOT = 2  # .0 is the network, .1 the gateway: the node's bridge


@dataclass(slots=True)
class SlotRange:
    """The places of one node's pod range, counted from its network address; `size` counts the last one too.

    `reserved` are the first and last place of each part that nobody gets unasked. host-local goes on after the last
    address it handed out and wraps round, so that a peer that still holds a freed address does not meet another pod
    there (plugins/ipam/host-local, allocator.GetIter).
    """

    size: int
    taken: set[int] = field(default_factory=set)
    last: int = FIRST_SLOT - 1
    reserved: tuple[tuple[int, int], ...] = ()

    def keep(self, slot: int) -> bool:
        """Reserve a slot that is in use already; False when it is out of range or taken."""
        if not FIRST_SLOT <= slot < self.size or slot in self.taken:
            return False
        self.taken.add(slot)
        return True

    def next(self) -> int | None:
        """The next free slot after the last one; None when all are taken."""
        slot = self._first_free(self.last + 1, self.size)
        if slot is None:
            slot = self._first_free(FIRST_SLOT, min(self.last + 1, self.size))
        if slot is not None:
            self.taken.add(slot)
            self.last = slot
        return slot

    def room(self) -> int:
        """How many pods fit at all."""
        parts = ((max(first, FIRST_SLOT), min(last, self.size - 1)) for first, last in self.reserved)
        return self.size - FIRST_SLOT - sum(last - first + 1 for first, last in parts if first <= last)

    def _first_free(self, slot: int, end: int) -> int | None:
        while slot < end:
            beyond = next((last + 1 for first, last in self.reserved if first <= slot <= last), slot)
            if beyond == slot and slot not in self.taken:
                return slot
            slot = max(beyond, slot + 1) if beyond == slot else beyond
        return None


def capacity(node: Node) -> int:
    """One more than the highest slot that every family's pod range of the node has; the IPv4 broadcast is none."""
    sizes = [cidr.num_addresses - (1 if cidr.version == 4 else 0) for cidr in node.pod_cidrs]
    return max(min(sizes, default=0), FIRST_SLOT)


def node_addresses(node: Node, *, tunnel: bool) -> tuple[IPAddress, ...]:
    """The first address of each range is the bridge's, the network address itself, with VXLAN, the tunnel end's."""
    return tuple(cidr[number] for cidr in node.pod_cidrs for number in ((1, 0) if tunnel else (1,)))


def assign_slots(
    config: LabConfig,
    placed: Sequence[tuple[PodSeed, Node]],
    previous: Mapping[str, Pod],
    static: StaticAddresses,
    problems: list[Problem],
) -> dict[str, int]:
    """Pod key → slot: 0 with hostNetwork. A pod that stays on its node keeps its slot, one that asks for an address
    gets that one's; the rest get the next free ones.

    After a delta the next free one comes after the highest slot used before, also by pods that are gone now.
    """
    nodes = {node.name: node for _, node in placed}
    ranges = _ranges(config, nodes, previous)
    slots: dict[str, int] = {}
    for seed, node in placed:
        held = previous.get(seed.key)
        if seed.spec.host_network:
            slots[seed.key] = 0
        elif seed.key in static.wanted:
            slots[seed.key] = _slot_of(static, seed, node, ranges[node.name], problems)
        elif held and held.node == node.name and held.slot and ranges[node.name].keep(held.slot):
            slots[seed.key] = held.slot
    unplaced: dict[str, list[PodSeed]] = {}
    for seed, node in placed:
        if seed.key not in slots:
            slot = ranges[node.name].next()
            if slot is None:
                unplaced.setdefault(node.name, []).append(seed)
            else:
                slots[seed.key] = slot
    for name, seeds in unplaced.items():
        _report(nodes[name], ranges[name], seeds, problems)
    return slots


def _ranges(config: LabConfig, nodes: Mapping[str, Node], previous: Mapping[str, Pod]) -> dict[str, SlotRange]:
    ranges = {name: SlotRange(capacity(node), reserved=_reserved(config, node)) for name, node in nodes.items()}
    for before in previous.values():
        if before.slot and before.node in ranges:
            ranges[before.node].last = max(ranges[before.node].last, before.slot)
    return ranges


def _slot_of(static: StaticAddresses, seed: PodSeed, node: Node, slots: SlotRange, problems: list[Problem]) -> int:
    """The place of the addresses a pod asks for, which must lie in its node's range and be free."""
    places = set()
    for ip in static.wanted[seed.key]:
        cidr = next((cidr for cidr in node.pod_cidrs if ip in cidr), None)
        if cidr is None:
            ranges = ", ".join(map(str, node.pod_cidrs))
            static.refuse(seed, f"{ip} is not in the pod range of {node.name}, {ranges}", problems)
            return 0
        places.add(offset(cidr, ip))
    if len(places) > 1:
        static.refuse(seed, "the addresses of both families must have the same place in their ranges", problems)
        return 0
    slot = places.pop()
    if not slots.keep(slot):
        what = "is held by another pod" if slot in slots.taken else f"belongs to {node.name} itself"
        static.refuse(seed, f"{static.wanted[seed.key][0]} {what}", problems)
    return slot


def _reserved(config: LabConfig, node: Node) -> tuple[tuple[int, int], ...]:
    """The places of a node that are reserved in any family."""
    return tuple(
        (offset(cidr, first), offset(cidr, last))
        for first, last in config.reserved
        for cidr in node.pod_cidrs
        if cidr.version == first.version and offset(cidr, last) >= 0 and offset(cidr, first) < cidr.num_addresses
    )


def _report(node: Node, slots: SlotRange, seeds: Iterable[PodSeed], problems: list[Problem]) -> None:
    seeds = list(seeds)
    first = seeds[0]
    cidrs = ",".join(str(cidr) for cidr in node.pod_cidrs)
    message = (
        f"no address left for {len(seeds)} pods on {node.name}: its pod range {cidrs} holds {slots.room()}; "
        "use more nodes, or a smaller nodeCIDRMaskSize"
    )
    problems.append(problem(first.source, first.subject, "", message))
