"""One iptables rule, from the text that `iptables-save` prints to the bytes that libiptc takes (struct ipt_entry).

The extensions' own parsers fill in their parts, through python-iptables; it takes 0.1 ms for each, so a part is kept
and used again, and comments and the fixed header are packed by hand. Formats: linux/netfilter_ipv4/ip_tables.h,
linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network
from struct import Struct
from typing import Any, Final

import iptc
from iptc.xtables import XTablesError

from k8snetlab.plan.state import Family

_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED: Final = re.compile(r"\\(.)")
_PROTOCOLS: Final = {
    "all": 0, "icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "udplite": 136,
}  # fmt: skip
_VERDICTS: Final = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE"})
_ENTRY: Final[dict[Family, Struct]] = {
    # source, destination, their masks, interfaces in and out, their masks, protocol (IPv6: tos), flags, inverted, then
    # nfcache, where the target and the next entry begin, comefrom, two counters
    4: Struct("=4s4s4s4s16s16s16s16sHBBIHHIQQ"),
    6: Struct("=16s16s16s16s16s16s16s16sHBBB3xIHHI4xQQ"),
}
_GOTO: Final[dict[Family, int]] = {4: 0x02, 6: 0x04}
_HAS_PROTOCOL: Final = 0x01  # IP6T_F_PROTO; IPv4 needs no such flag
_INV_IN, _INV_OUT, _INV_SRC, _INV_DST, _INV_PROTO = 0x01, 0x02, 0x08, 0x10, 0x40
_JUMP: Final = Struct("=H29sBi4x")  # struct xt_standard_target: libiptc puts in the verdict for the name
_MATCH_HEADER: Final = 32  # struct xt_entry_match
_COMMENT_LENGTH: Final = 256  # XT_MAX_COMMENT_LEN, with its final zero
_IFNAMSIZ: Final = 16

_FIELDS: Final = {"-s": "source", "-d": "destination", "-p": "protocol", "-i": "into", "-o": "out_of"}

Words = tuple[str, ...]
Option = tuple[bool, str, Words]  # inverted, `--name` without the dashes, its values


class RuleError(Exception):
    """A rule that this host's extensions cannot express; says which part and why."""


@dataclass(slots=True)
class _Parts:
    """A rule taken apart. `addresses` are source and destination; each value is (inverted, text)."""

    source: tuple[bool, str] = (False, "")
    destination: tuple[bool, str] = (False, "")
    protocol: tuple[bool, str] = (False, "all")
    into: tuple[bool, str] = (False, "")
    out_of: tuple[bool, str] = (False, "")
    matches: list[tuple[str, list[Option]]] = field(default_factory=list)
    target: str = ""
    goto: bool = False
    options: list[Option] = field(default_factory=list)


def compile_rule(family: Family, rule: str, chains: Container[str]) -> bytes:
    """The entry of a rule; `chains` are the names of its table's chains. Raises RuleError."""
    parts = _take_apart(rule)
    protocol = _protocol(parts.protocol[1])
    entry = _ENTRY[family]
    matches = b"".join(_match(family, protocol, name, tuple(options)) for name, options in parts.matches)
    name = parts.target
    if not name or name in _VERDICTS or name in chains:
        target = _JUMP.pack(_JUMP.size, name.encode(), 0, 0)
    else:
        target = _extension(family, protocol, "target", name, tuple(parts.options))
    offset = entry.size + len(matches)
    length = 4 if family == 4 else 16
    source, source_mask = _network(parts.source[1], length)
    destination, destination_mask = _network(parts.destination[1], length)
    into, into_mask = _interface(parts.into[1])
    out_of, out_of_mask = _interface(parts.out_of[1])
    flags = (_GOTO[family] if parts.goto else 0) | (_HAS_PROTOCOL if family == 6 and protocol else 0)
    header = entry.pack(
        source, destination, source_mask, destination_mask, into, out_of, into_mask, out_of_mask, protocol,
        *((0,) if family == 6 else ()), flags, _inverted(parts), 0, offset, offset + len(target), 0, 0, 0,
    )  # fmt: skip
    return header + matches + target


def _take_apart(rule: str) -> _Parts:
    words = [_ESCAPED.sub(r"\1", quoted) if quoted or not bare else bare for quoted, bare in _WORD.findall(rule)]
    parts, options, place, inverted = _Parts(), list[Option](), 0, False
    while place < len(words):
        word = words[place]
        place += 1
        if word == "!":
            inverted = True
            continue
        values = _values(words, place)
        place += len(values)
        if word.startswith("--"):
            options.append((inverted, word[2:], values))
        elif len(values) != 1:
            raise RuleError(f"{word} takes one value, not {len(values)}")
        elif word == "-m":
            options = []
            parts.matches.append((values[0], options))
        elif word in ("-j", "-g"):
            options = parts.options
            parts.target, parts.goto = values[0], word == "-g"
        elif word in _FIELDS:
            setattr(parts, _FIELDS[word], (inverted, values[0]))
        else:
            raise RuleError(f"{word} is not understood")
        inverted = False
    return parts


def _values(words: Sequence[str], place: int) -> Words:
    """What follows an option, until the next one."""
    end = place
    while end < len(words) and words[end] != "!" and not words[end].startswith("-"):
        end += 1
    return tuple(words[place:end])


def _protocol(name: str) -> int:
    try:
        return _PROTOCOLS.get(name.lower()) or int(_PROTOCOLS.get(name.lower(), name))
    except ValueError:
        raise RuleError(f"protocol {name} has no number here") from None


@cache
def _network(text: str, length: int) -> tuple[bytes, bytes]:
    if not text:
        return bytes(length), bytes(length)
    network = ip_network(text, strict=False)
    return network.network_address.packed, network.netmask.packed


def _interface(name: str) -> tuple[bytes, bytes]:
    """A name and a mask of the bytes that count: with a `+` at its end those before, else with the final zero."""
    counted = name[:-1] if name.endswith("+") else name
    length = len(counted) + (name == counted) if name else 0
    if length > _IFNAMSIZ:
        raise RuleError(f"{name} is too long for an interface")
    return counted.encode(), b"\xff" * length


def _inverted(parts: _Parts) -> int:
    bits = (
        (parts.into, _INV_IN), (parts.out_of, _INV_OUT), (parts.source, _INV_SRC), (parts.destination, _INV_DST),
        (parts.protocol, _INV_PROTO),
    )  # fmt: skip
    return sum(bit for (inverted, _), bit in bits if inverted)


def _match(family: Family, protocol: int, name: str, options: tuple[Option, ...]) -> bytes:
    if name == "comment":
        text = " ".join(options[0][2]).encode() if options else b""
        if len(text) >= _COMMENT_LENGTH:
            raise RuleError(f"a comment of {len(text)} bytes: {_COMMENT_LENGTH - 1} fit")
        form = _extension(family, 0, "match", name, ((False, "comment", ("-",)),))
        return form[:_MATCH_HEADER] + text.ljust(_COMMENT_LENGTH, b"\0")
    if name == "set":  # it asks the namespace for the set's number
        return _parse(family, protocol, "match", name, options)
    return _extension(family, protocol, "match", name, options)


@cache
def _extension(family: Family, protocol: int, kind: str, name: str, options: tuple[Option, ...]) -> bytes:
    return _parse(family, protocol, kind, name, options)


class _NoTables:
    """python-iptables would open every table to see whether a target's name is a chain's: it never is here."""

    tables = ()


class _Rule4(_NoTables, iptc.Rule):  # type: ignore[misc]
    pass


class _Rule6(_NoTables, iptc.Rule6):  # type: ignore[misc]
    pass


def _parse(family: Family, protocol: int, kind: str, name: str, options: tuple[Option, ...]) -> bytes:
    rule = _Rule4() if family == 4 else _Rule6()
    rule.protocol = str(protocol)
    try:
        part: Any = iptc.Match(rule, name) if kind == "match" else iptc.Target(rule, name)
        notes = _notes(part)
        for inverted, option, values in options:
            # One value is a text, several a list; "!" before them inverts. What takes no value has an empty one.
            value = ["!", *values] if inverted else list(values)
            part.parse(option, value if len(values) > 1 else "".join(value))
        part._final_check()
    except (XTablesError, iptc.IPTCError, ValueError, AttributeError) as error:
        words = " ".join(_words(options))
        raise RuleError(f"{kind} {name} {words}: {error}") from error
    del notes
    if kind == "match":
        return bytes(part.match_buf)
    return bytes(part._target_buf[: part.size])


def _notes(part: Any) -> Any:
    """Where an extension notes what it has seen: python-iptables gives it memory that is already free again."""
    size = getattr(part._module, "udata_size", 0)
    memory = ctypes.create_string_buffer(size) if size else None
    if memory is not None:
        part._module.udata = ctypes.cast(memory, ctypes.c_void_p)
    return memory


def _words(options: Sequence[Option]) -> Iterator[str]:
    for inverted, option, values in options:
        yield from (*("!",) * inverted, f"--{option}", *values)
