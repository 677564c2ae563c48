"""The lab's one server: it stands in for the containers of every pod, in one process with one epoll loop.

A socket stays in the network namespace it was made in, so this process enters a pod's namespace only to listen there
and then goes home. It answers like `netexec` of Kubernetes' agnhost image: HTTP on TCP (and SCTP), words on UDP; `/`
says in JSON who answered and whom the server saw. Nothing a client sends is ever executed.

Run as `python3 -I -S podserver.py --control PATH`. It imports nothing of the package and little of the standard
library, since its start is part of every `up`. On the control socket, JSON lines each way:

    {"set": [{"netns", "pod", "node", "hostname", "listeners": [["TCP", 80], …]}, …]}   adds or replaces, by (netns, pod)
    {"remove": [[netns, pod], …]}                                                      answer: {"errors": […]}
    {"list": true}                                  answer: {"servers": […]}, the same shape: what is really open now

An entry of `errors` is `{"netns", "pod", "protocol", "port", "error"}`, `error` an errno name such as EADDRINUSE.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from time import monotonic

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

IDLE_SECONDS = 60.0
HEAD_LIMIT = 64 * 1024
BIG_LIMIT = 64 * 1024 * 1024
CONTROL_LIMIT = 64 * 1024 * 1024
CHUNK = 64 * 1024
SPARE_FDS = 64  # kept free of listeners, so that connections can always be accepted
SCTP = 132  # IPPROTO_SCTP
IP_PKTINFO = 8  # linux/in.h; Python names it only from 3.12 on
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ")
REASONS = {
    100: "Continue", 200: "OK", 301: "Moved Permanently", 302: "Found", 303: "See Other", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 505: "HTTP Version Not Supported",
}  # fmt: skip
# netexec can run commands, dial, take uploads and exit on request; a stand-in for somebody's pod must not.
FORBIDDEN = {"/shell", "/dial", "/upload", "/exit"}
READ_HEAD, SKIP_BODY, READ_CHUNK, READ_TRAILER, DRAIN = range(5)


def setns(fd: int) -> None:
    """Enter the network namespace behind `fd`; `os.setns` exists from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        os.setns(fd, 0x40000000)
    elif (_LIBC or _load_libc()).setns(fd, 0x40000000) != 0:  # CLONE_NEWNET
        import ctypes

        raise OSError(ctypes.get_errno(), "setns")


_LIBC: Any = None


def _load_libc() -> Any:
    global _LIBC
    import ctypes

    _LIBC = ctypes.CDLL(None, use_errno=True)
    return _LIBC


class Server:
    """What is open in one pod's name; `inode` tells its namespace from a later one of the same name."""

    __slots__ = ("identity", "inode", "listeners", "netns")

    def __init__(self, netns: str, inode: int, identity: Identity) -> None:
        self.netns, self.inode, self.identity = netns, inode, identity
        self.listeners: dict[tuple[str, int], Listener] = {}


class Acceptor:
    """A listening TCP or SCTP socket of one pod."""

    __slots__ = ("loop", "protocol", "server", "sock")

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
                Conversation(self.loop, sock, self)
            except OSError:  # gone before it was looked at
                self.loop.drop_socket(sock)


class Datagrams:
    """A UDP socket of one pod. The answer leaves from the address that was asked: with several addresses on a node the
    kernel would choose by route, and the client's conntrack entry would not match."""

    __slots__ = ("protocol", "server", "sock")

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.protocol = server, "UDP"
        self.sock = bound(socket.SOCK_DGRAM, 0, port)
        self.sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)

    def ready(self) -> None:
        for _ in range(64):
            try:
                payload, control, _flags, client = self.sock.recvmsg(65535, 256)
            except OSError:
                return
            if payload.startswith(b'{"pod"'):
                continue  # another server's answer to a forged question: answering would never end
            own, reply = self._asked(control)
            words = payload.strip()
            if words == b"hostname":
                answer = self.server.hostname.encode()
            elif words == b"clientip":
                answer = endpoint(client).encode()
            elif words[:5] == b"echo ":
                answer = words[5:]
            else:
                answer = self.server.describe(own, endpoint(client), "UDP", "", "", "").encode()
            try:
                self.sock.sendmsg([answer], reply, 0, client)
            except OSError:  # too long, no route, forbidden by a rule: a datagram may be lost
                continue

    def _asked(self, control: list[tuple[int, int, bytes]]) -> tuple[str, list[tuple[int, int, bytes]]]:
        port = self.sock.getsockname()[1]
        for level, kind, data in control:
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):  # struct in6_pktinfo
                host = socket.inet_ntop(socket.AF_INET6, data[:16])
                return endpoint((host, port)), [(level, kind, data[:16] + struct.pack("i", 0))]
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO) and self.sock.family == socket.AF_INET:
                host = socket.inet_ntop(socket.AF_INET, data[4:8])  # struct in_pktinfo: ipi_spec_dst
                return endpoint((host, port)), [(level, kind, struct.pack("i4s4s", 0, data[4:8], b""))]
        return endpoint(("", port)), []


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
