"""The rules of our nftables planners taken apart, for walking a packet through them.

It understands exactly the forms of rules that the planners write and refuses all others, so a rule can never be read
wrongly by leaving something out of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from k8snetlab.errors import LabError

# A key is a concatenation of these, of "tcp dport" and the like, and of "mod N" for `numgen random mod N`.
FIELDS: Final = frozenset({"saddr", "daddr", "l4proto", "dport"})
PROTOCOLS: Final = frozenset({"tcp", "udp", "sctp"})
VERDICTS: Final = frozenset({"drop", "reject", "return", "accept"})

Key = tuple[str, ...]


class UnknownNftRuleError(LabError):
    """A rule that no planner of ours writes."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"nftables rule not understood: {what or 'it ends too early'}: {rule}")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Lookup:
    """A key compared with `operand`: one value, a network, a range, several of them, or a named set `@name`."""

    key: Key
    operand: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """Something about the packet itself: `new`, `translated`, `saddr local`, `daddr local`."""

    name: str


@dataclass(frozen=True, slots=True)
class Marked:
    """`meta mark & mask == value`."""

    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`drop`, `reject`, `return`, `accept`, or `jump` and `goto` with a chain."""

    name: str
    chain: str = ""


@dataclass(frozen=True, slots=True)
class VerdictMap:
    """`key vmap …`: a named map, or the verdicts of an anonymous one by their keys."""

    key: Key
    name: str
    verdicts: tuple[tuple[str, Verdict], ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """`or` or `xor` a bit of the packet's mark."""

    operation: str
    bit: int


@dataclass(frozen=True, slots=True)
class Translate:
    """DNAT to `target` (`ip:port`), or to what the map `name` has for the key."""

    target: str = ""
    key: Key = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Masquerade:
    pass


@dataclass(frozen=True, slots=True)
class Remember:
    """`update @set …`: the client is remembered; a first packet meets no memory."""

    name: str


Test = Lookup | Flag | Marked
Action = Verdict | VerdictMap | Mark | Translate | Masquerade | Remember


@dataclass(frozen=True, slots=True)
class Rule:
    text: str
    tests: tuple[Test, ...]
    action: Action


@lru_cache(maxsize=65536)
def parse(text: str) -> Rule:
    """Take a rule apart. Raises UnknownNftRuleError for any word that has no meaning here."""
    words = _Words(text)
    tests: list[Test] = []
    while True:
        part = _part(words)
        if not isinstance(part, Lookup | Flag | Marked):
            words.end()
            return Rule(text, tuple(tests), part)
        tests.append(part)


def parse_verdict(text: str) -> Verdict:
    """The value of an element of a verdict map."""
    return _verdict(_Words(text))


class _Words:
    """The words of a rule, one after the other; a trailing comment is dropped."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._words = shlex.split(text.replace(",", " , "))
        if len(self._words) > 2 and self._words[-2] == "comment":
            del self._words[-2:]
        elif "comment" in self._words:  # a comma in a comment has been spread out
            del self._words[self._words.index("comment") :]
        self._next = 0

    def peek(self) -> str:
        return self._words[self._next] if self._next < len(self._words) else ""

    def take(self, *expected: str) -> str:
        """The next word, which must be one of those expected, if any are given."""
        word = self.peek()
        if not word or (expected and word not in expected):
            raise UnknownNftRuleError(self.text, word)
        self._next += 1
        return word

    def end(self) -> None:
        if self.peek():
            raise UnknownNftRuleError(self.text, self.peek())


def _part(words: _Words) -> Test | Action:
    """The next match or, at last, the statement."""
    match words.peek():
        case "ct":
            words.take()
            flag = {"state": ("new", "new"), "status": ("dnat", "translated")}[words.take("state", "status")]
            words.take(flag[0])
            return Flag(flag[1])
        case "fib":
            words.take()
            field = words.take("saddr", "daddr")
            words.take("type")
            words.take("local")
            return Flag(f"{field} local")
        case "update":
            words.take()
            name = words.take().removeprefix("@")
            _braced(words)
            return Remember(name)
        case "masquerade":
            words.take()
            words.take("fully-random")
            return Masquerade()
        case "dnat":
            words.take()
            return _translate(words)
        case "jump" | "goto" | "drop" | "reject" | "return" | "accept":
            return _verdict(words)
        case _:
            return _about_key(words)


def _about_key(words: _Words) -> Test | Action:
    """What begins with a key: a match, a verdict map, or something about the mark."""
    if (first := words.peek()) == "meta":
        words.take()
        if words.peek() == "mark":
            words.take()
            return _mark(words)
        words.take("l4proto")
        key = _key(words, ("l4proto",))
    else:
        key = _key(words, (_field(words, first),))
    if words.peek() == "vmap":
        words.take()
        return _verdict_map(words, key)
    negated = words.peek() == "!="
    if negated:
        words.take()
    return Lookup(key, tuple(_operand(words)), negated)


def _key(words: _Words, fields: Key) -> Key:
    while words.peek() == ".":
        words.take()
        fields = (*fields, _field(words, words.peek()))
    return fields


def _field(words: _Words, first: str) -> str:
    words.take("ip", "ip6", "meta", "th", "numgen", *PROTOCOLS)
    if first == "numgen":
        words.take("random")
        words.take("mod")
        return f"mod {words.take()}"
    if first in PROTOCOLS:
        return f"{first} {words.take('dport')}"
    return words.take(*FIELDS)


def _operand(words: _Words) -> Iterator[str]:
    if words.peek() == "{":
        yield from _braced(words)
    else:
        yield words.take()


def _braced(words: _Words) -> list[str]:
    words.take("{")
    found = []
    while words.peek() != "}":
        if (word := words.take()) != ",":
            found.append(word)
    words.take("}")
    return found


def _mark(words: _Words) -> Marked | Mark:
    if words.take("&", "set") == "&":
        mask = int(words.take(), 16)
        words.take("==")
        return Marked(mask, int(words.take(), 16))
    words.take("meta")
    words.take("mark")
    return Mark("or" if words.take("|", "^") == "|" else "xor", int(words.take(), 16))


def _translate(words: _Words) -> Translate:
    if words.peek() in ("ip", "ip6"):
        words.take()
        words.take("to")
        key = _key(words, (_field(words, words.peek()),))
        words.take("map")
        return Translate(key=key, name=words.take().removeprefix("@"))
    words.take("to")
    return Translate(words.take())


def _verdict_map(words: _Words, key: Key) -> VerdictMap:
    if words.peek() != "{":
        return VerdictMap(key, words.take().removeprefix("@"))
    words.take("{")
    verdicts = []
    while words.peek() != "}":
        number = words.take()
        words.take(":")
        verdicts.append((number, _verdict(words)))
        if words.peek() == ",":
            words.take()
    words.take("}")
    return VerdictMap(key, "", tuple(verdicts))


def _verdict(words: _Words) -> Verdict:
    word = words.take("jump", "goto", *VERDICTS)
    return Verdict(word, words.take()) if word in ("jump", "goto") else Verdict(word)
