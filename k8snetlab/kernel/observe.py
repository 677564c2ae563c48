"""Read a lab back from the kernel, in the words of `plan.state`.

What the kernel makes by itself is left out: loopback addresses, connected and local routes, learned neighbours. What
has no word in the plan (a link of another kind, a route of another table) is left out too.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.kernel import (
    addresses,
    conntrack,
    ipset,
    iptables,
    iptables_legacy,
    ipvs,
    links,
    netlink,
    netns,
    nftables,
    processes,
    shaping,
    veths,
)
from k8snetlab.kernel.sysctl import Sysctls
from k8snetlab.plan.state import (
    Dummy,
    Family,
    IpSet,
    IptablesBackend,
    IptablesChain,
    KernelObject,
    Netns,
    RealServer,
    Sysctl,
    UdpDestination,
    Veth,
    VirtualServer,
)

_PARALLEL_SAVES: Final = 2
_SAVE_SECONDS: Final = 300.0
_NETLINK_NETFILTER: Final = 12  # linux/netlink.h
_NFNL_SUBSYS_NFTABLES: Final = 10
_NFT_MSG_GETTABLE: Final = 1
_NFPROTO: Final[dict[Family, int]] = {4: 2, 6: 10}

Ruled = tuple[str, Family, IptablesBackend]
Reader = Callable[[str, bytes, dict[int, str]], KernelObject | None]
_ENTRIES: Final[tuple[tuple[int, bytes, Reader], ...]] = (
    (addresses.RTM_GETADDR, addresses.ADDRESS.pack(0, 0, 0, 0, 0), addresses.read_address),
    (addresses.RTM_GETROUTE, addresses.ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), addresses.read_route),
    (addresses.RTM_GETNEIGH, addresses.NEIGHBOUR.pack(0, 0, 0, 0, 0, 0), addresses.read_neighbour),
)
_SHAPING: Final[tuple[tuple[int, bytes, Reader], ...]] = (
    (shaping.RTM_GETQDISC, shaping.ANY_QDISC, shaping.read_token_bucket),
)


def observe(planned: Iterable[KernelObject], families: Iterable[Family] = (4, 6)) -> frozenset[KernelObject]:
    """Everything in the namespaces of /run/netns, whether planned or not.

    IPVS is looked for where a plan has it and where there is kube-proxy's link that comes with it, ipsets also where
    rules are planned that may have asked some.
    `planned` says which sysctls to read, which end of a veth pair comes first, and which built-in iptables chains to
    list although they are empty. iptables are read for `families`, the rest, and where the plan has rules, for both.
    The process must be in the lab's mount namespace. Raises KernelError.
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
        self._sysctls = stack.enter_context(Sysctls())
        self._fds: dict[str, int] = {}
        self._sockets: dict[str, netlink.Socket] = {}
        self._ends: list[veths.End] = []
        self._keys: defaultdict[str, list[str]] = defaultdict(list)
        for item in planned:
            if isinstance(item, Sysctl):
                self._keys[item.netns].append(item.key)
        self._backends = {(item.netns, ipvs.real_key(item)) for item in planned if isinstance(item, RealServer)}
        self._ruled = {item.netns for item in planned if isinstance(item, IptablesChain)}
        self._destinations: defaultdict[str, list[UdpDestination]] = defaultdict(list)
        for item in planned:
            if isinstance(item, UdpDestination):
                self._destinations[item.netns].append(item)
        self._balanced = {item.netns for item in planned if isinstance(item, Dummy | VirtualServer)}
        self._filled = {item.netns for item in planned if isinstance(item, IpSet)}

    def objects(self, families: tuple[Family, ...]) -> Iterator[KernelObject]:
        ruled: list[Ruled] = []
        tables: list[tuple[str, nftables.TableKey]] = []
        for name in sorted(netns.names()):
            self._fds[name] = fd = netns.open_netns(name)
            self._stack.callback(os.close, fd)
            netns.enter(fd)
            self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
            for key in self._keys.get(name, ()):
                value = self._sysctls.read(key)
                if value is not None:
                    yield Sysctl(name, key, value)
            # Where rules are planned, those of the other family may be left from before the lab changed families.
            looked_for: tuple[Family, ...] = (4, 6) if name in self._ruled else families
            ruled += [(name, family, "nft") for family in looked_for if _has_tables(name, family)]
            ruled += [(name, family, "legacy") for family in looked_for if iptables_legacy.has_tables(family)]
            tables += [(name, key) for key in nftables.tables(name)]
            if name in self._ruled and ipset.present(name):
                self._filled.add(name)
            yield from self._namespace(name)
            if name in self._balanced:
                yield from self._servers(name)
            if name in self._destinations:
                yield from self._udp_destinations(name)
        planned = (item for item in self._planned if isinstance(item, Veth))
        yield from veths.pairs(self._ends, self._fds, self._ask, planned)
        yield from self._chains(ruled)
        commands = [nftables.list_command(*table) for table in tables]
        listed = processes.run_many(commands, parallel=_PARALLEL_SAVES, timeout=_SAVE_SECONDS)
        for (name, _), completed in zip(tables, listed, strict=True):
            yield from nftables.parse_listed(name, completed)
        filled = sorted((self._balanced | self._filled) & self._fds.keys())
        commands = [ipset.save_command(name) for name in filled]
        saved = processes.run_many(commands, parallel=_PARALLEL_SAVES, timeout=_SAVE_SECONDS)
        for name, completed in zip(filled, saved, strict=True):
            yield from ipset.parse_saved(name, completed)

    def _namespace(self, name: str) -> Iterator[KernelObject]:
        """All that netlink lists of one namespace, but for veth ends, which wait for their peers."""
        dump = self._sockets[name].dump
        found = [
            (links.INFO.unpack_from(body), netlink.attributes(body, links.INFO.size))
            for body in dump(links.RTM_GETLINK, links.EVERY_LINK)
        ]
        link_names = {info[2]: netlink.string(link, links.IFLA_IFNAME) for info, link in found}
        for (_, _, index, flags, _), link in found:
            up = bool(flags & links.IFF_UP)
            kind = links.kind(link)
            if index == links.LOOPBACK:
                yield Netns(name, up)
            elif kind == "dummy" or link_names[index] == names.IPVS_LINK:  # a bridge may stand in for it
                self._balanced |= {name} if link_names[index] == names.IPVS_LINK else set()
                yield links.read_dummy(name, index, link, up)
            elif kind == "bridge":
                yield links.read_bridge(name, index, link, up)
            elif kind == "vxlan":
                yield links.read_vxlan(name, index, link, link_names, up)
                for body in dump(addresses.RTM_GETNEIGH, addresses.entries_of(index), strict=True):
                    yield from _present(addresses.read_forwarding(name, body, link_names))
            elif kind == "veth":
                self._ends.append(veths.read_end(name, index, link, link_names, up))
        shaped = any(netlink.string(link, links.IFLA_QDISC) == "tbf" for _, link in found)
        yield from self._entries(name, link_names, _SHAPING if shaped else ())

    def _entries(
        self, name: str, link_names: dict[int, str], more: tuple[tuple[int, bytes, Reader], ...]
    ) -> Iterator[KernelObject]:
        """What is on the links."""
        for request, header, read in (*_ENTRIES, *more):
            for body in self._sockets[name].dump(request, header):
                yield from _present(read(name, body, link_names))

    def _servers(self, name: str) -> Iterator[KernelObject]:
        """IPVS, without the backends that nobody plans any more and that only wait for their connections to end."""
        for server in ipvs.read(name):
            if isinstance(server, RealServer) and ipvs.is_draining(server):
                if (name, ipvs.real_key(server)) in self._backends:
                    yield server
            else:
                yield server

    def _udp_destinations(self, name: str) -> Iterator[UdpDestination]:
        """Those planned, which exist by their rules; one with flows to somebody else has him among its servers."""
        destinations = self._destinations[name]
        strangers = conntrack.strangers(name, destinations)
        for item in destinations:
            others = sorted(strangers.get(item, ()), key=int)
            yield replace(item, servers=(*item.servers, *others)) if others else item

    def _ask(self, name: str, requests: list[bytes]) -> list[bytes | None]:
        return self._sockets[name].ask(requests)

    def _chains(self, ruled: list[Ruled]) -> Iterator[IptablesChain]:
        """Every chain, but for built-in ones that nobody named and nothing is in: their table brought them along."""
        named = {
            (item.netns, item.family, item.table, item.name, item.backend)
            for item in self._planned
            if isinstance(item, IptablesChain)
        }
        commands = [processes.Command(_save_command(family, backend), name) for name, family, backend in ruled]
        saved = processes.run_many(commands, parallel=_PARALLEL_SAVES, timeout=_SAVE_SECONDS)
        for (name, family, backend), completed in zip(ruled, saved, strict=True):
            for chain in iptables.parse_saved(name, family, completed, backend):
                if (name, family, chain.table, chain.name, backend) in named or not iptables.is_untouched(chain):
                    yield chain


def _present(item: KernelObject | None) -> Iterator[KernelObject]:
    if item is not None:
        yield item


def _save_command(family: Family, backend: IptablesBackend) -> list[str]:
    return [iptables.program(family, "save")] if backend == "nft" else iptables_legacy.save_command(family)


def _has_tables(name: str, family: Family) -> bool:
    """Whether the namespace the thread is in has any nf_tables table of a family: asked before a process is started."""
    with netlink.Socket(name, _NETLINK_NETFILTER) as nfnetlink:
        kind = _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETTABLE
        return any(body[0] == _NFPROTO[family] for body in nfnetlink.dump(kind, bytes((_NFPROTO[family], 0, 0, 0))))
