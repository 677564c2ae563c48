"""The sockets that listen in the pods' names, each made inside the pod's network namespace and used from outside.

Part of the pod server, so it imports as little as possible.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

from k8snetlab.workloads.healthcheck import HealthCheck
from k8snetlab.workloads.http1 import Conversation
from k8snetlab.workloads.loop import Handler, Loop
from k8snetlab.workloads.netexec import Identity, answer_datagram, endpoint

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

CLONE_NEWNET = 0x40000000
SCTP = 132  # IPPROTO_SCTP
IP_PKTINFO = 8  # linux/in.h; Python names it only from 3.12 on
Listener = tuple[str, int]  # protocol, port


class Server:
    """What is open in one pod's name or for a Service's health check.

    `inode` tells its namespace from a later one of the same name.
    """

    __slots__ = ("identity", "inode", "netns", "open")

    def __init__(self, netns: str, inode: int, identity: Identity | HealthCheck) -> None:
        self.netns, self.inode, self.identity = netns, inode, identity
        self.open: dict[Listener, Acceptor | Datagrams] = {}

    def listen(self, loop: Loop, protocol: str, port: int) -> None:
        """Open one more socket; the process must be inside the namespace. Raises OSError."""
        handler = Datagrams(self, port) if protocol == "UDP" else Acceptor(loop, self, protocol, port)
        self.open[protocol, port] = handler
        loop.watch(handler)

    def close(self, loop: Loop, listener: Listener) -> None:
        """Stop listening; conversations that have begun go on."""
        loop.drop(self.open.pop(listener))


class Acceptor(Handler):
    """A listening TCP or SCTP socket."""

    __slots__ = ("loop", "protocol", "server")

    def __init__(self, loop: Loop, server: Server, protocol: str, port: int) -> None:
        self.loop, self.server, self.protocol = loop, server, protocol
        self.sock = bound(socket.SOCK_STREAM, SCTP if protocol == "SCTP" else 0, port)
        self.sock.listen(1024)

    def ready(self) -> None:
        for _ in range(64):
            try:
                sock, _address = self.sock.accept()
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE):
                    self.loop.drop_oldest()
                return
            try:
                Conversation(self.loop, sock, self.server.identity, self.protocol)
            except OSError:  # reset before it was looked at
                sock.close()


class Datagrams(Handler):
    """A UDP socket. The answer leaves from the address that was asked: with several addresses on a node the kernel
    would choose by route, and the client's conntrack entry would not match."""

    __slots__ = ("port", "server")

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port
        self.sock = bound(socket.SOCK_DGRAM, 0, port)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def ready(self) -> None:
        for _ in range(64):
            try:
                payload, control, _flags, client = self.sock.recvmsg(65535, 256)
            except OSError:  # nothing more, or an ICMP error about an earlier answer
                return
            own, reply = self._asked(control)
            who = self.server.identity
            answer = answer_datagram(payload, who, own, endpoint(client)) if isinstance(who, Identity) else None
            if answer is None:
                continue
            try:
                self.sock.sendmsg([answer], reply, 0, client)
            except OSError:  # too long, no route, forbidden by a rule: a datagram may be lost
                continue

    def _asked(self, control: list[tuple[int, int, bytes]]) -> tuple[str, list[tuple[int, int, bytes]]]:
        """The address the datagram came to, and the control message that sends from it."""
        for level, kind, data in control:
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):  # struct in6_pktinfo
                host = socket.inet_ntop(socket.AF_INET6, data[:16])
                return endpoint((host, self.port)), [(level, kind, data[:16] + struct.pack("i", 0))]
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and self.sock.family == socket.AF_INET:
                host = socket.inet_ntop(socket.AF_INET, data[4:8])  # struct in_pktinfo: ipi_spec_dst
                return endpoint((host, self.port)), [(level, kind, struct.pack("i4s4s", 0, data[4:8], b""))]
        return endpoint(("", self.port)), []


def bound(kind: int, protocol: int, port: int) -> socket.socket:
    """A non-blocking socket on every address of the namespace, both families where there is IPv6."""
    try:
        sock = socket.socket(socket.AF_INET6, kind, protocol)
    except OSError as problem:
        if problem.errno != errno.EAFNOSUPPORT:
            raise
        sock = socket.socket(socket.AF_INET, kind, protocol)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock


def inode_of(path: str) -> int:
    """What tells a namespace from a later one of the same name; 0 when it is gone."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116  (pathlib costs 10 ms of start-up)
    except FileNotFoundError:
        return 0


def setns(fd: int) -> None:
    """Enter the network namespace behind `fd`; `os.setns` exists from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        os.setns(fd, CLONE_NEWNET)
    elif _libc().setns(fd, CLONE_NEWNET) != 0:
        import ctypes

        raise OSError(ctypes.get_errno(), "setns")


_loaded: list[Any] = []


def _libc() -> Any:
    if not _loaded:
        import ctypes

        _loaded.append(ctypes.CDLL(None, use_errno=True))
    return _loaded[0]
