"""What `nft list table` prints, as objects of `plan.state`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from k8snetlab.plan.state import Family, NftChain, NftElement, NftSet, NftTable

NftObject = NftTable | NftSet | NftChain | NftElement

FAMILIES: Final[dict[str, Family]] = {"ip": 4, "ip6": 6}
_COMMENT: Final = re.compile(r'comment "(.*)"')
_ELEMENT: Final = re.compile(r'(?:[^,"]|"[^"]*")+')
_KEY_AND_VALUE: Final = re.compile(r'(.*?)(?: comment "([^"]*)")?(?: : (.*))?')
_DURATION: Final = re.compile(r"(\d+)([dhms])(?!s)")
_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def parse_listing(netns: str, text: str) -> Iterator[NftObject]:
    """The objects of all tables in `text`, which `nft --numeric-priority --stateless list` has printed.

    Elements of sets that packets fill (flag `dynamic`) are left out, as are families other than ip and ip6.
    """
    lines = iter(text.splitlines())
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[0] == "table":
            _, family, name, _ = words
            objects = _table(netns, FAMILIES.get(family, 4), name, lines)
            yield from objects if family in FAMILIES else list(objects)[:0]


def _table(netns: str, family: Family, table: str, lines: Iterator[str]) -> Iterator[NftObject]:
    """One table: its lines are indented by one tab, what is in a set or chain by two."""
    comment = ""
    for line in lines:
        words = line.split()
        if line == "}":
            break
        if found := _COMMENT.fullmatch(line.strip()):
            comment = found[1]
        elif words and words[0] in ("set", "map"):
            body = list(_block(lines))
            definition = _set(NftSet(netns, family, table, words[1], "set" if words[0] == "set" else "map", ""), body)
            yield definition
            if "dynamic" not in definition.flags:
                yield from _elements(definition, body)
        elif words and words[0] == "chain":
            yield _chain(netns, family, table, words[1], _block(lines))
        elif words:  # a flowtable, a counter, …: nothing the plan has a word for
            list(_block(lines))
    yield NftTable(netns, family, table, comment)


def _block(lines: Iterator[str]) -> Iterator[str]:
    """The lines up to the closing brace, without the two tabs."""
    for line in lines:
        if line == "\t}":
            return
        yield line.removeprefix("\t\t")


def _set(empty: NftSet, body: Iterable[str]) -> NftSet:
    type_ = flags = comment = ""
    timeout = 0
    for line in body:
        if line.startswith("elements = "):
            break
        if line.startswith(("type ", "typeof ")):
            type_ = line
        elif line.startswith("flags "):
            flags = line.removeprefix("flags ")
        elif line.startswith("timeout "):
            timeout = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION.findall(line))
        elif found := _COMMENT.fullmatch(line):
            comment = found[1]
    return NftSet(empty.netns, empty.family, empty.table, empty.name, empty.kind, type_, flags, timeout, comment)


def _elements(of: NftSet, body: list[str]) -> Iterator[NftElement]:
    start = next((number for number, line in enumerate(body) if line.startswith("elements = ")), None)
    if start is None:
        return
    joined = " ".join(body[start:]).removeprefix("elements = { ").removesuffix(" }")
    for text in _ELEMENT.findall(joined):
        if (match := _KEY_AND_VALUE.fullmatch(text.strip())) is not None:
            key, comment, value = match.groups()
            yield NftElement(of.netns, of.family, of.table, of.name, key, value or "", comment or "")


def _chain(netns: str, family: Family, table: str, name: str, body: Iterator[str]) -> NftChain:
    hook = comment = ""
    rules: list[str] = []
    for line in body:
        if line.startswith("type ") and " hook " in line:
            hook = line
        elif not rules and (found := _COMMENT.fullmatch(line)):
            comment = found[1]
        else:
            rules.append(line)
    return NftChain(netns, family, table, name, tuple(rules), hook, comment)
