"""DNS on the wire (RFC 1035): names, records and messages, from text to bytes and back.

A record in text is a zone file's without its owner: `5 A 10.96.0.1`. On the wire, between functions, it is a *block*:
type, class, TTL, length and data, without the owner's name. Part of the DNS server: it imports as little as possible.
"""

from __future__ import annotations

import socket
import struct

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "OPT": 41, "ANY": 255}
TYPE_NAMES = {number: name for name, number in TYPES.items()}
CODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = TYPES.values()
IN = 1
HEADER = struct.Struct("!HHHHHH")  # id, flags, and how many questions, answers, authorities, additionals
RECORD = struct.Struct("!HHIH")  # type, class, TTL, length of the data
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
LONGEST_NAME, LONGEST_LABEL = 255, 63
MOST_JUMPS = 64  # compression pointers followed for one name; each must also point further back


def encode_name(text: str) -> bytes:
    """Labels with their lengths. Raises ValueError for what is no name."""
    labels = text.rstrip(".").split(".") if text.rstrip(".") else []
    wire = b"".join(bytes((len(label),)) + label.encode("ascii") for label in labels) + b"\0"
    if len(wire) > LONGEST_NAME or any(not 0 < len(label) <= LONGEST_LABEL for label in labels):
        raise ValueError(f"no DNS name: {text[:80]!r}")
    return wire


def name_text(wire: bytes) -> str:
    """An uncompressed name, without the final dot; bytes that are no printable ASCII as `\\DDD`."""
    labels, at = [], 0
    while wire[at]:
        label = wire[at + 1 : at + 1 + wire[at]]
        labels.append("".join(chr(c) if 33 <= c < 127 and c not in b".\\" else f"\\{c:03d}" for c in label))
        at += 1 + wire[at]
    return ".".join(labels)


def read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """The uncompressed name at an offset, and the offset behind it. Raises ValueError for a name that does not end.

    A pointer may only lead backwards (RFC 1035, 4.1.4), so none can lead round in a circle.
    """
    wire, end, jumps, lowest = bytearray(), 0, 0, at
    while True:
        if at >= len(message):
            raise ValueError("a name runs out of the message")
        size = message[at]
        if size & 0xC0 == 0xC0:
            pointer = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
            end = end or at + 2
            jumps += 1
            if at + 2 > len(message) or pointer >= lowest or jumps > MOST_JUMPS:
                raise ValueError("a compression pointer leads nowhere")
            at = lowest = pointer
            continue
        if size & 0xC0 or len(wire) + size + 1 > LONGEST_NAME or at + 1 + size > len(message):
            raise ValueError("no DNS name")
        wire += message[at : at + 1 + size]
        at += 1 + size
        if not size:
            return bytes(wire), end or at


def encode_record(text: str) -> bytes:
    """The block of a record in text. Raises ValueError."""
    ttl, kind, data = text.split(" ", 2)
    encoded = _encode_data(kind, data)
    return RECORD.pack(TYPES[kind], IN, int(ttl), len(encoded)) + encoded


def _encode_data(kind: str, data: str) -> bytes:
    try:
        match kind:
            case "A" | "AAAA":
                return socket.inet_pton(socket.AF_INET if kind == "A" else socket.AF_INET6, data)
            case "NS" | "CNAME" | "PTR":
                return encode_name(data)
            case "SRV":
                *numbers, target = data.split(" ")
                return struct.pack("!HHH", *map(int, numbers)) + encode_name(target)
            case "SOA":
                server, mail, *numbers = data.split(" ")
                return encode_name(server) + encode_name(mail) + struct.pack("!IIIII", *map(int, numbers))
            case "TXT":
                content = data.strip('"').encode()
                return bytes((len(content),)) + content
            case _:
                raise ValueError(f"record of type {kind}")
    except (OSError, struct.error) as problem:
        raise ValueError(f"{kind} {data[:80]}: {problem}") from None


def split_blocks(blocks: bytes) -> list[bytes]:
    """The blocks that stand one behind the other."""
    found, at = [], 0
    while at < len(blocks):
        end = at + RECORD.size + int.from_bytes(blocks[at + 8 : at + 10], "big")
        found.append(blocks[at:end])
        at = end
    return found


def record_text(block: bytes) -> str:
    """A record as text; the data of a type that is not known in hexadecimal digits (RFC 3597)."""
    kind, _, ttl, _ = RECORD.unpack_from(block)
    data = block[RECORD.size :]
    return f"{ttl} {TYPE_NAMES.get(kind, f'TYPE{kind}')} {_data_text(kind, data)}"


def _data_text(kind: int, data: bytes) -> str:
    if kind == A and len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == AAAA and len(data) == 16:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind in (NS, CNAME, PTR):
        return f"{name_text(data)}."
    if kind == SRV:
        return " ".join((*map(str, struct.unpack_from("!HHH", data)), f"{name_text(data[6:])}."))
    if kind == SOA:
        server, at = read_name(data, 0)
        mail, at = read_name(data, at)
        return " ".join(
            (f"{name_text(server)}.", f"{name_text(mail)}.", *map(str, struct.unpack_from("!IIIII", data, at)))
        )
    if kind == TXT:
        return f'"{data[1:].decode("utf-8", "replace")}"'
    return f"\\# {len(data)} {data.hex()}"


def read_record(message: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Owner, block and the offset behind a record of a message; names in it are written out. Raises ValueError."""
    owner, at = read_name(message, at)
    if at + RECORD.size > len(message):
        raise ValueError("a record runs out of the message")
    kind, kind_class, ttl, size = RECORD.unpack_from(message, at)
    at += RECORD.size
    end = at + size
    if end > len(message):
        raise ValueError("a record runs out of the message")
    data = message[at:end]
    if kind in (NS, CNAME, PTR):
        data, _ = read_name(message, at)
    elif kind == SRV and size > 6:
        data = data[:6] + read_name(message, at + 6)[0]
    elif kind == SOA:
        server, behind = read_name(message, at)
        mail, behind = read_name(message, behind)
        data = server + mail + message[behind:end]
    if (kind, len(data)) in ((SRV, size), (SOA, size)) and size < 7:
        raise ValueError("a record is too short")
    return owner, RECORD.pack(kind, kind_class, ttl, len(data)) + data, end


class Message:
    """A whole message, read: `sections` are answers, authorities and additionals, each (owner, record) as text."""

    __slots__ = ("flags", "id", "kind", "name", "sections")

    def __init__(self, data: bytes) -> None:
        """Raises ValueError for what is no DNS message."""
        if len(data) < HEADER.size:
            raise ValueError("too short for a DNS message")
        self.id, self.flags, questions, *counts = HEADER.unpack_from(data)
        at, self.name, self.kind = HEADER.size, "", 0
        for _ in range(min(questions, 1)):
            wire, at = read_name(data, at)
            if at + 4 > len(data):
                raise ValueError("a question runs out of the message")
            self.name, self.kind = name_text(wire), int.from_bytes(data[at : at + 2], "big")
            at += 4
        self.sections: list[list[tuple[str, str]]] = [[], [], []]
        for section, count in zip(self.sections, counts, strict=True):
            for _ in range(count):
                owner, block, at = read_record(data, at)
                try:
                    section.append((name_text(owner), record_text(block)))
                except (IndexError, struct.error):
                    raise ValueError("a record's data is malformed") from None

    @property
    def code(self) -> str:
        number = self.flags & 0xF
        return CODES[number] if number < len(CODES) else f"RCODE {number}"

    @property
    def truncated(self) -> bool:
        return bool(self.flags & TC)


def question(number: int, name: str, kind: int, size: int = 1232) -> bytes:
    """A recursive query with EDNS0 (RFC 6891), for answers of up to `size` bytes; 0: without EDNS0."""
    opt = b"\0" + RECORD.pack(OPT, size, 0, 0) if size else b""
    head = HEADER.pack(number, RD, 1, 0, 0, 1 if size else 0)
    return head + encode_name(name) + struct.pack("!HH", kind, IN) + opt
