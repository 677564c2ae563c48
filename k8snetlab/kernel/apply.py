"""Make the kernel contain what is missing and not contain what is extra.

The steps, each for all namespaces before the next: remove, make namespaces (with the sysctls that must hold before a
link exists), fill ipsets, start what loads iptables and nftables, make links, then fill each namespace with addresses,
neighbours, routes and IPVS servers; last, forget UDP flows to endpoints that are gone, and destroy ipsets that no rule
asks any more.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Final

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
)
from k8snetlab.kernel.changes import Changes, Entry, Link, NftObject, changes
from k8snetlab.kernel.session import Session
from k8snetlab.plan.state import (
    Address,
    Bridge,
    Dummy,
    Family,
    FdbEntry,
    IpSet,
    IpSetEntry,
    KernelObject,
    Neighbour,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    NftTable,
    Route,
    Sysctl,
    TokenBucket,
    Veth,
    VirtualServer,
    Vxlan,
)

Progress = Callable[[int, int], None]  # namespaces filled, namespaces to fill
Load = tuple[processes.Command, Callable[[processes.Completed], None]]  # a program, and what judges how it ended

_PARALLEL_RESTORES: Final = 2
_RESTORE_SECONDS: Final = 300.0
FAMILIES: Final[tuple[Family, ...]] = (4, 6)
_EXISTS: Final = frozenset({errno.EEXIST})
_UNKNOWN_KIND: Final = frozenset({errno.EOPNOTSUPP})
# Links that go, go in one step (RTM_DELLINK of a group): each alone would wait for an RCU grace period, 15 ms.
_DOOMED_GROUP: Final = 0x6B38736E
_NO_IPV6: Final = frozenset({errno.EAFNOSUPPORT})  # a host without IPv6 cannot be told to make no IPv6 addresses

Batch = list[tuple[KernelObject, bytes]]


def apply(
    missing: Iterable[KernelObject],
    extra: Iterable[KernelObject] = (),
    planned: Sequence[KernelObject] = (),
    progress: Progress | None = None,
) -> None:
    """Make what is missing, remove what is extra; an object that changed is in both.

    `planned` is the whole state wanted: needed with `extra`, for what the kernel takes away along with it. The process
    must be in the lab's mount namespace; its network namespace is the same afterwards. What is the lab's and not the
    kernel's (PodServer, HealthCheck, Announcement, LearnedRoute, File, Process) is passed over. Raises KernelError or
    HostError for the first object refused; what was made stays.
    """
    netns.raise_file_limit()
    todo = changes(missing, extra, planned)
    if any(wanted for wanted, _ in todo.servers.values()):
        ipvs.require()  # before anything is touched
    with Session() as session:
        _remove(session, todo)
        _create(session, todo)
        session.note(todo.links)
        _fill_sets(todo, planned)
        loads = [*_restores(todo), *_transactions(todo, planned)]
        commands = (command for command, _ in loads)
        with processes.Pool(commands, parallel=_PARALLEL_RESTORES, timeout=_RESTORE_SECONDS) as pool:
            for _ in chain(_make(session, todo, progress), _balance(session, todo, planned)):
                _check(loads, pool.advance())
            while ended := pool.advance(block=True):
                _check(loads, ended)
        _commit_legacy(session, todo)
        _forget_flows(session, todo)
        sets = [(name, ipset.empty_text(*change)) for name, change in todo.sets.items()]
        ipset.restore(sets, parallel=_PARALLEL_RESTORES, timeout=_RESTORE_SECONDS)


def _remove(session: Session, todo: Changes) -> None:
    """Entries, then links, then whole namespaces: these take along what is only in them."""
    for name, entries in todo.taken.items():
        requests: Batch = [(entry, _entry(session, entry, delete=True)) for entry in entries]
        session.send("remove", name, requests, netlink.GONE)
    doomed: defaultdict[str, Batch] = defaultdict(list)
    removed = set(todo.removed)
    for link in todo.unlinked:
        name, index = link.netns, link.index
        if isinstance(link, Veth) and name in removed:  # the pair is reached from the end whose namespace stays
            name, index = link.peer_netns, link.peer_index
        if name not in removed:
            doomed[name].append((link, links.set_group(index, _DOOMED_GROUP)))
    for name, requests in doomed.items():
        group = (requests[0][0], links.delete_group(_DOOMED_GROUP))
        session.send("remove", name, [*requests, group], netlink.GONE)
    for name in todo.removed:
        netns.remove(name)


def _create(session: Session, todo: Changes) -> None:
    """Namespaces, with what must hold before the first link comes; then the same in those that were there."""
    for name in todo.created:
        session.create(name)  # the thread is inside from here on
        for item in todo.early.get(name, ()):
            session.sysctls.write(name, item.key, item.value)
    for name in todo.early.keys() - set(todo.created):
        _write_sysctls(session, name, todo.early[name])


def _make(session: Session, todo: Changes, progress: Progress | None) -> Iterator[None]:
    """Links, then what is on them, a namespace a step."""
    made: defaultdict[str, list[Link]] = defaultdict(list)
    for link in todo.links:
        made[link.netns].append(link)
    for name, items in made.items():  # ports after their bridge
        items.sort(key=lambda link: not isinstance(link, Bridge))
        requests = [(link, _link(session, link)) for link in items if not isinstance(link, Vxlan | Dummy)]
        session.send("create", name, requests, _NO_IPV6)
        _make_dummies(session, name, [link for link in items if isinstance(link, Dummy)])
        yield
    for name, items in made.items():  # the link a tunnel stands on may have been made with another namespace's links
        tunnels: Batch = [(link, _link(session, link)) for link in items if isinstance(link, Vxlan)]
        session.send("create", name, tunnels, _NO_IPV6)
    for old, new in todo.updated:
        _update(session, old, new)
    yield from _fill(session, todo, progress)


def _fill(session: Session, todo: Changes, progress: Progress | None) -> Iterator[None]:
    """Per namespace: loopback and the far ends of cables up, then addresses, neighbours and routes, in one send."""
    rising: defaultdict[str, Batch] = defaultdict(list)
    for name in (*todo.created, *todo.raised):
        rising[name].append((Netns(name), links.LOOPBACK_UP))
    for link in todo.links:
        if isinstance(link, Veth):
            rising[link.peer_netns].append((link, links.up(link.peer_index)))
    names = list(dict.fromkeys((*rising, *todo.restored, *todo.added, *todo.late)))
    for done, name in enumerate(names, 1):
        requests = rising[name]
        if name in todo.restored:
            session.send("set up", name, requests, _NO_IPV6)
            # Most of it is still there: only what the kernel has taken away is made again.
            restored = [(entry, _entry(session, entry)) for entry in todo.restored[name]]
            session.send("restore", name, restored, _EXISTS)
            requests = []
        requests += [(entry, _entry(session, entry)) for entry in todo.added.get(name, ())]
        session.send("create", name, requests, _NO_IPV6)
        if name in todo.late:
            _write_sysctls(session, name, todo.late[name])
        if progress is not None:
            progress(done, len(names))
        yield


def _balance(session: Session, todo: Changes, planned: Sequence[KernelObject]) -> Iterator[None]:
    """IPVS, a namespace a step: its addresses are there by now."""
    fresh = set(todo.created)
    every: defaultdict[str, list[VirtualServer]] = defaultdict(list)
    for item in planned if todo.servers.keys() - fresh else ():
        if isinstance(item, VirtualServer):
            every[item.netns].append(item)
    for name, (wanted, unwanted) in todo.servers.items():
        with netns.inside(session.fd(name)):
            ipvs.change(name, wanted, unwanted, fresh=name in fresh, planned=every[name])
        yield


def _commit_legacy(session: Session, todo: Changes) -> None:
    """By libiptc, a process for each family (`iptables_legacy.restore`)."""
    for family in FAMILIES:
        work = [
            iptables_legacy.Work(name, session.fd(name), *chains)
            for (name, of, backend), chains in todo.chains.items()
            if (of, backend) == (family, "legacy")
        ]
        if work:
            iptables_legacy.restore(family, work)


def _forget_flows(session: Session, todo: Changes) -> None:
    """Once the new rules hold, or a flow would be given to the old endpoint again; a new namespace has no flows."""
    for name in todo.destinations.keys() - set(todo.created):
        with netns.inside(session.fd(name)):
            conntrack.forget_stale(name, todo.destinations[name])


def _make_dummies(session: Session, name: str, dummies: Sequence[Dummy]) -> None:
    """Where the kernel has no dummies, bridges: any link holds an address."""
    session.send("create", name, [(link, links.dummy(link)) for link in dummies], _UNKNOWN_KIND)
    absent = [link for link in dummies if not session.exists(name, link.index)]
    session.send("create", name, [(link, links.dummy(link, stand_in=True)) for link in absent])


def _link(session: Session, link: Bridge | Veth | Vxlan) -> bytes:
    match link:
        case Bridge():
            return links.bridge(link)
        case Veth():
            master = session.index(link.netns, link.master) if link.master else 0
            return links.veth(link, session.fd(link.peer_netns), master)
        case Vxlan():
            master = session.index(link.netns, link.master) if link.master else 0
            return links.vxlan(link, session.index(link.netns, link.underlay), master)


def _update(session: Session, old: Link, new: Link) -> None:
    """Change a link in place: what differs, and of a pair each end in its own namespace."""
    near = b""
    if (old.mac, old.mtu) != (new.mac, new.mtu):
        near += links.change(new.index, mac=_new_mac(old.mac, new.mac), mtu=new.mtu)
    if isinstance(old, Veth | Vxlan) and isinstance(new, Veth | Vxlan) and old.master != new.master:
        near += links.change(new.index, master=session.index(new.netns, new.master) if new.master else 0)
    if isinstance(old, Veth) and isinstance(new, Veth):
        if new.master and (old.hairpin, old.master) != (new.hairpin, new.master):  # a new port starts without it
            near += links.hairpin(new.index, new.hairpin)
        far = b"" if old.up else links.up(new.peer_index)
        if (old.peer_mac, old.peer_mtu) != (new.peer_mac, new.peer_mtu):
            far += links.change(new.peer_index, mac=_new_mac(old.peer_mac, new.peer_mac), mtu=new.peer_mtu)
        session.send("change", new.peer_netns, [(new, far)], _NO_IPV6)
    if isinstance(new, Dummy):
        near += links.down(new.index) if old.up else b""
    else:
        near += b"" if old.up else links.up(new.index)
    session.send("change", new.netns, [(new, near)], _NO_IPV6)


def _new_mac(old: str, new: str) -> str:
    """Empty when it stays: even the same address, when set, makes the kernel forget all neighbours of the link."""
    return new if new != old else ""


def _entry(session: Session, entry: Entry, *, delete: bool = False) -> bytes:
    index = 0
    if entry.link:
        index = session.find(entry.netns, entry.link) if delete else session.index(entry.netns, entry.link)
    match entry:
        case Address():
            return addresses.address(entry, index, delete=delete)
        case Neighbour():
            return addresses.neighbour(entry, index, delete=delete)
        case FdbEntry():
            return addresses.forwarding(entry, index, delete=delete)
        case TokenBucket():
            return shaping.token_bucket(entry, index, delete=delete)
        case Route():
            return addresses.route(entry, index, delete=delete)


def _write_sysctls(session: Session, name: str, values: Iterable[Sysctl]) -> None:
    with netns.inside(session.fd(name)):
        for item in values:
            session.sysctls.write(name, item.key, item.value)


def _fill_sets(todo: Changes, planned: Sequence[KernelObject]) -> None:
    texts = []
    for name, (wanted, unwanted) in todo.sets.items():
        # Only a set that is made anew needs to be told what it had.
        remade = unwanted and any(isinstance(item, IpSet) for item in wanted)
        entries = [item for item in planned if isinstance(item, IpSetEntry) and item.netns == name] if remade else []
        texts.append((name, ipset.fill_text(wanted, unwanted, entries)))
    ipset.restore(texts, parallel=_PARALLEL_RESTORES, timeout=_RESTORE_SECONDS)


def _restores(todo: Changes) -> Iterator[Load]:
    for (name, family, backend), chains in todo.chains.items():
        if backend == "legacy":
            continue
        text = iptables.restore_text(*chains)
        command = processes.Command(iptables.restore_command(family, fresh=name in todo.created), name, text.encode())
        yield command, partial(iptables.check, name, text)


def _transactions(todo: Changes, planned: Sequence[KernelObject]) -> Iterator[Load]:
    wanted: defaultdict[str, list[NftObject]] = defaultdict(list)
    for item in planned if any(extra for _, extra in todo.nftables.values()) else ():
        if isinstance(item, NftTable | NftSet | NftChain | NftElement):
            wanted[item.netns].append(item)
    for name, (missing, extra) in todo.nftables.items():
        change = nftables.transaction(name, missing, extra, wanted[name])
        yield change.command(), partial(nftables.check, change)


def _check(loads: Sequence[Load], ended: Iterable[tuple[int, processes.Completed]]) -> None:
    for place, completed in ended:
        _, check = loads[place]
        check(completed)
