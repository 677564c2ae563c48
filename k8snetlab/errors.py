"""Every way a command can fail on purpose.

The classes carry data and do not print; `cli.main` is the only place that catches `LabError`, shows it and turns it
into an exit code. Anything else that escapes is a bug and shows its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where an object was written: a file as the user named it (`-` is standard input) and a line, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input: `subject` is `Kind ns/name` or empty, `path` a dotted field path or empty."""

    source: Source
    subject: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.source), self.subject, self.path, self.message) if part)


class LabError(Exception):
    """The base: a message for the user and, where there is one, the fix."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LabError):
    """The command line asks for something that does not exist or makes no sense."""

    exit_code = 2


class ManifestError(LabError):
    """The manifests are wrong; carries every problem of every document, in file and line order."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ClusterError(ManifestError):
    """Well-formed manifests of which no cluster can be made: no address left, no node fits, a port is taken."""


class CheckError(LabError):
    """What was to be built upon does not hold: a check fails."""

    exit_code = 1


class HostError(LabError):
    """This host lacks something the lab needs; the hint says how to get it."""


class KernelError(LabError):
    """The kernel, or a tool that speaks to it, refused an operation."""

    def __init__(self, operation: str, *, netns: str = "", subject: str = "", reason: str = "", hint: str = "") -> None:
        where = f" in {netns}" if netns else ""
        what = f" {subject}" if subject else ""
        super().__init__(f"{operation}{what}{where}: {reason}", hint=hint)
        self.operation = operation
        self.netns = netns
        self.subject = subject
        self.reason = reason

    def blame(self, subject: str, source: Source | None) -> None:
        """Say for which object of the manifests it was tried, and where that is written."""
        where = f", {source}" if source else ""
        self.message = f"{self.message} ({subject}{where})"
        self.args = (self.message,)


class ProbeError(LabError):
    """A probe could not be run at all; never to be read as "blocked"."""
