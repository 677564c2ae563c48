"""What the DNS server answers: from the bytes of a query and the names it holds to the bytes of a reply.

Pure: no sockets. Each name's records are kept as they are on the wire, behind a name of two bytes that points to the
question (RFC 1035, 4.1.4), so an answer is made by putting pieces together. Part of the DNS server, so it imports as
little as possible.
"""

from __future__ import annotations

import socket

from k8snetlab.workloads.dnswire import (
    AA,
    AAAA,
    ANY,
    CNAME,
    HEADER,
    IN,
    LONGEST_LABEL,
    LONGEST_NAME,
    OPT,
    QR,
    RA,
    RD,
    RECORD,
    SOA,
    SRV,
    TC,
    A,
    encode_name,
    encode_record,
    name_text,
    read_name,
    record_text,
    split_blocks,
)

FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 1, 2, 3, 4, 5
BADVERS = 16
PLAIN_SIZE = 512  # of a UDP answer to a client that does not say more (RFC 1035, 4.2.1)
EDNS_SIZE = 1232  # what passes every link unfragmented (DNS flag day 2020, CoreDNS' own default)
TCP_SIZE = 65535
MOST_CHASES = 8
ADDRESSES = (A, AAAA)
POD_LABEL = b"\x03pod"


class Query:
    """One question, understood. `name` is in lower case, `question` as it came, with the client's own case."""

    __slots__ = ("edns", "flags", "id", "kind", "name", "question", "size")

    def __init__(self, number: int, flags: int, name: bytes, kind: int, question: bytes) -> None:
        self.id, self.flags, self.name, self.kind, self.question = number, flags, name, kind, question
        self.size, self.edns = PLAIN_SIZE, b""


class View:
    """The names that a server answers from: name, in lower case on the wire, to its records' blocks.

    `zones` are the names with a SOA record: below them, what is not there does not exist.
    """

    def __init__(self) -> None:
        self.names: dict[bytes, bytes] = {}
        self.zones: dict[bytes, bytes] = {}

    def set(self, name: str, records: list[str]) -> None:
        """Raises ValueError, before anything is changed, for what is no name or record."""
        wire, blocks = encode_name(name.lower()), b"".join(map(encode_record, records))
        self.names[wire] = blocks
        soa = next((block for block in split_blocks(blocks) if kind_of(block) == SOA), None)
        if soa is None:
            self.zones.pop(wire, None)
        else:
            self.zones[wire] = soa

    def remove(self, name: str) -> None:
        wire = encode_name(name.lower())
        self.names.pop(wire, None)
        self.zones.pop(wire, None)

    def zone_of(self, name: bytes) -> bytes | None:
        while True:
            if name in self.zones:
                return name
            if not name[0]:
                return None
            name = name[1 + name[0] :]

    def list(self) -> list[list[object]]:
        return [
            [name_text(name), [record_text(block) for block in split_blocks(blocks)]]
            for name, blocks in self.names.items()
        ]


def kind_of(block: bytes) -> int:
    return block[0] << 8 | block[1]


# --- The question -----------------------------------------------------------------------------------------------------


def read_query(data: bytes) -> Query | bytes | None:
    """The query, or the reply that refuses it; None for what must not be answered: a reply, or no DNS at all."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    number, flags, questions, answers, authorities, additionals = HEADER.unpack_from(data)
    if flags & 0x7800:
        return _refusal(number, flags, NOTIMP)
    if questions != 1 or answers or authorities:
        return _refusal(number, flags, FORMERR)
    end = _end_of_name(data)
    if not end or end + 4 > len(data):
        return _refusal(number, flags, FORMERR)
    kind, kind_class = data[end] << 8 | data[end + 1], data[end + 2] << 8 | data[end + 3]
    query = Query(number, flags, data[HEADER.size : end].lower(), kind, data[HEADER.size : end + 4])
    if kind_class not in (IN, ANY):
        return reply(query, REFUSED)
    return _with_edns(query, data, end + 4, additionals) if additionals else query


def _end_of_name(data: bytes) -> int:
    """The offset behind the question's name, which has nothing to point back to; 0 when it is none."""
    at = HEADER.size
    while at < len(data):
        size = data[at]
        at += 1 + size
        if size > LONGEST_LABEL or at - HEADER.size > LONGEST_NAME:
            return 0
        if not size:
            return at
    return 0


def _with_edns(query: Query, data: bytes, at: int, additionals: int) -> Query | bytes:
    """Take the OPT record in (RFC 6891); a signature or whatever else stands beside it means nothing here."""
    try:
        for _ in range(min(additionals, 8)):
            owner, at = read_name(data, at)
            if at + RECORD.size > len(data):
                raise ValueError
            kind, size, ttl, length = RECORD.unpack_from(data, at)
            at += RECORD.size + length
            if at > len(data):
                raise ValueError
            if kind != OPT:
                continue
            if query.edns or owner != b"\0":
                raise ValueError
            version = ttl >> 16 & 0xFF
            query.edns = b"\0" + RECORD.pack(OPT, EDNS_SIZE, (ttl & 0x8000) | (1 << 24 if version else 0), 0)
            query.size = min(max(size, PLAIN_SIZE), EDNS_SIZE)
            if version:  # the extended code BADVERS: its upper bits are in the OPT record
                return reply(query, BADVERS & 0xF)
    except ValueError:
        return _refusal(query.id, query.flags, FORMERR)
    return query


def _refusal(number: int, flags: int, code: int) -> bytes:
    return HEADER.pack(number, QR | (flags & (0x7800 | RD)) | code, 0, 0, 0, 0)


# --- The answer -------------------------------------------------------------------------------------------------------


class Answer:
    """What was found: `answers` are (owner, block), the owner empty for the question's own name.

    `outside` is a name that another server has to be asked for: the question's own, or where an alias leads.
    """

    __slots__ = ("answers", "code", "extras", "outside", "zone")

    def __init__(self) -> None:
        self.code = 0
        self.answers: list[tuple[bytes, bytes]] = []
        self.extras: list[tuple[bytes, bytes]] = []
        self.outside = b""
        self.zone: bytes | None = None


def find(view: View, name: bytes, kind: int, *, echo_pods: bool, turn: int = 0) -> Answer:
    """Look a name up, and where it is an alias, what it leads to. `turn` says which of several addresses is first."""
    found = Answer()
    owner = b""
    for _ in range(MOST_CHASES):
        blocks = view.names.get(name)
        if blocks is None:
            found.zone = view.zone_of(name)
            if found.zone is None:
                found.outside = name
                return found
            blocks = _made_up(view, name, found.zone, echo_pods=echo_pods)
        if blocks is None:
            found.code = NXDOMAIN
            return found
        alias = _collect(found, blocks, owner, kind, turn)
        if not alias:
            break
        name = owner = alias
    if not found.answers:
        found.zone = view.zone_of(name)
    elif kind in (SRV, ANY):
        _add_targets(view, found)
    return found


def _collect(found: Answer, blocks: bytes, owner: bytes, kind: int, turn: int) -> bytes:
    """Put the records of this type into the answer; returns the name that an alias leads to, if there is one."""
    listed = split_blocks(blocks)
    if kind != ANY:
        wanted = [block for block in listed if kind_of(block) == kind]
        if not wanted and kind != CNAME:
            for block in listed:
                if kind_of(block) == CNAME:
                    found.answers.append((owner, block))
                    return block[RECORD.size :].lower()
        listed = wanted
    if kind in ADDRESSES and len(listed) > 1:
        first = turn % len(listed)
        listed = listed[first:] + listed[:first]
    found.answers += [(owner, block) for block in listed]
    return b""


def _add_targets(view: View, found: Answer) -> None:
    """The addresses of the hosts that SRV records name (RFC 2782)."""
    for _, block in found.answers:
        if kind_of(block) == SRV:
            target = block[RECORD.size + 6 :]
            for other in split_blocks(view.names.get(target.lower(), b"")):
                if kind_of(other) in ADDRESSES and (target, other) not in found.extras:
                    found.extras.append((target, other))


def _made_up(view: View, name: bytes, zone: bytes, *, echo_pods: bool) -> bytes | None:
    """Records of a name that nobody listed: a pod's by its address, or those of a wildcard (RFC 4592)."""
    parent = name[1 + name[0] :]
    if echo_pods and parent in view.names and parent[1 + parent[0] :] == POD_LABEL + zone:
        return _pod(name[1 : 1 + name[0]])
    while True:
        if (blocks := view.names.get(b"\x01*" + parent)) is not None:
            return blocks
        if parent in view.names or not parent[0]:
            return None
        parent = parent[1 + parent[0] :]


def _pod(label: bytes) -> bytes | None:
    """CoreDNS, `pods insecure`: exactly three dashes, no two in a row, are the dots of IPv4; others are colons."""
    four = label.count(b"-") == 3 and b"--" not in label
    text = label.decode("latin-1").replace("-", "." if four else ":")
    try:
        data = socket.inet_pton(socket.AF_INET if four else socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    return RECORD.pack(A if four else AAAA, IN, 5, len(data)) + data


# --- The reply --------------------------------------------------------------------------------------------------------


def reply(query: Query, code: int, found: Answer | None = None, soa: bytes = b"") -> bytes:
    """The message, of at most `query.size` bytes; `soa` goes with an answer that has no data."""
    limit = query.size - len(query.edns)
    flags = QR | (query.flags & RD) | RA | code
    out = bytearray(HEADER.size)
    out += query.question
    places = {query.name: HEADER.size}
    counts = [0, 0, 0]
    if found is not None:
        flags |= AA if not found.outside else 0
        for owner, block in found.answers:
            if not _append(out, owner or query.name, block, places, limit):
                flags |= TC
                break
            counts[0] += 1
        if soa and found.zone is not None and _append(out, found.zone, soa, _suffix(query, found.zone, places), limit):
            counts[1] = 1
        for owner, block in found.extras if not flags & TC else ():
            if not _append(out, owner, block, places, limit):
                break
            counts[2] += 1
    out += query.edns
    HEADER.pack_into(out, 0, query.id, flags, 1, counts[0], counts[1], counts[2] + bool(query.edns))
    return bytes(out)


def _append(out: bytearray, owner: bytes, block: bytes, places: dict[bytes, int], limit: int) -> bool:
    """Add a record if it fits; the owner is a pointer where its name stands in the message already."""
    at = places.get(owner)
    head = owner if at is None else (0xC000 | at).to_bytes(2, "big")
    begin = len(out) + len(head)
    if begin + len(block) > limit:
        return False
    out += head
    out += block
    kind = kind_of(block)
    if kind in (SRV, CNAME):  # what comes next is likely to be about the name in it
        data = begin + RECORD.size + (6 if kind == SRV else 0)
        if data < 0x4000:
            places.setdefault(bytes(out[data:]).lower(), data)
            places.setdefault(bytes(out[data:]), data)
    return True


def _suffix(query: Query, zone: bytes, places: dict[bytes, int]) -> dict[bytes, int]:
    """The zone's name stands at the end of the question's, unless an alias has led to another zone."""
    if zone != b"\0" and query.name.endswith(zone):
        places[zone] = HEADER.size + len(query.name) - len(zone)
    return places
