"""Addresses of pods, as the host-local plugin hands them out: in order, and never again at once after being freed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from k8snetlab.cluster.model import IPAddress, IPNetwork, Node, Pod
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.errors import Problem

FIRST_SLOT = 2  # .0 is the network, .1 the gateway: the node's bridge


@dataclass(slots=True)
class SlotRange:
    """The places of one node's pod range, counted from its network address; `size` counts the last one too.

    host-local goes on after the last address it reserved and wraps round, so that a peer that still holds a freed
    address does not meet another pod there (plugins/ipam/host-local, allocator.GetIter).
    """

    size: int
    taken: set[int] = field(default_factory=set)
    last: int = FIRST_SLOT - 1

    def keep(self, slot: int) -> bool:
        """Reserve a slot that is in use already; False when it is out of range or taken."""
        if not FIRST_SLOT <= slot < self.size or slot in self.taken:
            return False
        self.taken.add(slot)
        return True

    def next(self) -> int | None:
        """The next free slot after the last one; None when all are taken."""
        if len(self.taken) >= self.size - FIRST_SLOT:
            return None
        slot = self.last + 1
        while slot in self.taken or slot >= self.size:
            slot = FIRST_SLOT if slot >= self.size else slot + 1
        self.taken.add(slot)
        self.last = slot
        return slot


def address(subnet: IPNetwork, offset: int) -> IPAddress:
    """The address at this offset in the subnet."""
    number = int(subnet.network_address) + offset
    return IPv4Address(number) if subnet.version == 4 else IPv6Address(number)


def capacity(node: Node) -> int:
    """One more than the highest slot that every family's pod range of the node has; the IPv4 broadcast is none."""
    sizes = [cidr.num_addresses - (1 if cidr.version == 4 else 0) for cidr in node.pod_cidrs]
    return max(min(sizes, default=0), FIRST_SLOT)


def assign_slots(
    placed: Sequence[tuple[PodSeed, Node]], previous: Mapping[str, Pod], problems: list[Problem]
) -> dict[str, int]:
    """Pod key → slot: 0 with hostNetwork. A pod that stays on its node keeps its slot; the rest get the next free ones.

    After a delta the next free one comes after the highest slot used before, also by pods that are gone now.
    """
    ranges = {node.name: SlotRange(capacity(node)) for _, node in placed}
    for before in previous.values():
        if before.slot and before.node in ranges:
            ranges[before.node].last = max(ranges[before.node].last, before.slot)
    slots: dict[str, int] = {}
    for seed, node in placed:
        held = previous.get(seed.key)
        if seed.spec.host_network:
            slots[seed.key] = 0
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
    nodes = {node.name: node for _, node in placed}
    for name, seeds in unplaced.items():
        _report(nodes[name], ranges[name], seeds, problems)
    return slots


def _report(node: Node, slots: SlotRange, seeds: Iterable[PodSeed], problems: list[Problem]) -> None:
    seeds = list(seeds)
    first = seeds[0]
    cidrs = ",".join(str(cidr) for cidr in node.pod_cidrs)
    room = slots.size - FIRST_SLOT
    message = (
        f"no address left for {len(seeds)} pods on {node.name}: its pod range {cidrs} holds {room}; "
        "use more nodes, or a smaller nodeCIDRMaskSize"
    )
    problems.append(problem(first.source, first.subject, "", message))
