"""The one directory on the host: `/run/k8snetlab/LAB/` with a lock and a `holder` file, and who may write there.

Everything else of a lab lives in its holder's namespaces and dies with it. Whoever removes files here removes the lock
last, and only while holding it; the janitor alone removes it first (see `lock`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from k8snetlab.errors import HostError, UsageError

DEFAULT_BASE = Path("/run/k8snetlab")

# A lab's name is part of file names on the host and of `ip netns exec LAB.node1`. Without a dot no lab's prefix is
# another's, and with the longest namespace name it fits a file name (255 bytes).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")


def base_directory() -> Path:
    return Path(os.environ.get("K8SNETLAB_RUN_DIR") or DEFAULT_BASE)


def lab_directory(name: str) -> Path:
    """Where the lab `name` keeps its lock and its holder file; raises UsageError for a name that cannot be a lab's."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a lab",
            hint="use up to 50 lower-case letters, digits and '-', beginning and ending with a letter or digit",
        )
    return base_directory() / name


def lab_names() -> list[str]:
    """The names of all directories that may be labs, alive or not, in order."""
    try:
        return sorted(entry.name for entry in base_directory().iterdir() if _NAME.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_directory(directory: Path) -> None:
    """Create a lab's directory; HostError when the run directory cannot be written."""
    for attempt in range(100, -1, -1):
        try:
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            return
        except OSError as error:
            # Another process may remove it, or its parent, between the two looks that mkdir takes: then again.
            if not attempt or not isinstance(error, FileExistsError | FileNotFoundError):
                raise unwritable(error) from error


def unwritable(error: OSError) -> HostError:
    return HostError(
        f"cannot write the run directory {base_directory()}: {error.strerror}",
        hint="run as root, or set K8SNETLAB_RUN_DIR to a directory that you can write",
    )


def remove_empty(directory: Path) -> None:
    """Remove a lab's directory, and the run directory when it is ours to make, unless something is in them."""
    for path in (directory, base_directory()):
        if path in (directory, DEFAULT_BASE):
            try:
                path.rmdir()
            except OSError:  # another lab, or somebody who waits for the lock and has made it anew
                return
