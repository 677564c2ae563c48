"""Who has which address on the pod network: each network's own IPAM, and what they have in common.

What is there keeps its address through every change; pods that ask for an address of their own come next, the others
get what is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from k8snetlab.cluster import host_local
from k8snetlab.cluster.addresses import address
from k8snetlab.cluster.blocks import Blocks
from k8snetlab.cluster.model import Cluster, Family, IPAddress, IPPool, IPRange, LabConfig, Node, Pod
from k8snetlab.cluster.networks import facts
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.ring import Ring
from k8snetlab.cluster.static_addresses import StaticAddresses, names_of, static_addresses
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.errors import Problem

Placed = Sequence[tuple[PodSeed, Node]]
MOST_SLOTS = 60_000  # of one node: they are interface indexes and four hexadecimal digits of a link's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """`slots` and `ips` are by pod; a hostNetwork pod has slot 0 and its node's addresses. `nodes` know theirs now."""

    slots: Mapping[str, int]
    ips: Mapping[str, tuple[IPAddress, ...]]
    nodes: tuple[Node, ...]
    pools: tuple[IPPool, ...]
    ranges: tuple[IPRange, ...]


def allocate(
    config: LabConfig,
    pools: tuple[IPPool, ...],
    nodes: tuple[Node, ...],
    placed: Placed,
    previous: Cluster | None,
    problems: list[Problem],
) -> Allocation:
    """Addresses of all pods and, on the pod network, of the nodes. Problems are appended: an address that is taken,
    that is in no range, a range that is full."""
    static = static_addresses(config, (seed for seed, _ in placed), problems)
    pods_before = {pod.key: pod for pod in previous.pods} if previous else {}
    # Of another network, or with another pod subnet, nothing is to be kept.
    if previous and (previous.config.network, previous.config.pod_subnets) != (config.network, config.pod_subnets):
        previous = None
    if facts(config.network).ipam == "host-local":
        return _host_local(config, pools, nodes, placed, pods_before, static, problems)
    slots = _slots(placed, pods_before)
    allocator = _Allocator(config, pools, nodes, previous, static, problems)
    ips = allocator.pods(placed)
    return Allocation(slots=slots, ips=ips, nodes=allocator.nodes(), pools=pools, ranges=allocator.ranges())


def _host_local(
    config: LabConfig,
    pools: tuple[IPPool, ...],
    nodes: tuple[Node, ...],
    placed: Placed,
    previous: Mapping[str, Pod],
    static: StaticAddresses,
    problems: list[Problem],
) -> Allocation:
    tunnel = config.backend == "vxlan"
    slots = host_local.assign_slots(config, placed, previous, static, problems)
    ips = {
        seed.key: tuple(address(cidr, slots[seed.key]) for cidr in node.pod_cidrs)
        if slots.get(seed.key)
        else node.addresses
        for seed, node in placed
    }
    names = {pool.cidr.version: pool.name for pool in pools}
    return Allocation(
        slots=slots,
        ips=ips,
        nodes=tuple(replace(n, network_addresses=host_local.node_addresses(n, tunnel=tunnel)) for n in nodes),
        pools=pools,
        ranges=tuple(IPRange(pool=names[cidr.version], cidr=cidr, node=n.name) for n in nodes for cidr in n.pod_cidrs),
    )


def _slots(placed: Placed, previous: Mapping[str, Pod]) -> dict[str, int]:
    """Numbers of pods on their nodes, where addresses do not say them."""
    ranges = {node.name: host_local.SlotRange(MOST_SLOTS) for _, node in placed}
    slots: dict[str, int] = {}
    for seed, node in placed:
        held = previous.get(seed.key)
        if seed.spec.host_network:
            slots[seed.key] = 0
        elif held and held.node == node.name and held.slot and ranges[node.name].keep(held.slot):
            slots[seed.key] = held.slot
    for seed, node in placed:
        if seed.key not in slots:
            slots[seed.key] = ranges[node.name].next() or 0
    return slots


class _Allocator:
    """Families one by one, by blocks or from the ring; they know nothing of each other."""

    def __init__(
        self,
        config: LabConfig,
        pools: tuple[IPPool, ...],
        nodes: tuple[Node, ...],
        previous: Cluster | None,
        static: StaticAddresses,
        problems: list[Problem],
    ) -> None:
        self._config = config
        self._nodes = nodes
        self._static = static
        self._problems = problems
        self._before = {pod.key: pod for pod in previous.pods} if previous else {}
        self._before_nodes = {node.name: node for node in previous.nodes} if previous else {}
        self._of_nodes: dict[str, tuple[IPAddress, ...]] = {}
        self._families: dict[Family, Blocks | Ring] = {}
        for family in config.families:
            own = [pool for pool in pools if pool.cidr.version == family]
            kind = Ring if facts(config.network).ipam == "ring" else Blocks
            self._families[family] = kind(own, config.reserved)
            self._restore(self._families[family], previous)

    def pods(self, placed: Placed) -> dict[str, tuple[IPAddress, ...]]:
        ips: dict[str, tuple[IPAddress, ...]] = {
            seed.key: node.addresses for seed, node in placed if seed.spec.host_network
        }
        wanting = [(seed, node) for seed, node in placed if not seed.spec.host_network]
        for family, source in self._families.items():
            found = self._kept(family, source, wanting)
            full: dict[str, tuple[Node, list[PodSeed]]] = {}
            for seed, node in wanting:
                ip = found[seed.key] if seed.key in found else self._next(family, source, seed, node)
                if ip is None and seed.key not in found:
                    full.setdefault(node.name, (node, []))[1].append(seed)
                if ip is not None:
                    ips[seed.key] = (*ips.get(seed.key, ()), ip)
            for node, seeds in full.values():
                self._report(family, source, node, seeds)
        return ips

    def nodes(self) -> tuple[Node, ...]:
        return tuple(replace(node, network_addresses=self._of_nodes.get(node.name, ())) for node in self._nodes)

    def ranges(self) -> tuple[IPRange, ...]:
        order = {node.name: number for number, node in enumerate(self._nodes)}
        found = [each for source in self._families.values() for each in source.ranges()]
        found.sort(key=lambda each: (order.get(each.node, len(order)), each.cidr.version, int(each.cidr[0])))
        return tuple(found)

    def _restore(self, source: Blocks | Ring, previous: Cluster | None) -> None:
        """The affinities there were, then what the nodes themselves need: a bridge's address, a tunnel end's."""
        by_name = {node.name: node for node in self._nodes}
        ranges = previous.ip_ranges if previous else ()
        if isinstance(source, Ring):
            source.restore(ranges, by_name)
            for pod in self._before.values():  # so that nobody gives away what is in use
                for ip in pod.ips if not pod.host_network else ():
                    source.taken.add(ip)
            source.share_out(self._nodes)
            source.taken.clear()
        else:
            source.restore(ranges, by_name, (ip for pod in self._before.values() for ip in pod.ips))
            for node in self._nodes:
                source.claim(node)
        for node in self._nodes:
            own = self._address_of_node(source, node)
            if own is not None:
                self._of_nodes[node.name] = (*self._of_nodes.get(node.name, ()), own)

    def _address_of_node(self, source: Blocks | Ring, node: Node) -> IPAddress | None:
        before = self._before_nodes.get(node.name)
        pools = source.usable(node)
        if isinstance(source, Blocks):  # only the end of a tunnel needs one
            pools = [pool for pool in pools if pool.encapsulated]
        if not pools:
            return None
        kept = next((ip for ip in before.network_addresses if source.take(ip, node)), None) if before else None
        return kept or source.next(node, pools)

    def _kept(self, family: Family, source: Blocks | Ring, wanting: Placed) -> dict[str, IPAddress | None]:
        """What pods have had before, and what they ask for; None for what cannot be had."""
        found: dict[str, IPAddress | None] = {}
        for seed, node in wanting:
            had = self._had(family, seed, node)
            if had is not None and self._static.of(seed, family) in (None, had) and source.take(had, node):
                found[seed.key] = had
        for seed, node in wanting:
            wanted = self._static.of(seed, family)
            if wanted is not None and seed.key not in found:
                free = source.take(wanted, node)
                found[seed.key] = wanted if free else None
                if not free:
                    why = "is already taken" if wanted in source.taken else "is in no pool of the lab"
                    self._static.refuse(seed, f"{wanted} {why}", self._problems)
        return found

    def _had(self, family: Family, seed: PodSeed, node: Node) -> IPAddress | None:
        """The pod's address in the cluster before, where it stays on its node."""
        held = self._before.get(seed.key)
        if held is None or held.node != node.name or held.host_network:
            return None
        return next((ip for ip in held.ips if ip.version == family), None)

    def _next(self, family: Family, source: Blocks | Ring, seed: PodSeed, node: Node) -> IPAddress | None:
        annotation = f"cni.projectcalico.org/ipv{family}pools"
        names = None
        if annotation in seed.annotations and self._config.network == "calico":
            try:
                names = names_of(seed, annotation)
            except ValueError as error:
                self._problems.append(
                    problem(seed.source, seed.subject, f"metadata.annotations[{annotation}]", str(error))
                )
        return source.next(node, source.usable(node, names))

    def _report(self, family: Family, source: Blocks | Ring, node: Node, seeds: Sequence[PodSeed]) -> None:
        pools = ", ".join(f"{pool.name} {pool.cidr}" for pool in source.usable(node)) or "none"
        message = f"no IPv{family} address left for {len(seeds)} pods on {node.name}, which may use pool {pools}"
        first = seeds[0]
        self._problems.append(problem(first.source, first.subject, "", message))
