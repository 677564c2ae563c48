"""Host names with wildcards: which of them match, overlap, and which is the more specific.

Ingress' `*` stands for exactly one label, Gateway API's for one or more (Ingress "Hostname wildcards"; Gateway API,
Hostname). An empty name stands for every host.
"""

from __future__ import annotations


def is_wildcard(host: str) -> bool:
    return host.startswith("*.")


def covers(pattern: str, host: str) -> bool:
    """Whether every host that `host` stands for is one that `pattern` stands for too; a star is one or more labels."""
    if not pattern or pattern == host:
        return True
    if not host or not is_wildcard(pattern):
        return False
    return host.removeprefix("*").endswith(pattern[1:]) and len(host) > len(pattern[1:])


def intersection(listener: str, route: str) -> str | None:
    """What both stand for, which is always the narrower of the two; None when they have no host in common."""
    if covers(listener, route):
        return route
    return listener if covers(route, listener) else None


def specificity(host: str) -> tuple[bool, int]:
    """The greater the more specific: exact names before wildcards, then the longer one."""
    return bool(host) and not is_wildcard(host), len(host)


def most_specific(host: str, patterns: list[str]) -> str | None:
    """Which of the patterns a request for `host` (or for all that a wildcard stands for) belongs to."""
    fitting = [pattern for pattern in patterns if covers(pattern, host)]
    return max(fitting, key=specificity, default=None)


def one_label(pattern: str, host: str) -> bool:
    """Ingress: whether the wildcard matches the host, its star being one label."""
    label, dot, rest = host.partition(".")
    return is_wildcard(pattern) and bool(label) and bool(dot) and rest == pattern[2:]
