"""Regular expressions of users: RE2's, as proxies have them, and what they must not contain."""

from __future__ import annotations

import re
from typing import Final

# What Python knows and RE2 does not: look-around, conditions, atomic groups, comments, back references.
_NOT_RE2: Final = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P=|P>)|(?<!\\)(?:\\\\)*\\[1-9]|(?<!\\)[*+?}]\+")


def pattern_fault(pattern: str) -> str:
    """Why it is no regular expression of RE2; empty when it is one."""
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    found = _NOT_RE2.search(pattern)
    return f"RE2 has no {found[0]!r}" if found else ""


def literal_start(pattern: str) -> str:
    """The path that a pattern most likely matches: what comes before the first of its special characters."""
    found = re.search(r"[\\^$.|?*+()\[\]{}]", pattern.removeprefix("^"))
    text = pattern.removeprefix("^")
    return text[: found.start()] if found else text
