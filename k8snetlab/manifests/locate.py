"""Write into the parts of an object where they stand in its file.

A class whose parts are to be found again (a policy, its rules, peers and ports) has a field made by `meta.written_at`.
It is no part of the value: two policies that differ only in their lines are equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TypeVar, cast

from k8snetlab.errors import Source
from k8snetlab.manifests.decode import Path, yaml_key

T = TypeVar("T")


def locate(value: T, source_of: Callable[[Path], Source]) -> T:
    """The object with the source of each of its parts; as it is when its class does not ask for any."""
    if not is_located(cast(Hashable, type(value))):
        return value
    return cast(T, _located(value, source_of, ()))


@cache
def is_located(cls: Hashable) -> bool:
    """Whether the class has a field for where its objects were written."""
    return dataclasses.is_dataclass(cls) and any(each.metadata.get("source") for each in dataclasses.fields(cls))


def _located(value: Any, source_of: Callable[[Path], Source], path: Path) -> Any:
    changes: dict[str, Any] = {}
    for name, key in _parts(cast(Hashable, type(value))):
        part = getattr(value, name)
        if isinstance(part, tuple):
            if part and dataclasses.is_dataclass(part[0]):
                changes[name] = tuple([_located(e, source_of, (*path, key, n)) for n, e in enumerate(part)])
        elif dataclasses.is_dataclass(part):
            changes[name] = _located(part, source_of, (*path, key))
    if is_located(cast(Hashable, type(value))):
        changes["source"] = source_of(path)
    return dataclasses.replace(value, **changes) if changes else value


@cache
def _parts(cls: Hashable) -> tuple[tuple[str, str], ...]:
    """Attribute and key of each field but the source, and but the metadata, whose lines nobody asks for."""
    fields = dataclasses.fields(cast(Any, cls))
    return tuple((each.name, yaml_key(each)) for each in fields if each.name not in ("source", "metadata"))
