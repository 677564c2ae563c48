"""The names Kubernetes' controllers give to what they make, chosen by hash instead of by chance.

The same template and ordinal always get the same name, so a lab built twice is the same lab.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from hashlib import sha256
from typing import Any

# apimachinery util/rand: no vowels and no look-alikes, so that no name spells a word.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# apiserver storage/names: generated names have at most 63 characters, five of them random.
SUFFIX_LENGTH = 5
MAX_BASE_LENGTH = 63 - SUFFIX_LENGTH


def template_hash(template: object) -> str:
    """The value of the label `pod-template-hash`: ten characters that change when, and only when, the template does."""
    return _spell(sha256(_canonical(template).encode()).digest(), 10)


def suffix(*identity: str) -> str:
    """Five characters that stand for what a pod is: its namespace, its maker and its number."""
    return _spell(sha256("\0".join(identity).encode()).digest(), SUFFIX_LENGTH)


def generated(base: str, *identity: str, taken: set[str]) -> str:
    """`base`, cut as the API server cuts it, and a suffix; the name is added to `taken` and never returned twice."""
    base = base[:MAX_BASE_LENGTH]
    name = base + suffix(*identity)
    attempt = 0
    while name in taken:
        attempt += 1
        name = base + suffix(*identity, str(attempt))
    taken.add(name)
    return name


def _spell(digest: bytes, length: int) -> str:
    number = int.from_bytes(digest, "big")
    letters = []
    for _ in range(length):
        number, letter = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[letter])
    return "".join(letters)


def _canonical(value: Any) -> str:
    """A text equal for equal values, whatever the order in which a mapping was written; empty fields are left out."""
    if isinstance(value, str | int):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key!r}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join([_canonical(item) for item in value]) + ")"
    if value is None:
        return "None"
    given = [(name, part) for name in _field_names(value.__class__) if (part := getattr(value, name))]
    return f"{value.__class__.__name__}({','.join([f'{name}={_canonical(part)}' for name, part in given])})"


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
