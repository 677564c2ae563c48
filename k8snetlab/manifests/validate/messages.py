"""The API server's words for what is wrong (apimachinery, util/validation/field/errors.go)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from k8snetlab.manifests.decode import Path, Wrong, shown

Wrongs = Iterator[Wrong]


def required(path: Path, detail: str = "") -> Wrong:
    """It must be there and is not."""
    return Wrong(path, f"Required value: {detail}" if detail else "Required value")


def invalid(path: Path, value: Any, detail: str) -> Wrong:
    """The value cannot be."""
    return Wrong(path, f"Invalid value: {shown(value)}: {detail}")


def unsupported(path: Path, value: Any, supported: Iterable[str]) -> Wrong:
    """The value is not one of a fixed set."""
    return Wrong(path, f"Unsupported value: {shown(value)}: supported values: {', '.join(map(shown, supported))}")


def duplicate(path: Path, value: Any) -> Wrong:
    """The value is already there."""
    return Wrong(path, f"Duplicate value: {shown(value)}")


def forbidden(path: Path, detail: str) -> Wrong:
    """The field may not be set here."""
    return Wrong(path, f"Forbidden: {detail}")


def too_many(path: Path, number: int, most: int) -> Wrong:
    """The list is too long."""
    return Wrong(path, f"Too many: {number}: must have at most {most} items")


def check(path: Path, value: Any, detail: str | None) -> Wrongs:
    """What one of the functions of `names` or `addresses` said of the value, if anything."""
    if detail:
        yield invalid(path, value, detail)


def check_port(path: Path, port: int) -> Wrongs:
    """A port number."""
    if not 1 <= port <= 65535:
        yield invalid(path, port, "must be between 1 and 65535, inclusive")
