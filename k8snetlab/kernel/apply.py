"""Make the kernel contain what is missing and not contain what is extra.

The steps, each for all namespaces before the next: remove, make namespaces (with the sysctls that must hold before a
link exists), start the iptables restores, make links, then fill each namespace with addresses, neighbours and routes.
One netlink socket a namespace, made while inside it; no step waits for an answer it does not need.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from k8snetlab.errors import KernelError
from k8snetlab.kernel import addresses, iptables, links, netlink, netns, processes, sysctl
from k8snetlab.kernel.changes import Changes, Entry, Link, changes, ends
from k8snetlab.kernel.describe import describe
from k8snetlab.plan.state import Address, Bridge, FdbEntry, Family, KernelObject, Neighbour, Netns, Route, Veth, Vxlan

Progress = Callable[[int, int], None]  # namespaces done, namespaces to do

_PARALLEL_RESTORES: Final = 2
_RESTORE_SECONDS: Final = 300.0
_EXISTS: Final = frozenset({errno.EEXIST})
# All links that go, go in one step (RTM_DELLINK of a group): each alone would wait for an RCU grace period, 15 ms.
_DOOMED_GROUP: Final = 0x6B38736E
# No automatic link-local address on any link: what the plan wants it says (net/ipv6/addrconf.c, addr_gen_mode none).
_NO_LINK_LOCAL: Final = "net.ipv6.conf.default.addr_gen_mode"


def apply(
    missing: Iterable[KernelObject],
    extra: Iterable[KernelObject] = (),
    planned: Sequence[KernelObject] = (),
    progress: Progress | None = None,
) -> None:
    """Make what is missing, remove what is extra; an object that changed is in both.

    `planned` is the whole state wanted: needed with `extra`, for what the kernel takes away along with it. The process
    must be in the lab's mount namespace and may be in any network namespace; it is in the same one afterwards. PodServer
    and Process are passed over. Raises KernelError or HostError for the first object refused; what could be made stays.
    """
    netns.raise_file_limit()
    todo = changes(missing, extra, planned)
    with netns.returning(), ExitStack() as stack:
        Work(todo, stack, progress).run()


class Work:
    """One application of changes: the open namespaces, their sockets and their links' indexes."""

    def __init__(self, todo: Changes, stack: ExitStack, progress: Progress | None) -> None:
        self._todo = todo
        self._stack = stack
        self._fds: dict[str, int] = {}
        self._sockets: dict[str, netlink.Socket] = {}
        self._indexes: dict[str, dict[str, int]] = defaultdict(dict)
        self._progress = progress

    def run(self) -> None:
        self._remove()
        for name in self._todo.created:
            self._create(name)
        for name, values in self._todo.early.items():
            if name not in self._fds:
                self._write_sysctls(name, values)
        self._note_indexes()
        texts = self._restore_texts()
        commands = (
            processes.Command(iptables.restore_command(family), name, text.encode())
            for (name, family), text in texts.items()
        )
        with processes.Pool(commands, parallel=_PARALLEL_RESTORES, timeout=_RESTORE_SECONDS) as pool:
            for _ in self._make():
                _check(texts, pool.advance())
            while ended := pool.advance(block=True):
                _check(texts, ended)

    def _remove(self) -> None:
        """Entries, then links, then whole namespaces: these take along what is only in them."""
        for name, entries in self._todo.taken.items():
            self._send("remove", name, [(e, self._entry(e, delete=True)) for e in entries], tolerate=netlink.GONE)
        self._remove_links()
        for name in self._todo.removed:
            netns.remove(name)

    def _remove_links(self) -> None:
        doomed: defaultdict[str, list[tuple[KernelObject, bytes]]] = defaultdict(list)
        removed = set(self._todo.removed)
        for link in self._todo.unlinked:
            # Of a veth pair that end whose namespace stays: it alone can be reached.
            name, index = link.netns, link.index
            if isinstance(link, Veth) and (name in removed or not name):
                name, index = link.peer_netns, link.peer_index
            if name and name not in removed:
                doomed[name].append((link, links.set_group(index, _DOOMED_GROUP)))
        for name, requests in doomed.items():
            self._send("remove", name, requests, tolerate=netlink.GONE)
            self._send("remove", name, [(requests[0][0], links.delete_group(_DOOMED_GROUP))], tolerate=netlink.GONE)

    def _create(self, name: str) -> None:
        """A new namespace; the thread stays inside until the next one."""
        fd = netns.create(name)
        self._stack.callback(os.close, fd)
        self._fds[name] = fd
        self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
        if _has_ipv6():
            sysctl.write(name, _NO_LINK_LOCAL, "1")
        for item in self._todo.early.get(name, ()):
            sysctl.write(name, item.key, item.value)

    def _make(self) -> Iterator[None]:
        """Links, then what is on them, a namespace a step."""
        made: defaultdict[str, list[Link]] = defaultdict(list)
        for link in self._todo.links:
            made[link.netns].append(link)
        # A tunnel end stands on a link that may be a veth's far end, made with another namespace's links.
        for kinds in ((Bridge,), (Veth,), (Vxlan,)):
            for name, items in made.items():
                requests = [(link, self._link(link)) for link in items if isinstance(link, kinds)]
                self._send("create", name, requests)
                yield
        for old, new in self._todo.updated:
            self._update(old, new)
        yield from self._fill()

    def _fill(self) -> Iterator[None]:
        """Per namespace: loopback and the far ends of cables up, then addresses, neighbours and routes, one send."""
        todo = self._todo
        rising: defaultdict[str, list[tuple[KernelObject, bytes]]] = defaultdict(list)
        for name in todo.created:
            rising[name].append((Netns(name), links.LOOPBACK_UP))
        for link in todo.links:
            if isinstance(link, Veth):
                rising[link.peer_netns].append((link, links.up(link.peer_index)))
        names = list(dict.fromkeys((*rising, *todo.added, *todo.restored, *todo.late)))
        for count, name in enumerate(names, 1):
            restored = todo.restored.get(name)
            added = [(entry, self._entry(entry)) for entry in todo.added.get(name, ())]
            if restored:
                self._send("set up", name, rising[name])
                # Still there, most of them: only what the kernel took away is made again.
                self._send("restore", name, [(e, self._entry(e)) for e in restored], tolerate=_EXISTS)
                self._send("create", name, added, tolerate=frozenset())
            else:
                self._send("create", name, [*rising.get(name, ()), *added])
            if name in todo.late:
                self._write_sysctls(name, todo.late[name])
            if self._progress is not None:
                self._progress(count, len(names))
            yield

    def _link(self, link: Link) -> bytes:
        match link:
            case Bridge():
                return links.bridge(link)
            case Veth():
                master = self._index(link.netns, link.master) if link.master else 0
                return links.veth(link, self._fd(link.peer_netns), master)
            case Vxlan():
                return links.vxlan(link, self._index(link.netns, link.underlay))

    def _update(self, old: Link, new: Link) -> None:
        """Change a link in place: what differs, and of a pair each end in its own namespace."""
        near = b""
        if (old.mac, old.mtu) != (new.mac, new.mtu):
            near += links.change(new.index, mac=new.mac, mtu=new.mtu)
        if isinstance(old, Veth) and isinstance(new, Veth):
            if old.master != new.master:
                near += links.change(new.index, master=self._index(new.netns, new.master) if new.master else 0)
            # A link that becomes a port starts without hairpin mode.
            if new.master and (old.hairpin, old.master) != (new.hairpin, new.master):
                near += links.hairpin(new.index, new.hairpin)
            if (old.peer_mac, old.peer_mtu) != (new.peer_mac, new.peer_mtu):
                far = links.change(new.peer_index, mac=new.peer_mac, mtu=new.peer_mtu)
                self._send("change", new.peer_netns, [(new, far)])
        if near:
            self._send("change", new.netns, [(new, near)])

    def _entry(self, entry: Entry, *, delete: bool = False) -> bytes:
        index = self._index(entry.netns, entry.link) if entry.link else 0
        match entry:
            case Address():
                return addresses.address(entry, index, delete=delete)
            case Neighbour():
                return addresses.neighbour(entry, index, delete=delete)
            case FdbEntry():
                return addresses.forwarding(entry, index, delete=delete)
            case Route():
                return addresses.route(entry, index, delete=delete)

    def _restore_texts(self) -> dict[tuple[str, Family], str]:
        return {
            where: iptables.restore_text(write, delete) for where, (write, delete) in self._todo.chains.items()
        }

    def _write_sysctls(self, name: str, values: Iterable[KernelObject]) -> None:
        with netns.inside(self._fd(name)):
            for item in values:
                sysctl.write(name, item.key, item.value)

    def _send(
        self,
        operation: str,
        name: str,
        requests: Sequence[tuple[KernelObject, bytes]],
        *,
        tolerate: frozenset[int] = frozenset(),
    ) -> None:
        if requests:
            self._socket(name).send(operation, requests, tolerate=tolerate)

    def _fd(self, name: str) -> int:
        fd = self._fds.get(name)
        if fd is None:
            fd = self._fds[name] = netns.open_netns(name)
            self._stack.callback(os.close, fd)
        return fd

    def _socket(self, name: str) -> netlink.Socket:
        found = self._sockets.get(name)
        if found is None:
            with netns.inside(self._fd(name)):
                found = self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
        return found
