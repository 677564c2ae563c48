"""One nftables table of a node while it is being written, and addresses in the form nft prints them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network, summarize_address_range
from typing import Literal

from k8snetlab.plan.state import Family, IPAddress, IPNetwork, KernelObject, NftChain, NftElement, NftSet, NftTable


class Draft:
    """Chains, sets, maps and elements of one table; `ip` is how its rules name the protocol, `ip` or `ip6`."""

    def __init__(self, netns: str, family: Family, name: str, comment: str) -> None:
        self.netns = netns
        self.family = family
        self.name = name
        self.ip = "ip" if family == 4 else "ip6"
        self.address_type = "ipv4_addr" if family == 4 else "ipv6_addr"
        self._table = NftTable(netns, family, name, comment)
        self._sets: dict[str, NftSet] = {}
        self._chains: dict[str, NftChain] = {}
        self._elements: dict[str, dict[str, NftElement]] = {}

    def chain(self, name: str, rules: Iterable[str] = (), *, hook: str = "", comment: str = "") -> None:
        """A chain with its rules."""
        self._chains[name] = NftChain(self.netns, self.family, self.name, name, tuple(rules), hook, comment)

    def set(
        self,
        name: str,
        type_: str,
        *,
        kind: Literal["set", "map"] = "set",
        flags: str = "",
        timeout: int = 0,
        comment: str = "",
    ) -> None:
        """A named set or map."""
        self._sets[name] = NftSet(self.netns, self.family, self.name, name, kind, type_, flags, timeout, comment)

    def element(self, container: str, key: str, value: str = "", comment: str = "") -> None:
        """An element. Of two with the same key (two Services with one externalIP and port, say) the first one stays."""
        elements = self._elements.setdefault(container, {})
        if key not in elements:
            elements[key] = NftElement(self.netns, self.family, self.name, container, key, value, comment)

    def objects(self) -> Iterator[KernelObject]:
        """Everything, in an order in which it can be made."""
        yield self._table
        yield from self._sets.values()
        yield from self._chains.values()
        for elements in self._elements.values():
            yield from elements.values()


def addresses_text(networks: Iterable[IPNetwork]) -> str:
    """Networks of one family as the right side of a match: one as it is, several in braces.

    The kernel joins what overlaps or touches, and nft prints the result in order: a network where it is one, else a
    range. Empty for no network.
    """
    intervals: list[tuple[int, int]] = []
    ordered = sorted(networks, key=lambda network: int(network.network_address))
    for network in ordered:
        first, last = int(network.network_address), int(network.broadcast_address)
        if intervals and first <= intervals[-1][1] + 1:
            intervals[-1] = intervals[-1][0], max(last, intervals[-1][1])
        else:
            intervals.append((first, last))
    address = IPv4Address if ordered and ordered[0].version == 4 else IPv6Address
    texts = [_interval(address(first), address(last)) for first, last in intervals]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}" if texts else ""


def host(address: IPAddress) -> IPv4Network | IPv6Network:
    """The network of one address only."""
    return ip_network(address)


def _interval(first: IPAddress, last: IPAddress) -> str:
    if first == last:
        return str(first)
    networks = list(summarize_address_range(first, last))
    return str(networks[0]) if len(networks) == 1 else f"{first}-{last}"
