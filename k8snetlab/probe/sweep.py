"""Very many connections from very many pods, by one process with one epoll loop.

A socket stays in the namespace it was made in, so the process steps into each sender's namespace once, opens that
pod's sockets there and goes on. On veth a TCP handshake is over before connect(2) returns; what is not waits in the
loop, at most `WINDOW` at a time, until an answer, an error, the log of a dropped packet, or its time is up.
"""

from __future__ import annotations

import errno
import json
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import groupby
from struct import Struct
from types import TracebackType
from typing import Final, Literal, Self

from k8snetlab.errors import KernelError
from k8snetlab.flows.matrix import Pair, Sighting
from k8snetlab.kernel import netns as namespaces
from k8snetlab.probe.nflog import Drop, DropLog
from k8snetlab.probe.refusals import RECVERR, refusal

Protocol = Literal["TCP", "UDP", "SCTP"]
Progress = Callable[[str, int, int], None]  # of what, done, to do

# How many may wait at a time, as far as the limit of open files allows. Datagrams wait in a server's socket buffer too.
WINDOW: Final = 4096
_DATAGRAMS: Final = 1024
_OTHER_FILES: Final = 256
# Connection tracking remembers a UDP conversation for 30 s (nf_conntrack_udp_timeout), and whoever speaks from the same
# port again belongs to it, whatever policies say by now. So ports are taken in turn, from a place that moves on.
_PORTS: Final = range(32768, 61000)
_PORTS_A_SECOND: Final = 400
_PAYLOAD: Final = b"k8snetlab\n"  # no HTTP: the lab's server says in one line of JSON who it is, and closes
_SIZE: Final = 4096
_KINDS: Final[Mapping[str, tuple[int, int]]] = {
    "TCP": (socket.SOCK_STREAM, 0),
    "UDP": (socket.SOCK_DGRAM, 0),
    "SCTP": (socket.SOCK_STREAM, 132),  # socket.IPPROTO_SCTP is missing where the C library lacks it
}
_NUMBERS: Final = {6: "TCP", 17: "UDP", 132: "SCTP"}
_ESTABLISHED: Final = 1  # TCP_INFO, tcpi_state
_RESET_ON_CLOSE: Final = Struct("=ii").pack(1, 0)  # struct linger: no TIME_WAIT stays behind
_NO_FAMILY: Final = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT})
_ALLOWED: Final = Sighting("allowed")
# Both ends of a connection. Of one to a Service only the sender's, which no translation on the way touches.
Key = tuple[bytes, int, bytes, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to try: `ask` sends a line and waits for the answer, which says who answered (UDP always does); `dscp`
    marks every packet (RFC 2474), 0 for no mark; `timeout` is in seconds, of each connection."""

    protocol: Protocol = "TCP"
    ask: bool = False
    dscp: int = 0
    timeout: float = 1.0


def sweep(
    pairs: Sequence[Pair],
    nodes: Iterable[str],
    manner: Manner = Manner(),
    progress: Progress | None = None,
) -> list[Sighting]:
    """Try each pair once; sightings in the order of the pairs. Pairs of one sender should be neighbours.

    `nodes` are the namespaces whose drops are listened to. Raises KernelError for a namespace that does not exist.
    """
    namespaces.raise_file_limit()
    with ExitStack() as stack:
        stack.enter_context(namespaces.returning())
        run = stack.enter_context(_Sweep(pairs, manner))
        for node in nodes:
            run.listen(stack, node)
        told = 0.0
        for netns, group in groupby(range(len(pairs)), key=lambda place: pairs[place].netns):
            run.port = run.first_port
            with namespaces.inside(netns):
                for place in group:
                    run.start(place)
            run.turn(0.0)
            if progress and time.monotonic() - told > 0.1:  # enough for an eye
                told = time.monotonic()
                progress("connections", run.done, len(pairs))
        while run.pending:
            run.turn(run.patience())
        return [run.results[place] for place in range(len(pairs))]


@dataclass(slots=True)
class _Pending:
    """A connection that waits: for its handshake, or, once it has `asked`, for an answer."""

    place: int
    sock: socket.socket
    deadline: float
    key: Key
    asked: bool = False


class _Sweep:
    """The state of one sweep; `with` closes what is still open."""

    def __init__(self, pairs: Sequence[Pair], manner: Manner) -> None:
        self.pairs, self.manner = pairs, manner
        self.results: dict[int, Sighting] = {}
        self.pending: dict[int, _Pending] = {}
        self._by_key: dict[Key, int] = {}
        self._queue: deque[tuple[float, int, int]] = deque()  # deadline, fd, place: in order, since all wait as long
        self._logs: dict[int, DropLog] = {}
        self._deaf: list[str] = []
        self._poll = select.epoll()
        self._ask = manner.ask or manner.protocol == "UDP"
        self._stream = manner.protocol != "UDP"
        self._window = max(
            1, min(WINDOW if self._stream else _DATAGRAMS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES)
        )
        self.first_port = self.port = int(time.monotonic() * _PORTS_A_SECOND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for each in self.pending.values():
            each.sock.close()
        self._poll.close()

    @property
    def done(self) -> int:
        return len(self.results)

    def listen(self, stack: ExitStack, node: str) -> None:
        """Hear of the drops in a node's namespace; where another process does already, silence must do."""
        with namespaces.inside(node):
            try:
                log = stack.enter_context(DropLog(node))
            except KernelError:
                self._deaf.append(node)
                return
        self._logs[log.fileno()] = log
        self._poll.register(log.fileno(), select.EPOLLIN)

    def start(self, place: int) -> None:
        """Open one connection; the thread is in the sender's namespace."""
        while len(self.pending) >= self._window:
            self.turn(self.patience())
        pair = self.pairs[place]
        family = socket.AF_INET6 if ":" in pair.address else socket.AF_INET
        kind, protocol = _KINDS[self.manner.protocol]
        try:
            sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            if error.errno not in _NO_FAMILY:
                raise
            self.results[place] = Sighting("error", f"this kernel has no {self.manner.protocol}")
            return
        if self.manner.dscp:
            mark_packets(sock, self.manner.dscp)
        sock.setsockopt(*RECVERR[family], 1)
        if not self._stream:
            self._take_port(sock)
        elif pair.address != pair.endpoint:
            sock.bind(("", 0))  # a port of its own: connect(2) gives one port to several destinations
        number = sock.connect_ex((pair.address, pair.port))
        if number not in (0, errno.EINPROGRESS):
            self.results[place] = _refused(sock, number, pair)
            sock.close()
        elif self.manner.protocol == "TCP" and not self._ask and _is_established(sock):
            self.results[place] = _ALLOWED
            self._close(sock)
        else:
            self._wait(place, sock)

    def _take_port(self, sock: socket.socket) -> None:
        """The next UDP port that is free here; the kernel's choice when all are taken."""
        for _ in _PORTS:
            self.port += 1
            try:
                sock.bind(("", _PORTS[self.port % len(_PORTS)]))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return

    def _wait(self, place: int, sock: socket.socket) -> None:
        fd = sock.fileno()
        own = sock.getsockname()
        pair = self.pairs[place]
        translated = pair.address != pair.endpoint
        far = (b"", 0) if translated else (socket.inet_pton(sock.family, pair.address), pair.port)
        key = (socket.inet_pton(sock.family, own[0]), own[1], *far)
        each = _Pending(place, sock, time.monotonic() + self.manner.timeout, key)
        self.pending[fd] = each
        self._by_key[key] = fd
        self._queue.append((each.deadline, fd, place))
        if self._stream:
            self._poll.register(fd, select.EPOLLOUT)
        else:
            self._poll.register(fd, select.EPOLLIN)
            self._say(each)

    def patience(self) -> float:
        """Seconds until the first one's time is up."""
        while self._queue and self._stale(*self._queue[0][1:]):
            self._queue.popleft()
        return max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else 0.0

    def turn(self, seconds: float) -> None:
        """Settle what can be settled, waiting for it no longer than this."""
        for fd, events in self._poll.poll(seconds, 1024):
            if fd in self._logs:
                for drop in self._logs[fd].read():
                    if _NUMBERS.get(drop.protocol) == self.manner.protocol:
                        self._dropped(drop, self._logs[fd].netns)
            elif fd in self.pending:
                self._ready(self.pending[fd], events)
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, fd, place = self._queue.popleft()
            if not self._stale(fd, place):
                self._settle(self.pending[fd], self._silence())

    def _stale(self, fd: int, place: int) -> bool:
        return fd not in self.pending or self.pending[fd].place != place

    def _silence(self) -> Sighting:
        lost = [log.netns for log in self._logs.values() if log.lost]
        why = f"no answer within {self.manner.timeout:g} s, and no rule told of a drop"
        if self._deaf or lost:
            why += f" (not all drops of {', '.join((*self._deaf, *lost))} could be heard)"
        return Sighting("blocked", why, silent=True)

    def _dropped(self, drop: Drop, node: str) -> None:
        near = drop.source, drop.source_port
        fd = self._by_key.get((*near, drop.destination, drop.destination_port)) or self._by_key.get((*near, b"", 0))
        if fd is not None:
            each = self.pending[fd]
            reached = str(ip_address(drop.destination))
            self._settle(each, Sighting("blocked", f"{node}: {drop.prefix.strip() or 'drop'}", reached))

    def _ready(self, each: _Pending, events: int) -> None:
        pair = self.pairs[each.place]
        number = each.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._settle(each, _refused(each.sock, number, pair))
        elif not each.asked and not self._ask:
            self._settle(each, _ALLOWED)
        elif not each.asked:
            self._say(each)
            self._poll.modify(each.sock.fileno(), select.EPOLLIN)
        elif events & (select.EPOLLIN | select.EPOLLHUP):
            self._hear(each, pair)

    def _say(self, each: _Pending) -> None:
        each.asked = True
        try:
            each.sock.send(_PAYLOAD)
        except OSError as error:
            self._settle(each, _refused(each.sock, error.errno or 0, self.pairs[each.place]))

    def _hear(self, each: _Pending, pair: Pair) -> None:
        try:
            answer = each.sock.recv(_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._settle(each, _refused(each.sock, error.errno or 0, pair))
            return
        self._settle(each, Sighting("allowed", reached=_who(answer)))

    def _settle(self, each: _Pending, sighting: Sighting) -> None:
        self.results[each.place] = sighting
        del self.pending[each.sock.fileno()]
        if self._by_key.get(each.key) == each.sock.fileno():
            del self._by_key[each.key]
        self._close(each.sock)

    def _close(self, sock: socket.socket) -> None:
        if self._stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        sock.close()


def mark_packets(sock: socket.socket, dscp: int) -> None:
    """Give all packets of a socket this code point (the upper six bits of the traffic class)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)


def _is_established(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def _refused(sock: socket.socket, number: int, pair: Pair) -> Sighting:
    return refusal(sock, number, pair.address, pair.port, listening=pair.listening)


def _who(answer: bytes) -> str:
    """`ns/pod` of the lab's own server; empty for an answer of somebody else's."""
    try:
        about = json.loads(answer)
        return f"{about['namespace']}/{about['pod']}"
    except (ValueError, KeyError, TypeError):
        return ""
