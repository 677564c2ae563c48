"""nftables objects as input of `nft -f`: what makes them, in the words that `nft list` prints them in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from k8snetlab.plan.state import Family, NftChain, NftElement, NftSet, NftTable

NftObject = NftTable | NftSet | NftChain | NftElement

FAMILY: Final[dict[Family, str]] = {4: "ip", 6: "ip6"}


def making(objects: Iterable[NftObject]) -> Iterator[str]:
    """The lines that make objects of one namespace: tables and sets, then chains with their rules, then elements.

    A rule may name any chain or set of the same kind of objects, whatever their order. One element a line, so that an
    error of nft, which names the line, names the element.
    """
    chains: list[NftChain] = []
    elements: list[NftElement] = []
    containers: list[str] = []
    for item in objects:
        match item:
            case NftTable():
                yield f"add table {FAMILY[item.family]} {item.name}{_braced(_comment(item.comment))}"
            case NftSet():
                containers.append(f"add {item.kind} {address(item)} {item.name}{_braced(set_lines(item))}")
            case NftChain():
                chains.append(item)
            case NftElement():
                elements.append(item)
    yield from containers
    yield from _chains(chains)
    for container, group in groupby(elements, lambda item: f"{address(item)} {item.set}"):
        yield f"add element {container} {{"
        yield from (f"{element_text(item)}," for item in group)
        yield "}"


def address(item: NftSet | NftChain | NftElement) -> str:
    """Family and table."""
    return f"{FAMILY[item.family]} {item.table}"


def set_lines(item: NftSet) -> Iterator[str]:
    """What is between the braces of a set or map, without its elements."""
    yield item.type
    if item.flags:
        yield f"flags {item.flags}"
    if item.timeout:
        yield f"timeout {item.timeout}s"
    yield from _comment(item.comment)


def chain_lines(item: NftChain) -> Iterator[str]:
    """What is between the braces of a chain."""
    if item.hook:
        yield item.hook
    yield from _comment(item.comment)
    yield from item.rules


def element_text(item: NftElement) -> str:
    comment = f' comment "{item.comment}"' if item.comment else ""
    return f"{item.key}{comment} : {item.value}" if item.value else f"{item.key}{comment}"


def _chains(chains: Iterable[NftChain]) -> Iterator[str]:
    for table, group in groupby(chains, address):
        yield f"table {table} {{"
        for chain in group:
            yield f"chain {chain.name} {{"
            yield from chain_lines(chain)
            yield "}"
        yield "}"


def _comment(text: str) -> tuple[str, ...]:
    return (f'comment "{text}"',) if text else ()


def _braced(lines: Iterable[str]) -> str:
    inside = "; ".join(lines)
    return f" {{ {inside}; }}" if inside else ""
