"""One epoll loop over many sockets, and what every connected socket needs: buffers, back-pressure, a clean end.

Part of the pod server, so it imports as little as possible.
"""

from __future__ import annotations

import select
import socket
from abc import ABC, abstractmethod
from time import monotonic

IDLE_SECONDS = 60.0
CHUNK = 64 * 1024


class Handler(ABC):
    """Whatever owns a socket in the loop."""

    __slots__ = ("sock",)

    sock: socket.socket

    @abstractmethod
    def ready(self) -> None:
        """Read and write what is possible now; the socket never blocks."""


class Loop:
    """Which handler each descriptor belongs to, and which connections have been idle for how long."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self._active: dict[Stream, float] = {}  # the longest idle first

    def watch(self, handler: Handler) -> None:
        fd = handler.sock.fileno()
        self.handlers[fd] = handler
        self.epoll.register(fd, select.EPOLLIN)

    def drop(self, handler: Handler) -> None:
        self.handlers.pop(handler.sock.fileno(), None)
        if isinstance(handler, Stream):
            self._active.pop(handler, None)
        handler.sock.close()  # which also takes it out of the epoll set

    def touch(self, stream: Stream) -> None:
        """The client got on with it: its idle time starts again."""
        self._active.pop(stream, None)
        self._active[stream] = monotonic()

    def drop_oldest(self) -> None:
        """Out of descriptors: the longest idle connection makes room, or level-triggered epoll would spin."""
        for stream in self._active:
            self.drop(stream)
            return

    def run(self) -> None:
        while True:
            self.turn(IDLE_SECONDS / 4 if self._active else -1)

    def turn(self, timeout: float) -> None:
        for fd, _events in self.epoll.poll(timeout, 256):
            handler = self.handlers.get(fd)
            if handler is not None:  # not dropped by an earlier one of this turn
                handler.ready()
        limit = monotonic() - IDLE_SECONDS
        for stream in [stream for stream, since in self._active.items() if since < limit] if self._idle(limit) else ():
            self.drop(stream)

    def _idle(self, limit: float) -> bool:
        return next(iter(self._active.values()), limit) < limit


class Stream(Handler):
    """A connected, non-blocking socket with what is still to be read and to be written.

    `filler` bytes of no meaning follow `out`; `last` means that nothing is answered after it.
    """

    __slots__ = ("buffer", "draining", "eof", "filler", "last", "loop", "mask", "out")

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.loop, self.sock = loop, sock
        self.buffer, self.out = bytearray(), bytearray()
        self.filler = 0
        self.last = self.eof = self.draining = False
        self.mask = select.EPOLLIN
        loop.watch(self)

    @abstractmethod
    def advance(self) -> bool:
        """Handle one thing from the buffer; False when more has to arrive first, or when nothing is to come."""

    def ready(self) -> None:
        try:
            if self.mask & select.EPOLLIN:
                self._receive()
            self._write()
            # An answer is on its way before the next request is looked at: pipelining cannot fill the memory.
            while not (self.out or self.filler or self.last) and self.advance():
                self._write()
            self._write()
            self._settle()
        except OSError:  # the peer is gone: reset, or no longer reachable
            self.loop.drop(self)

    def _receive(self) -> None:
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return
        self.eof = not data
        if not self.draining:
            self.buffer += data

    def _write(self) -> None:
        """At most 1 MiB at a time, so that one fast reader does not keep the others waiting."""
        for _ in range(16):
            if not self.out and self.filler:
                size = min(self.filler, CHUNK)
                self.out += b"x" * size
                self.filler -= size
            if not self.out:
                return
            try:
                sent = self.sock.send(self.out)
            except BlockingIOError:
                return
            del self.out[:sent]
            self.loop.touch(self)

    def _settle(self) -> None:
        """Decide what to wait for. Closing with unread input would send RST and may destroy the answer on its way,
        so the end is: send FIN, read on until the peer's FIN."""
        pending = bool(self.out or self.filler)
        if not pending and self.eof:
            self.loop.drop(self)
            return
        if self.last and not pending and not self.draining:
            self.sock.shutdown(socket.SHUT_WR)
            self.draining = True
            self.buffer.clear()
        mask = select.EPOLLOUT if pending else select.EPOLLIN
        if mask != self.mask:
            self.mask = mask
            self.loop.epoll.modify(self.sock.fileno(), mask)
