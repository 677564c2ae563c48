"""How a resolver turns a name into questions: the search list and `ndots` of resolv.conf. Pure.

Source: resolv.conf(5) and glibc's res_search, which every getaddrinfo(3) goes through.
"""

from __future__ import annotations

from typing import Final

from k8snetlab.dataclass import dataclass

MOST_SERVERS: Final = 3  # MAXNS
DEFAULT_NDOTS: Final = 1


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolv.conf says, as far as it decides which questions are asked."""

    servers: tuple[str, ...]
    searches: tuple[str, ...]
    ndots: int


def parse(text: str) -> ResolvConf:
    """The last `search` line counts; of `options` each one; lines that are not understood mean nothing."""
    servers: list[str] = []
    searches: tuple[str, ...] = ()
    ndots = DEFAULT_NDOTS
    for line in text.splitlines():
        key, *words = line.split() or [""]
        if key == "nameserver" and words:
            servers.append(words[0])
        elif key == "search":
            searches = tuple(words)
        elif key == "options":
            for word in words:
                name, _, value = word.partition(":")
                if name == "ndots" and value.isdecimal():
                    ndots = min(int(value), 15)  # RES_MAXNDOTS
    return ResolvConf(tuple(servers[:MOST_SERVERS]), searches, ndots)


def candidates(conf: ResolvConf, name: str) -> tuple[str, ...]:
    """The full names to ask for, in order, without their final dots.

    A name that ends with a dot is complete. One with at least `ndots` dots is tried as it is first, any other last.
    """
    if name.endswith("."):
        return (name.rstrip("."),)
    searched = tuple(f"{name}.{search.rstrip('.')}" for search in conf.searches)
    return (name, *searched) if name.count(".") >= conf.ndots else (*searched, name)
