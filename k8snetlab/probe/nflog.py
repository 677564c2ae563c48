"""Hear of dropped packets from the kernel's NFLOG: raw nfnetlink_log, one socket a node's namespace.

The rules that drop write the packet's head to a group first (`-j NFLOG`, nft `log group`), so whoever listens knows
within milliseconds which packet it was. Formats: linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from types import TracebackType
from typing import Final, Self

from k8snetlab.errors import KernelError
from k8snetlab.flows.evidence import DROP_GROUP
from k8snetlab.kernel.netlink import NLM_F_ACK, NLMSG_ERROR, attribute, attributes, message

_NETLINK_NETFILTER: Final = 12
_PACKET: Final = 4 << 8  # NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET
_CONFIG: Final = 4 << 8 | 1
_CFG_CMD, _CFG_MODE, _CFG_NLBUFSIZ, _CFG_TIMEOUT, _CFG_QTHRESH = 1, 2, 3, 4, 5
_BIND: Final = b"\x01"
_COPY_PACKET: Final = 2
_PAYLOAD: Final = 9
_PREFIX: Final = 10
_NFGENMSG: Final = 4

_HEAD_BYTES: Final = 128  # of each packet: an IPv6 header, some extension headers and the ports
# A message may hold several packets: it is sent when it has this many, or a hundredth of a second after the first.
_PACKETS: Final = 32
_MESSAGE_BYTES: Final = 16384
_HUNDREDTHS: Final = 1
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER: Final = 8 << 20
_RECEIVE: Final = 1 << 17

_HEADER: Final = Struct("=IHHII")
_ERROR: Final = Struct("=i")
_PORTS: Final = Struct("!HH")
_MODE: Final = Struct("!IBx")
_U32: Final = Struct("!I")
_WITH_PORTS: Final = frozenset({6, 17, 132})  # TCP, UDP, SCTP
_EXTENSIONS: Final = frozenset({0, 43, 60})  # IPv6 hop-by-hop, routing, destination options: RFC 8200


@dataclass(frozen=True, slots=True)
class Drop:
    """The head of a logged packet: addresses as they are in it, ports 0 where its protocol has none."""

    prefix: str
    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int


class DropLog:
    """Listens in the namespace the thread is in when it is made. One listener a group and namespace: the next gets
    KernelError. `lost` says that the kernel had more to tell than the socket could hold."""

    def __init__(self, netns: str, group: int = DROP_GROUP) -> None:
        self.netns = netns
        self.lost = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            with suppress(PermissionError):  # an ordinary user's lab: net.core.rmem_max must do
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            self._configure(group, attribute(_CFG_CMD, _BIND))
            self._configure(
                group,
                attribute(_CFG_MODE, _MODE.pack(_HEAD_BYTES, _COPY_PACKET))
                + attribute(_CFG_NLBUFSIZ, _U32.pack(_MESSAGE_BYTES))
                + attribute(_CFG_TIMEOUT, _U32.pack(_HUNDREDTHS))
                + attribute(_CFG_QTHRESH, _U32.pack(_PACKETS)),
            )
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Iterator[Drop]:
        """The packets logged since the last call."""
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True
                continue
            for kind, body in _messages(data):
                if kind == _PACKET and (drop := _drop(attributes(body, _NFGENMSG))):
                    yield drop

    def _configure(self, group: int, settings: bytes) -> None:
        header = bytes((socket.AF_UNSPEC, 0)) + group.to_bytes(2, "big")
        self._socket.send(message(_CONFIG, NLM_F_ACK, header + settings))
        for kind, body in _messages(self._socket.recv(_RECEIVE)):
            code = _ERROR.unpack_from(body)[0] if kind == NLMSG_ERROR else 0
            if code:
                # nfulnl_recv_config: a group that is bound belongs to its socket.
                taken = code in (-errno.EBUSY, -errno.EPERM)
                reason = "another process listens there" if taken else os.strerror(-code)
                raise KernelError("listen to NFLOG", netns=self.netns, subject=f"group {group}", reason=reason)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _drop(found: dict[int, bytes]) -> Drop | None:
    packet = found.get(_PAYLOAD, b"")
    prefix = found.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
    if len(packet) < 20:
        return None
    if packet[0] >> 4 == 4:
        return _flow(prefix, packet[9], packet[12:16], packet[16:20], packet, (packet[0] & 15) * 4)
    if len(packet) < 40:
        return None
    protocol, offset = packet[6], 40
    while protocol in _EXTENSIONS and offset + 2 <= len(packet):
        protocol, offset = packet[offset], offset + (packet[offset + 1] + 1) * 8
    return _flow(prefix, protocol, packet[8:24], packet[24:40], packet, offset)


def _flow(prefix: str, protocol: int, source: bytes, destination: bytes, packet: bytes, offset: int) -> Drop:
    ports = (0, 0)
    if protocol in _WITH_PORTS and offset + 4 <= len(packet):
        ports = _PORTS.unpack_from(packet, offset)
    return Drop(prefix, protocol, source, destination, *ports)
