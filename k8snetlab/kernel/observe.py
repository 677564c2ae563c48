"""Read a lab back from the kernel, in the words of `plan.state`.

What the kernel makes by itself is left out: loopback addresses, connected and local routes, learned neighbours. What
has no word in the plan (a link of another kind, a route of another table) is left out too.
"""

from __future__ import annotations

import os
import socket
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
_NFNL_SUBSYS_NFTABLES: Final = 10
_NFT_MSG_GETTABLE: Final = 1
_NFTA_TABLE_NAME: Final = 1
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
