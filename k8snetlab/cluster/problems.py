"""How the control plane says what is wrong with an object: never at once, always with where it was written."""

from __future__ import annotations

from k8snetlab.errors import ClusterError, Problem, Source

NOWHERE = Source("command line", 0)


def problem(source: Source | None, subject: str, path: str, message: str) -> Problem:
    """A problem of the object `subject` (`Kind ns/name`), found at `path` in it."""
    return Problem(source or NOWHERE, subject, path, message)


def raise_all(problems: list[Problem]) -> None:
    """Raise `ClusterError` with every problem once, in file and line order, if there are any."""
    if problems:
        unique = dict.fromkeys(problems)
        raise ClusterError(tuple(sorted(unique, key=lambda found: (found.source, found.subject, found.path))))
