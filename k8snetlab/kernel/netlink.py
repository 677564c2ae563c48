"""rtnetlink, packed by hand: messages and attributes to bytes and back, and one socket a namespace to send them by.

The kernel works through a send before it returns and answers only what failed, so many messages go out at once and the
errors are collected afterwards. Each message carries, as its sequence number, the place of the object it came from.
Formats: linux/netlink.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from types import TracebackType
from typing import Final, Self

from k8snetlab.errors import KernelError
from k8snetlab.kernel.describe import describe
from k8snetlab.plan.state import KernelObject

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NEW: Final = NLM_F_CREATE | NLM_F_EXCL

NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF
_CAPPED: Final = 0x100  # NLM_F_CAPPED: the error does not repeat the request
_ACK_TLVS: Final = 0x200  # NLM_F_ACK_TLVS: attributes follow, among them the reason in words
_NLMSGERR_ATTR_MSG: Final = 1

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
# Below net.core.wmem_default (208 KiB), so that no socket option, and no privilege for it, is needed.
_BATCH: Final = 128 * 1024
_RECEIVE: Final = 256 * 1024

_ATTRIBUTE: Final = Struct("=HH")
_HEADER: Final = Struct("=IHHII")  # length, type, flags, sequence, port
_LENGTH: Final = Struct("=I")
_ERROR: Final = Struct("=i")
_U32: Final = Struct("=I")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")

# What a deletion may answer when the thing has gone already, with its link for one: that was the aim.
GONE: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(data)
    return _ATTRIBUTE.pack(4 + length, kind) + data + _PADDING[length & 3]


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One request, its sequence number still 0; `body` is the family's header with attributes, a multiple of four."""
    return _HEADER.pack(16 + len(body), kind, NLM_F_REQUEST | flags, 0, 0) + body


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by type without flags; of a repeated type the last."""
    found = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Socket:
    """A netlink socket of the namespace the thread was in when it was made; it stays there wherever the thread goes."""

    def __init__(self, netns: str, protocol: int = socket.NETLINK_ROUTE) -> None:
        self.netns = netns
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(
        self,
        operation: str,
        requests: Sequence[tuple[KernelObject, bytes]],
        *,
        tolerate: frozenset[int] = frozenset(),
    ) -> None:
        """Send the messages of many objects; `requests` pairs each object with its messages.

        All are tried. Raises KernelError for the first object that failed, with the count of the others; an error
        number in `tolerate` is no failure.
        """
        failures: dict[int, str] = {}
        batch = bytearray()
        for number, (_, messages) in enumerate(requests):
            start = len(batch)
            batch += messages
            _stamp(batch, start, number)
            if len(batch) >= _BATCH:
                self._exchange(batch, tolerate, failures)
                batch = bytearray()
        if batch:
            self._exchange(batch, tolerate, failures)
        if failures:
            number, reason = min(failures.items())
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise KernelError(operation, netns=self.netns, subject=describe(requests[number][0]), reason=reason + more)

    def dump(self, kind: int, header: bytes, *, strict: bool = False) -> list[bytes]:
        """Everything the kernel lists for a request: the message bodies, each from its family's header on.

        `strict` makes the kernel heed what the header selects. A list that changed while it was read is read again.
        """
        if strict:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        while True:
            self._socket.send(message(kind, NLM_F_DUMP, header))
            bodies, complete = self._read_dump()
            if complete:
                return bodies

    def ask(self, requests: Sequence[bytes]) -> list[bytes | None]:
        """One answer to each request (the message body), None where the kernel answers with an error."""
        answers: list[bytes | None] = []
        step = 64  # answers wait in the receive buffer until the whole send is worked through
        for first in range(0, len(requests), step):
            part = requests[first : first + step]
            self._socket.send(b"".join(part))
            received: list[bytes | None] = []
            while len(received) < len(part):
                received += [None if type_ == NLMSG_ERROR else body for type_, _, body, _ in self._receive(0)]
            answers += received
        return answers

    def acknowledged(self, batch: bytes, requests: int) -> list[str]:
        """Send a batch of nf_tables whose `requests` ask to be acknowledged; what was refused, in words."""
        self._socket.send(batch)
        refused: list[str] = []
        answered = 0
        while answered < requests and not refused:
            for type_, flags, body, _ in self._receive(0):
                code = _ERROR.unpack_from(body)[0] if type_ == NLMSG_ERROR else 0
                answered += 1
                if code:
                    refused.append(_reason(code, flags, body))
        return refused

    def _read_dump(self) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        complete = True
        while True:
            for type_, flags, body, _ in self._receive(0):
                if flags & NLM_F_DUMP_INTR:
                    complete = False
                if type_ in (NLMSG_DONE, NLMSG_ERROR):
                    code = _ERROR.unpack_from(body)[0] if len(body) >= 4 else 0
                    if code:
                        raise KernelError("read", netns=self.netns, reason=_reason(code, flags, body))
                    return bodies, complete
                bodies.append(body)

    def _exchange(self, batch: bytearray, tolerate: frozenset[int], failures: dict[int, str]) -> None:
        self._socket.send(batch)
        while True:
            try:
                for type_, flags, body, sequence in self._receive(socket.MSG_DONTWAIT):
                    code = _ERROR.unpack_from(body)[0] if type_ == NLMSG_ERROR else 0
                    if code and -code not in tolerate:
                        failures.setdefault(sequence, _reason(code, flags, body))
            except BlockingIOError:
                return
            except OSError as error:
                # ENOBUFS: so many errors that the receive buffer did not hold them; the first ones are there.
                if error.errno != errno.ENOBUFS:
                    raise
                failures.setdefault(len(failures), "more errors than the socket holds")

    def _receive(self, flags: int) -> Iterator[tuple[int, int, bytes, int]]:
        data = self._socket.recv(_RECEIVE, flags)
        offset, end = 0, len(data)
        while offset + 16 <= end:
            length, type_, message_flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield type_, message_flags, data[offset + 16 : offset + length], sequence
            offset += (length + 3) & ~3


def _stamp(batch: bytearray, offset: int, sequence: int) -> None:
    """Give every message from `offset` on the sequence number."""
    end = len(batch)
    while offset < end:
        _LENGTH.pack_into(batch, offset + 8, sequence)
        offset += _LENGTH.unpack_from(batch, offset)[0]


def _reason(code: int, flags: int, body: bytes) -> str:
    """What an error says: errno in words and, where the kernel has more to say (extended ack), that."""
    reason = os.strerror(-code)
    if flags & _ACK_TLVS:
        offset = 20 if flags & _CAPPED else 4 + ((_LENGTH.unpack_from(body, 4)[0] + 3) & ~3)
        said = attributes(body, offset).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
        if said:
            return f"{reason}: {said}"
    return reason


def string(found: Mapping[int, bytes], kind: int) -> str:
    """A text attribute, empty when absent."""
    return found.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def number(found: Mapping[int, bytes], kind: int, default: int = 0) -> int:
    """A u32 attribute."""
    data = found.get(kind)
    return int.from_bytes(data[:4], sys.byteorder) if data else default
