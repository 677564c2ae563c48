"""Answers ARP and IPv6 neighbour solicitations for addresses that no interface has, as MetalLB's speaker does.

Part of the pod server, so it imports as little as possible. A packet socket sees what is asked on the wire whatever the
kernel thinks of the address: it would answer for local addresses only. Formats: RFC 826; RFC 4861, 4.3 and 4.4.
"""

from __future__ import annotations

import array
import os
import socket
import struct

from k8snetlab.workloads.listeners import inode_of, setns
from k8snetlab.workloads.loop import Handler, Loop

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

_ETH_P_ARP = 0x0806
_ETH_P_IPV6 = 0x86DD
_SO_ATTACH_FILTER = 26
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # hardware, protocol, their lengths, operation, sender's MAC and IP, target's
_ARP_HEAD = (1, 0x0800, 6, 4)  # Ethernet, IPv4
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_SOLICITED, _OVERRIDE = 0x40000000, 0x20000000
# Classic BPF: the next header is ICMPv6 and its type a solicitation, else nothing of the frame is wanted.
_ONLY_SOLICITATIONS = (
    (0x30, 0, 0, 14 + 6),
    (0x15, 0, 3, _ICMPV6),
    (0x30, 0, 0, 14 + 40),
    (0x15, 0, 1, _SOLICITATION),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


class Speaker(Handler):
    """One packet socket on one link, for the addresses of one family; made inside the link's namespace."""

    __slots__ = ("addresses", "inode", "mac", "version")

    def __init__(self, link: str, version: int, inode: int) -> None:
        self.version, self.inode = version, inode
        self.addresses: set[bytes] = set()
        protocol = _ETH_P_ARP if version == 4 else _ETH_P_IPV6
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until it is filtered and bound
        try:
            self.sock.setblocking(False)
            if version == 6:
                _filter(self.sock, _ONLY_SOLICITATIONS)
            self.sock.bind((link, protocol))
        except OSError:
            self.sock.close()
            raise
        self.mac: bytes = self.sock.getsockname()[4]

    def ready(self) -> None:
        for _ in range(64):
            try:
                frame = self.sock.recv(2048)
                answer = self._arp(frame) if self.version == 4 else self._neighbour(frame)
                if answer:
                    self.sock.send(answer)
            except OSError:  # nothing more, or the link is down: who asked asks again
                return

    def claim(self, address: bytes) -> None:
        """Tell everybody unasked: who believes another machine has the address changes its mind at once (failover)."""
        if self.version == 4:
            said = _ARP.pack(*_ARP_HEAD, _REQUEST, self.mac, address, b"\0" * 6, address)  # gratuitous ARP
            self.sock.send(self._frame(_BROADCAST, _ETH_P_ARP, said))
        else:
            self.sock.send(self._advertisement(address, _ALL_NODES, _ALL_NODES_MAC, _OVERRIDE))

    def _arp(self, frame: bytes) -> bytes:
        if len(frame) < 14 + _ARP.size:
            return b""
        *head, operation, mac, sender, _, target = _ARP.unpack_from(frame, 14)
        if tuple(head) != _ARP_HEAD or operation != _REQUEST or target not in self.addresses or sender == target:
            return b""
        return self._frame(mac, _ETH_P_ARP, _ARP.pack(*_ARP_HEAD, _REPLY, self.mac, target, mac, sender))

    def _neighbour(self, frame: bytes) -> bytes:
        target = frame[14 + 48 : 14 + 64]
        # Hop limit 255: it was sent on this link (RFC 4861, 7.1.1). From the unspecified address: somebody probes
        # whether he may have the address, which must be answered to all.
        if len(frame) < 14 + 64 or frame[14 + 7] != 255 or target not in self.addresses:
            return b""
        asker = frame[14 + 8 : 14 + 24]
        if not any(asker):
            return self._advertisement(target, _ALL_NODES, _ALL_NODES_MAC, _OVERRIDE)
        return self._advertisement(target, asker, frame[6:12], _SOLICITED | _OVERRIDE)

    def _advertisement(self, target: bytes, destination: bytes, mac: bytes, flags: int) -> bytes:
        def message(checksum: int) -> bytes:
            return struct.pack("!BBHI16sBB6s", _ADVERTISEMENT, 0, checksum, flags, target, 2, 1, self.mac)

        body = message(0)
        body = message(_checksum(target + destination + struct.pack("!II", len(body), _ICMPV6) + body))
        header = struct.pack("!IHBB16s16s", 6 << 28, len(body), _ICMPV6, 255, target, destination)
        return self._frame(mac, _ETH_P_IPV6, header + body)

    def _frame(self, destination: bytes, protocol: int, payload: bytes) -> bytes:
        return destination + self.mac + struct.pack("!H", protocol) + payload


class Speakers:
    """Every link that is spoken on. `where` is the path and prefix of the namespaces' files."""

    def __init__(self, loop: Loop, where: str, home: int) -> None:
        self.loop, self.where, self.home = loop, where, home
        self.speakers: dict[tuple[str, str, int], Speaker] = {}

    def announce(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer for these addresses from now on, and say so; errors as of the pod server's listeners."""
        errors = []
        for entry in entries:
            try:
                self._announce(entry["netns"], entry["link"], packed(entry["address"]))
            except OSError as problem:
                errors.append({**entry, "error": problem.strerror or str(problem)})
            finally:
                setns(self.home)
        return errors

    def _announce(self, netns: str, link: str, address: bytes) -> None:
        fd = os.open(self.where + netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            inode = os.fstat(fd).st_ino
            key = netns, link, 4 if len(address) == 4 else 6
            speaker = self.speakers.get(key)
            if speaker is None or speaker.inode != inode:
                setns(fd)
                if speaker is not None:  # the namespace was made anew
                    self.loop.drop(speaker)
                speaker = self.speakers[key] = Speaker(link, key[2], inode)
                self.loop.watch(speaker)
        finally:
            os.close(fd)
        speaker.addresses.add(address)
        speaker.claim(address)

    def withdraw(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            address = packed(entry["address"])
            key = entry["netns"], entry["link"], 4 if len(address) == 4 else 6
            speaker = self.speakers.get(key)
            if speaker is not None:
                speaker.addresses.discard(address)
                if not speaker.addresses:
                    self.loop.drop(self.speakers.pop(key))

    def list(self) -> list[dict[str, Any]]:
        return [
            {"netns": netns, "link": link, "address": _text(address)}
            for (netns, link, _), speaker in self.speakers.items()
            if inode_of(self.where + netns) == speaker.inode
            for address in sorted(speaker.addresses)
        ]


def packed(address: str) -> bytes:
    """Raises ValueError for what is no address."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        raise ValueError(f"no address: {address!r}") from None


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _filter(sock: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    """struct sock_fprog: the number of instructions and where they are."""
    code = array.array("B", b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), code.buffer_info()[0]))
