"""Questions that the DNS server hands on to another one, and what to do when the answer comes or does not.

The number of questions under way is bounded: with more, new ones are answered SERVFAIL at once, so that a flood of
names from outside cannot fill the memory. Part of the DNS server, so it imports as little as possible.
"""

from __future__ import annotations

import os
import socket
from time import monotonic

from k8snetlab.workloads.dnsanswer import SERVFAIL, Answer, Query, reply
from k8snetlab.workloads.dnswire import HEADER, IN, QR, RD, TC, read_record
from k8snetlab.workloads.loop import Handler, Loop

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from collections.abc import Callable

MOST_PENDING = 1024
TRIES = 2
TRY_SECONDS = 1.0
PORT = 53


class Pending:
    """A question under way: whom to answer, and by when."""

    __slots__ = ("deadline", "found", "query", "question", "send", "tries")

    def __init__(self, query: Query, found: Answer, question: bytes, send: Callable[[bytes], None]) -> None:
        self.query, self.found, self.question, self.send = query, found, question, send
        self.tries, self.deadline = 0, 0.0


class Forwarder(Handler):
    """A socket to one upstream server, made in the network namespace of the server that asks."""

    __slots__ = ("pending",)

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.sock.setblocking(False)
            self.sock.connect((address, PORT))  # answers from anybody else do not arrive
        except OSError:
            self.sock.close()
            raise
        self.pending: dict[int, Pending] = {}

    def ask(self, query: Query, found: Answer, send: Callable[[bytes], None]) -> None:
        """Ask for what `found.outside` is; `send` is called once, with the reply for the client."""
        number = int.from_bytes(os.urandom(2), "big")
        if len(self.pending) >= MOST_PENDING or number in self.pending:
            send(reply(query, SERVFAIL))
            return
        own = found.outside == query.name
        question = query.question if own else found.outside + query.question[-4:]
        self.pending[number] = pending = Pending(query, found, question, send)
        self._send(number, pending)

    def _send(self, number: int, pending: Pending) -> None:
        pending.tries += 1
        pending.deadline = monotonic() + TRY_SECONDS
        edns = pending.query.edns
        try:
            self.sock.send(HEADER.pack(number, RD, 1, 0, 0, bool(edns)) + pending.question + edns)
        except OSError:
            return  # no route now: the next try may find one

    def ready(self) -> None:
        for _ in range(64):
            try:
                data = self.sock.recv(4096)
            except OSError:  # nothing more, or an ICMP error about an earlier question
                return
            if len(data) < HEADER.size:
                continue
            pending = self.pending.get(int.from_bytes(data[:2], "big"))
            question = data[HEADER.size : HEADER.size + len(pending.question)] if pending else b""
            # The same question, letter by letter: together with number and port what a forger would have to guess.
            if pending and data[2] & 0x80 and question == pending.question:
                del self.pending[int.from_bytes(data[:2], "big")]
                pending.send(_answered(pending, data))

    def expire(self, now: float) -> None:
        """Ask again, or give up, where no answer has come in time."""
        for number, pending in [each for each in self.pending.items() if each[1].deadline < now]:
            if pending.tries < TRIES:
                self._send(number, pending)
            else:
                del self.pending[number]
                pending.send(reply(pending.query, SERVFAIL, pending.found))

    def close(self, loop: Loop) -> None:
        for pending in self.pending.values():
            pending.send(reply(pending.query, SERVFAIL))
        self.pending.clear()
        loop.drop(self)


def _answered(pending: Pending, data: bytes) -> bytes:
    """The reply for the client: the upstream's own under the client's number, or joined to the alias that led there."""
    query, found = pending.query, pending.found
    flags = int.from_bytes(data[2:4], "big")
    if found.outside == query.name:
        kept = (flags & ~RD) | (query.flags & RD) | QR
        return query.id.to_bytes(2, "big") + kept.to_bytes(2, "big") + data[4:]
    try:
        at = HEADER.size + len(pending.question)
        for _ in range(int.from_bytes(data[6:8], "big")):
            owner, block, at = read_record(data, at)
            if block[2:4] == IN.to_bytes(2, "big"):
                found.answers.append((owner, block))
    except ValueError:
        return reply(query, SERVFAIL, found)
    return reply(query, SERVFAIL if flags & TC else flags & 0xF, found)
