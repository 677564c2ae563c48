"""Addresses as Weave Net's allocator hands them out: the whole subnet is shared out among the nodes, from a ring.

At the start the subnet is halved among the nodes again and again, by CIDR; a node that comes later, or runs out, is
given a free part of the largest range of another one. Source: Weave Net, "IP Addresses, Routes and Networks".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.addresses import address
from k8snetlab.cluster.model import IPAddress, IPNetwork, IPPool, IPRange, Node


@dataclass(slots=True)
class Ring:
    """The ranges of one family. The subnet's network address and, with IPv4, its broadcast address are nobody's."""

    pools: Sequence[IPPool]
    reserved: Sequence[tuple[IPAddress, IPAddress]]
    taken: set[IPAddress] = field(default_factory=set)
    owners: dict[IPNetwork, str] = field(default_factory=dict)
    _searched: dict[IPNetwork, int] = field(default_factory=dict)

    @property
    def pool(self) -> IPPool:
        """The one there is."""
        return self.pools[0]

    def restore(self, ranges: Iterable[IPRange], nodes: Mapping[str, Node]) -> None:
        """Take over the ring of the cluster before; what a node leaves behind goes to the first one (weave rmpeer)."""
        heir = next(iter(nodes), "")
        for each in ranges:
            if each.pool == self.pool.name and each.cidr.version == self.pool.cidr.version:
                self.owners[each.cidr] = each.node if each.node in nodes else heir

    def share_out(self, nodes: Sequence[Node]) -> None:
        """Every node gets a range: all together at the start, one after the other later."""
        if not self.owners:
            self.owners.update(_halves(self.pool.cidr, [node.name for node in nodes]))
        for node in nodes:
            if node.name not in self.owners.values():
                self._be_given(node)

    def take(self, ip: IPAddress, _node: Node) -> bool:
        """An address in use or asked for, in whoever's range; False when it is not in the subnet or taken."""
        if ip not in self.pool.cidr or ip in self.taken or self._is_nobodys(ip):
            return False
        self.taken.add(ip)
        return True

    def next(self, node: Node, _pools: Sequence[IPPool] = ()) -> IPAddress | None:
        """The first free address of the node's ranges; None when it has none and nobody can give it any."""
        while True:
            for cidr, owner in self.owners.items():
                if owner == node.name and (ip := self._first_free(cidr)) is not None:
                    self.taken.add(ip)
                    return ip
            if not self._be_given(node):
                return None

    def usable(self, _node: Node, _names: Sequence[str] | None = None) -> Sequence[IPPool]:
        return self.pools

    def ranges(self) -> Iterator[IPRange]:
        for cidr, node in self.owners.items():
            yield IPRange(pool=self.pool.name, cidr=cidr, node=node)

    def _be_given(self, node: Node) -> bool:
        """The largest part that another node has and does not use, half of its range at most."""
        gifts = [
            (part.prefixlen, number, cidr, part)
            for number, (cidr, owner) in enumerate(self.owners.items())
            if owner != node.name and (part := self._free_part(cidr)) is not None
        ]
        if not gifts:
            return False
        _, _, cidr, part = min(gifts, key=lambda gift: gift[:2])
        owner = self.owners.pop(cidr)
        for rest in _without(cidr, part):
            self.owners[rest] = owner
        self.owners[part] = node.name
        return True

    def _free_part(self, cidr: IPNetwork) -> IPNetwork | None:
        subnet = self.pool.cidr
        used = [ip for ip in (*self.taken, subnet.network_address, subnet.broadcast_address) if ip in cidr]
        if used or cidr.prefixlen == cidr.max_prefixlen:
            return _largest_free(cidr, used)
        _, upper = cidr.subnets()
        return upper

    def _first_free(self, cidr: IPNetwork) -> IPAddress | None:
        place = self._searched.get(cidr, 0)
        while place < cidr.num_addresses:
            ip = address(cidr, place)
            place += 1
            if ip not in self.taken and not self._is_nobodys(ip) and not self._is_reserved(ip):
                self._searched[cidr] = place
                return ip
        self._searched[cidr] = place
        return None

    def _is_nobodys(self, ip: IPAddress) -> bool:
        subnet = self.pool.cidr
        return ip == subnet.network_address or (ip.version == 4 and ip == subnet.broadcast_address)

    def _is_reserved(self, ip: IPAddress) -> bool:
        return any(first.version == ip.version and int(first) <= int(ip) <= int(last) for first, last in self.reserved)


def _halves(cidr: IPNetwork, names: Sequence[str]) -> dict[IPNetwork, str]:
    """The first half of the names get the lower half of the range, and so on."""
    if len(names) <= 1 or cidr.prefixlen == cidr.max_prefixlen:
        return {cidr: names[0]} if names else {}
    lower, upper = cidr.subnets()
    middle = len(names) // 2
    return _halves(lower, names[:middle]) | _halves(upper, names[middle:])


def _largest_free(cidr: IPNetwork, used: Sequence[IPAddress]) -> IPNetwork | None:
    """The largest part of a range in which nothing is used, by CIDR; of several the last one."""
    if not used:
        return cidr
    if cidr.prefixlen == cidr.max_prefixlen:
        return None
    lower, upper = cidr.subnets()
    parts = (_largest_free(half, [ip for ip in used if ip in half]) for half in (upper, lower))
    return min((part for part in parts if part is not None), key=lambda part: part.prefixlen, default=None)


def _without(cidr: IPNetwork, part: IPNetwork) -> list[IPNetwork]:
    return sorted(cidr.address_exclude(part))  # type: ignore[arg-type]
