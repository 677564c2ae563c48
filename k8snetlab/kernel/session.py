"""The namespaces one application of changes has open: their fds, their sockets, their links' indexes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from k8snetlab.errors import KernelError
from k8snetlab.kernel import links, netlink, netns
from k8snetlab.kernel.changes import Link
from k8snetlab.kernel.sysctl import Sysctls
from k8snetlab.plan.state import KernelObject, Veth

Requests = Sequence[tuple[KernelObject, bytes]]


class Session:
    """Opens each namespace once, when it is first needed; `with` closes them all and brings the thread back."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._sockets: dict[str, netlink.Socket] = {}
        self._indexes: dict[tuple[str, str], int] = {}
        self._listed: set[str] = set()
        self._stack = ExitStack()
        self.sysctls = Sysctls()

    def __enter__(self) -> Self:
        self._stack.enter_context(netns.returning())
        self._stack.enter_context(self.sysctls)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def create(self, name: str) -> None:
        """A new namespace; the thread stays inside it."""
        self._fds[name] = fd = netns.create(name)
        self._stack.callback(os.close, fd)
        self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
        self._listed.add(name)  # it has no link but those that will be noted

    def fd(self, name: str) -> int:
        found = self._fds.get(name)
        if found is None:
            found = self._fds[name] = netns.open_netns(name)
            self._stack.callback(os.close, found)
        return found

    def send(self, operation: str, name: str, requests: Requests, tolerate: frozenset[int] = frozenset()) -> None:
        """Send the messages of objects to the namespace they live in; see `netlink.Socket.send`."""
        if requests:
            self._socket(name).send(operation, requests, tolerate=tolerate)

    def note(self, made: Iterable[Link]) -> None:
        """Links that are going to be made: their indexes are known beforehand."""
        for link in made:
            self._indexes[link.netns, link.name] = link.index
            if isinstance(link, Veth):
                self._indexes[link.peer_netns, link.peer_name] = link.peer_index

    def find(self, name: str, link: str) -> int:
        """The index of a link; 0 when there is no link of that name."""
        if link == "lo":
            return links.LOOPBACK
        index = self._indexes.get((name, link))
        if index is None and name not in self._listed:
            self._listed.add(name)
            for body in self._socket(name).dump(links.RTM_GETLINK, links.EVERY_LINK):
                found = netlink.string(netlink.attributes(body, links.INFO.size), links.IFLA_IFNAME)
                self._indexes.setdefault((name, found), links.INFO.unpack_from(body)[2])
            index = self._indexes.get((name, link))
        return index or 0

    def index(self, name: str, link: str) -> int:
        """The index of a link; KernelError when there is no link of that name."""
        index = self.find(name, link)
        if not index:
            raise KernelError("find link", netns=name, subject=link, reason="no such link")
        return index

    def exists(self, name: str, index: int) -> bool:
        """Whether a namespace has a link with this index."""
        return self._socket(name).ask([links.lookup(index)])[0] is not None

    def _socket(self, name: str) -> netlink.Socket:
        found = self._sockets.get(name)
        if found is None:
            with netns.inside(self.fd(name)):
                found = self._sockets[name] = self._stack.enter_context(netlink.Socket(name))
        return found
