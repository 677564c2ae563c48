"""From what is missing and what is extra to what must be done, sorted by step and by namespace. Pure.

A difference of two states does not say everything: what the kernel takes away with a link (its addresses, routes,
neighbours, its ports) must come back although nobody changed it. For that the whole plan is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from k8snetlab.kernel.sysctl import of_link
from k8snetlab.plan.state import (
    Address,
    Bridge,
    DnsName,
    Dummy,
    Family,
    FdbEntry,
    File,
    IpSet,
    IpSetEntry,
    IptablesBackend,
    IptablesChain,
    KernelObject,
    Neighbour,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    NftTable,
    ProxyFile,
    RealServer,
    Route,
    SelfSigned,
    Sysctl,
    TokenBucket,
    UdpDestination,
    Veth,
    VirtualServer,
    Vxlan,
)

Link = Bridge | Veth | Vxlan | Dummy
Entry = Address | Neighbour | FdbEntry | TokenBucket | Route
End = tuple[str, str]  # a namespace and the name of a link in it
RulesOf = tuple[str, Family, IptablesBackend]
NftObject = NftTable | NftSet | NftChain | NftElement
SetObject = IpSet | IpSetEntry
Server = VirtualServer | RealServer

_MAKE, _DROP = 0, 1  # places in the pairs of `Changes`

_ENTRY_ORDER: Final = {Address: 0, Neighbour: 1, FdbEntry: 1, TokenBucket: 1, Route: 2}


def _lists() -> defaultdict[str, list[Entry]]:
    return defaultdict(list)


@dataclass(slots=True)
class Changes:
    """What to do, in the order of the fields; `raised` are namespaces whose loopback must come up."""

    removed: list[str] = field(default_factory=list)
    taken: defaultdict[str, list[Entry]] = field(default_factory=_lists)
    unlinked: list[Link] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    early: defaultdict[str, list[Sysctl]] = field(default_factory=lambda: defaultdict(list))
    chains: dict[RulesOf, tuple[list[IptablesChain], list[IptablesChain]]] = field(default_factory=dict)
    nftables: dict[str, tuple[list[NftObject], list[NftObject]]] = field(default_factory=dict)  # to make, to remove
    sets: dict[str, tuple[list[SetObject], list[SetObject]]] = field(default_factory=dict)
    servers: dict[str, tuple[list[Server], list[Server]]] = field(default_factory=dict)
    destinations: dict[str, list[UdpDestination]] = field(default_factory=dict)  # whose flows to look through
    links: list[Link] = field(default_factory=list)
    updated: list[tuple[Link, Link]] = field(default_factory=list)
    added: defaultdict[str, list[Entry]] = field(default_factory=_lists)
    restored: defaultdict[str, list[Entry]] = field(default_factory=_lists)
    late: defaultdict[str, list[Sysctl]] = field(default_factory=lambda: defaultdict(list))


def changes(
    missing: Iterable[KernelObject], extra: Iterable[KernelObject] = (), planned: Sequence[KernelObject] = ()
) -> Changes:
    """Sort the difference; `planned` is the whole state wanted, needed only where something is extra."""
    todo = Changes()
    extra = tuple(extra)
    missing = tuple(missing)
    for item in missing:
        _add(todo, item)
    if extra:
        listed = {item.name for item in extra if isinstance(item, Netns)}
        todo.raised += [name for name in todo.created if name in listed]
        todo.created = [name for name in todo.created if name not in listed]
        _remove(todo, extra, listed.difference(todo.raised))
        _restore(todo, set(missing), planned)
    for entries in (*todo.added.values(), *todo.restored.values()):
        entries.sort(key=_entry_order)
    return todo


def ends(link: Link) -> tuple[End, ...]:
    """Where a link shows: one place, or two for a veth pair."""
    if isinstance(link, Veth):
        return (link.netns, link.name), (link.peer_netns, link.peer_name)
    return ((link.netns, link.name),)


def _add(todo: Changes, item: KernelObject) -> None:
    match item:
        case Netns(name):
            todo.created.append(name)
        case Bridge() | Veth() | Vxlan() | Dummy():
            todo.links.append(item)
        case Address() | Neighbour() | FdbEntry() | TokenBucket() | Route():
            todo.added[item.netns].append(item)
        case Sysctl():
            (todo.late if of_link(item.key) else todo.early)[item.netns].append(item)
        case UdpDestination():
            todo.destinations.setdefault(item.netns, []).append(item)
        case _:
            _collect(todo, item, _MAKE)


def _remove(todo: Changes, extra: Sequence[KernelObject], gone: set[str]) -> None:
    """Sort what must go; what is in a namespace that goes as a whole goes with it."""
    todo.removed += sorted(gone)
    made = {(link.netns, link.name): link for link in todo.links}
    written = {(c.netns, c.family, c.table, c.name, c.backend) for write, _ in todo.chains.values() for c in write}
    for item in extra:
        match item:
            case Veth() if {item.netns, item.peer_netns} <= gone:
                pass
            case Bridge() | Veth() | Vxlan() | Dummy() if isinstance(item, Veth) or item.netns not in gone:
                _unlink(todo, item, made.get((item.netns, item.name)))
            case Address() | Neighbour() | FdbEntry() | TokenBucket() | Route() if item.netns not in gone:
                todo.taken[item.netns].append(item)
            case IptablesChain() if (item.netns, item.family, item.table, item.name, item.backend) in written:
                pass  # it is written anew
            case Netns() | DnsName() | File() | ProxyFile() | SelfSigned():
                pass
            case _ if item.netns not in gone:
                _collect(todo, item, _DROP)
            case _:
                pass
    dead = {end for link in todo.unlinked for end in ends(link)}
    for netns, entries in todo.taken.items():
        # Routes first: with an address or a neighbour the kernel takes away the routes that need it.
        todo.taken[netns] = sorted((e for e in entries if (netns, e.link) not in dead), key=_entry_order, reverse=True)


def _unlink(todo: Changes, link: Link, wanted: Link | None) -> None:
    if wanted is not None and _same_but_for_details(link, wanted):
        todo.updated.append((link, wanted))
        todo.links.remove(wanted)
    else:
        todo.unlinked.append(link)


def _collect(todo: Changes, item: KernelObject, which: int) -> None:
    """What is removed by the same program, or the same conversation, that makes its like. What is the lab's (a
    PodServer, a File, …) is nothing of the kernel's."""
    match item:
        case IptablesChain():
            todo.chains.setdefault((item.netns, item.family, item.backend), ([], []))[which].append(item)
        case NftTable() | NftSet() | NftChain() | NftElement():
            todo.nftables.setdefault(item.netns, ([], []))[which].append(item)
        case IpSet() | IpSetEntry():
            todo.sets.setdefault(item.netns, ([], []))[which].append(item)
        case VirtualServer() | RealServer():
            todo.servers.setdefault(item.netns, ([], []))[which].append(item)
        case _:
            pass


def _restore(todo: Changes, missing: set[KernelObject], planned: Sequence[KernelObject]) -> None:
    """What dies with a link that is made anew or with an address that goes, and is still planned."""
    dead = {end for link in todo.unlinked for end in ends(link)}
    taken = [entry for entries in todo.taken.values() for entry in entries if isinstance(entry, Address)]
    # A dummy holds addresses of their own, without a network: nothing else goes with one of them.
    dummies = {(item.netns, item.name) for item in planned if isinstance(item, Dummy)} if taken else set()
    stirred = {entry.netns for entry in taken if (entry.netns, entry.link) not in dummies}
    stirred |= {netns for netns, _ in dead}
    forgetful = {end for old, new in todo.updated for end in _new_macs(old, new)}
    if not stirred and not forgetful:
        return
    for item in planned:
        if item in missing:
            continue
        match item:
            case Vxlan() if (item.netns, item.underlay) in dead:
                todo.links.append(item)
                dead.add((item.netns, item.name))
            case Vxlan() | Veth() if item.master and (item.netns, item.master) in dead:
                todo.updated.append((_freed(item), item))
            case Address() | Route() if item.netns in stirred:
                todo.restored[item.netns].append(item)
            case Neighbour() | FdbEntry() | TokenBucket() if (item.netns, item.link) in dead | forgetful:
                todo.restored[item.netns].append(item)
            case Sysctl() if (item.netns, of_link(item.key)) in dead:
                todo.late[item.netns].append(item)
            case _:
                pass


def _freed(port: Vxlan | Veth) -> Link:
    """A bridge's port when the bridge is gone."""
    return replace(port, master="", hairpin=False) if isinstance(port, Veth) else replace(port, master="")


def _new_macs(old: Link, new: Link) -> Iterator[End]:
    """The ends whose MAC changes: with it the kernel forgets even permanent neighbours (neigh_changeaddr)."""
    if old.mac != new.mac:
        yield new.netns, new.name
    if isinstance(old, Veth) and isinstance(new, Veth) and old.peer_mac != new.peer_mac:
        yield new.peer_netns, new.peer_name


def _same_but_for_details(old: Link, new: Link) -> bool:
    """Whether the kernel can turn one into the other in place: MAC, MTU, up, and which bridge it is a port of."""
    if isinstance(old, Veth) and isinstance(new, Veth):
        adapted: Link = replace(
            old,
            mac=new.mac,
            mtu=new.mtu,
            peer_mac=new.peer_mac,
            peer_mtu=new.peer_mtu,
            master=new.master,
            hairpin=new.hairpin,
            up=new.up,
        )
    elif isinstance(old, Vxlan) and isinstance(new, Vxlan):
        adapted = replace(old, mac=new.mac, mtu=new.mtu, up=new.up, master=new.master)
    else:
        adapted = replace(old, mac=new.mac, mtu=new.mtu, up=new.up)
    return adapted == new


def _entry_order(entry: Entry) -> tuple[int, bool]:
    """Addresses, then who lives where, then routes: those to a link before those through a gateway on it."""
    return _ENTRY_ORDER[type(entry)], isinstance(entry, Route) and entry.via is not None
