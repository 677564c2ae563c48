"""Addresses as Calico's IPAM hands them out: nodes take blocks from pools as they need them, and borrow.

A node that needs an address looks in its own blocks (those with an affinity to it), then takes a free block of a pool
that it may use, then borrows a single address from another node's block. Source: Calico, networking/ipam, and
libcalico-go/lib/ipam. Where Calico picks a free block by the hash of the node's name, the lab takes the first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.addresses import address
from k8snetlab.cluster.model import IPAddress, IPNetwork, IPPool, IPRange, Node
from k8snetlab.manifests.calico_selector import parse_selector


@dataclass(slots=True)
class Block:
    """A block while addresses are handed out; `free` is where the search for a free one goes on."""

    pool: IPPool
    cidr: IPNetwork
    node: str
    free: int = 0


@dataclass(slots=True)
class Blocks:
    """The blocks of one family. `reserved` are first and last of what nobody gets unasked."""

    pools: Sequence[IPPool]
    reserved: Sequence[tuple[IPAddress, IPAddress]]
    taken: set[IPAddress] = field(default_factory=set)
    _blocks: dict[IPNetwork, Block] = field(default_factory=dict)
    _of_node: dict[str, list[Block]] = field(default_factory=dict)
    _unclaimed: dict[str, Iterator[IPNetwork]] = field(default_factory=dict)

    def restore(self, ranges: Iterable[IPRange], nodes: Mapping[str, Node], held: Iterable[IPAddress]) -> None:
        """Take over the affinities of the cluster before; those of nodes that are gone end, once no pod is in them."""
        pools = {pool.name: pool for pool in self.pools}
        held = list(held)
        for each in ranges:
            pool = pools.get(each.pool)
            if pool is None or pool.blocks != each.cidr.prefixlen:
                continue
            node = each.node if each.node in nodes else ""
            if node or any(ip in each.cidr for ip in held):
                self._add(Block(pool, each.cidr, node))

    def usable(self, node: Node, names: Sequence[str] | None = None) -> list[IPPool]:
        """The pools a node may take from: the named ones (by name or CIDR), else all that select it and are not
        manual."""
        return [
            pool
            for pool in self.pools
            if not pool.disabled
            and (not pool.manual if names is None else pool.name in names or str(pool.cidr) in names)
            and parse_selector(pool.node_selector)(node.labels)
        ]

    def claim(self, node: Node) -> None:
        """Give a node its first block, if it has none and a pool has one left."""
        pools = self.usable(node)
        if not self._of_node.get(node.name) and pools:
            self._new_block(node, pools)

    def take(self, ip: IPAddress, node: Node) -> bool:
        """An address that a pod of the node holds or asks for; False when somebody else has it or no pool does."""
        pool = next((pool for pool in self.pools if ip in pool.cidr), None)
        if pool is None or ip in self.taken:
            return False
        self.taken.add(ip)
        cidr = _block_of(pool, ip)
        if cidr not in self._blocks:
            self._add(Block(pool, cidr, node.name))
        return True

    def next(self, node: Node, pools: Sequence[IPPool]) -> IPAddress | None:
        """The next address for a pod of the node: from its own blocks, a new block, or another node's."""
        allowed = {pool.name for pool in pools}
        for block in self._of_node.get(node.name, ()):
            if block.pool.name in allowed and (ip := self._first_free(block)) is not None:
                return ip
        while (new := self._new_block(node, pools)) is not None:
            if (ip := self._first_free(new)) is not None:
                return ip
        for block in self._blocks.values():  # borrowing: Calico's strictAffinity is off by default
            if block.pool.name in allowed and (ip := self._first_free(block)) is not None:
                return ip
        return None

    def ranges(self) -> Iterator[IPRange]:
        """Every block that a node has, or that somebody has an address of."""
        for block in self._blocks.values():
            if block.node or any(ip in block.cidr for ip in self.taken):
                yield IPRange(pool=block.pool.name, cidr=block.cidr, node=block.node)

    def _add(self, block: Block) -> None:
        self._blocks[block.cidr] = block
        if block.node:
            self._of_node.setdefault(block.node, []).append(block)

    def _new_block(self, node: Node, pools: Sequence[IPPool]) -> Block | None:
        for pool in pools:
            cidrs = self._unclaimed.setdefault(pool.name, pool.cidr.subnets(new_prefix=pool.blocks))
            for cidr in cidrs:
                if cidr not in self._blocks:
                    block = Block(pool, cidr, node.name)
                    self._add(block)
                    return block
        return None

    def _first_free(self, block: Block) -> IPAddress | None:
        size = block.cidr.num_addresses
        while block.free < size:
            ip = address(block.cidr, block.free)
            block.free += 1
            if ip not in self.taken and not self._is_reserved(ip):
                self.taken.add(ip)
                return ip
        return None

    def _is_reserved(self, ip: IPAddress) -> bool:
        return any(first.version == ip.version and int(first) <= int(ip) <= int(last) for first, last in self.reserved)


def _block_of(pool: IPPool, ip: IPAddress) -> IPNetwork:
    shift = pool.cidr.max_prefixlen - pool.blocks
    return type(pool.cidr)((int(ip) >> shift << shift, pool.blocks))
