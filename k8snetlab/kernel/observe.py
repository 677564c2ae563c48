"""Read a lab back from the kernel, in the words of `plan.state`.

What the kernel makes by itself is left out: loopback addresses, connected and local routes, learned neighbours. What
has no word in the plan (a link of another kind, a route of another table) is left out too.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Final

from k8snetlab.kernel import addresses, iptables, links, netlink, netns, processes, sysctl, veths
from k8snetlab.kernel.addresses import ip_address
from k8snetlab.plan.state import (
    Bridge,
    Family,
    IptablesChain,
    KernelObject,
    Netns,
    Sysctl,
    Veth,
    Vxlan,
)

_PARALLEL_SAVES: Final = 2
_NETLINK_NETFILTER: Final = 12  # linux/netlink.h
_NFNL_SUBSYS_NFTABLES: Final = 10
_NFT_MSG_GETTABLE: Final = 1
_NFPROTO: Final[dict[Family, int]] = {4: 2, 6: 10}

Reader = Callable[[str, bytes, dict[int, str]], KernelObject | None]


def observe(planned: Iterable[KernelObject], families: Iterable[Family] = (4, 6)) -> frozenset[KernelObject]:
    """Everything in the namespaces of /run/netns, whether planned or not.

    `planned` says which sysctls to read, which end of a veth pair comes first, and which built-in iptables chains to
    list although they are empty. iptables are read for `families`, the rest for both. The process must be in the lab's
    mount namespace. Raises KernelError.
    """
    planned = tuple(planned)
    netns.raise_file_limit()
    with ExitStack() as stack:
        stack.enter_context(netns.returning())
        return frozenset(_Observation(planned, stack).objects(tuple(families)))


class _Observation:
    """The namespaces open for one look at the kernel."""

    def __init__(self, planned: tuple[KernelObject, ...], stack: ExitStack) -> None:
        self._planned = planned
        self._stack = stack
        self._fds: dict[str, int] = {}
        self._sockets: dict[str, netlink.Socket] = {}
        self._ends: list[veths.End] = []
        self._keys: defaultdict[str, list[str]] = defaultdict(list)
        for item in planned:
            if isinstance(item, Sysctl):
                self._keys[item.netns].append(item.key)

    def objects(self, families: tuple[Family, ...]) -> Iterator[KernelObject]:
        ruled: list[tuple[str, Family]] = []
        for name in sorted(netns.names()):
            self._fds[name] = fd = netns.open_netns(name)
            self._stack.callback(os.close, fd)
            netns.enter(fd)
            self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
            for key in self._keys.get(name, ()):
                value = sysctl.read(key)
                if value is not None:
                    yield Sysctl(name, key, value)
            ruled += [(name, family) for family in families if _has_tables(name, family)]
            yield from self._namespace(name)
        planned = (item for item in self._planned if isinstance(item, Veth))
        yield from veths.pairs(self._ends, self._fds, self._ask, planned)
        yield from self._chains(ruled)

    def _namespace(self, name: str) -> Iterator[KernelObject]:
        """All that netlink lists of one namespace; a plan's `Netns` has its loopback up."""
        bodies = self._sockets[name].dump(links.RTM_GETLINK, links.INFO.pack(0, 0, 0, 0, 0))
        found = {links.INFO.unpack_from(body)[2]: netlink.attributes(body, links.INFO.size) for body in bodies}
        flags = {links.INFO.unpack_from(body)[2]: links.INFO.unpack_from(body)[3] for body in bodies}
        link_names = {index: netlink.string(link, links.IFLA_IFNAME) for index, link in found.items()}
        if flags.get(links.LOOPBACK, 0) & links.IFF_UP:
            yield Netns(name)
        tunnels = []
        for index, link in found.items():
            item = self._link(name, index, link, link_names)
            if item is not None and flags[index] & links.IFF_UP:
                yield item
            if isinstance(item, Vxlan):
                tunnels.append(index)
        yield from self._entries(name, link_names, tunnels)

    def _link(self, name: str, index: int, link: dict[int, bytes], link_names: dict[int, str]) -> KernelObject | None:
        """A bridge or a tunnel end; a veth's end is put aside until its peer is known. None for other kinds."""
        info = netlink.attributes(link.get(links.IFLA_LINKINFO, b""))
        data = netlink.attributes(info.get(links.IFLA_INFO_DATA, b""))
        mac, mtu = links.mac_text(link.get(links.IFLA_ADDRESS, b"")), netlink.number(link, links.IFLA_MTU)
        own = (name, link_names[index], index, mac, mtu)
        match netlink.string(info, links.IFLA_INFO_KIND):
            case "bridge":
                return Bridge(*own)
            case "vxlan":
                local = data.get(links.IFLA_VXLAN_LOCAL) or data.get(links.IFLA_VXLAN_LOCAL6) or bytes(4)
                underlay = netlink.number(data, links.IFLA_VXLAN_LINK)
                return Vxlan(
                    *own,
                    vni=netlink.number(data, links.IFLA_VXLAN_ID),
                    local=ip_address(local),
                    underlay=link_names.get(underlay, ""),
                    port=int.from_bytes(data.get(links.IFLA_VXLAN_PORT, b""), "big"),
                )
            case "veth":
                self._ends.append(self._end(own, link, info, link_names))
                return None
            case _:
                return None

    def _end(
        self,
        own: tuple[str, str, int, str, int],
        link: dict[int, bytes],
        info: dict[int, bytes],
        link_names: dict[int, str],
    ) -> veths.End:
        port = netlink.attributes(info.get(links.IFLA_INFO_SLAVE_DATA, b""))
        return veths.End(
            *own,
            master=link_names.get(netlink.number(link, links.IFLA_MASTER), ""),
            hairpin=port.get(links.IFLA_BRPORT_MODE, b"\0") != b"\0",
            peer_index=netlink.number(link, links.IFLA_LINK),
            netnsid=int.from_bytes(link[links.IFLA_LINK_NETNSID], sys.byteorder, signed=True)
            if links.IFLA_LINK_NETNSID in link
            else -1,
        )

    def _entries(self, name: str, link_names: dict[int, str], tunnels: list[int]) -> Iterator[KernelObject]:
        """Addresses, routes, neighbours and, where there are tunnel ends, their forwarding entries."""
        connection = self._sockets[name]
        dumps: list[tuple[int, bytes, Reader]] = [
            (addresses.RTM_GETADDR, addresses.ADDRESS.pack(0, 0, 0, 0, 0), addresses.read_address),
            (addresses.RTM_GETROUTE, addresses.ROUTE.pack(*[0] * 9), addresses.read_route),
            (addresses.RTM_GETNEIGH, addresses.NEIGHBOUR.pack(*[0] * 6), addresses.read_neighbour),
        ]
        for kind, header, read in dumps:
            for body in connection.dump(kind, header):
                if (item := read(name, body, link_names)) is not None:
                    yield item
        if tunnels:
            header = addresses.NEIGHBOUR.pack(links.AF_BRIDGE, 0, 0, 0, 0, 0)
            for body in connection.dump(addresses.RTM_GETNEIGH, header):
                index = addresses.NEIGHBOUR.unpack_from(body)[2]
                item = addresses.read_forwarding(name, body, link_names) if index in tunnels else None
                if item is not None:
                    yield item

    def _ask(self, name: str, requests: list[bytes]) -> list[bytes | None]:
        return self._sockets[name].ask(requests)

    def _chains(self, ruled: list[tuple[str, Family]]) -> Iterator[IptablesChain]:
        """The iptables of all namespaces that have some; untouched built-in chains only where the plan lists them."""
        listed = {
            (item.netns, item.family, item.table, item.name)
            for item in self._planned
            if isinstance(item, IptablesChain)
        }
        commands = [processes.Command((iptables.program(family, "save"),), name) for name, family in ruled]
        for (name, family), done in zip(ruled, processes.run_many(commands, parallel=_PARALLEL_SAVES), strict=True):
            for chain in iptables.parse_saved(name, family, done):
                if not iptables.is_untouched(chain) or (name, family, chain.table, chain.name) in listed:
                    yield chain


def _has_tables(name: str, family: Family) -> bool:
    """Whether the current namespace has a table of the family: where it has none, iptables-save need not be run."""
    with netlink.Socket(name, _NETLINK_NETFILTER) as connection:
        header = bytes((_NFPROTO[family], 0, 0, 0))  # struct nfgenmsg
        kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETTABLE
        return any(body[0] == _NFPROTO[family] for body in connection.dump(kind, header))
