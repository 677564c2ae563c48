"""Show a lab's network namespaces on the host, so that plain `ip netns exec LAB.node1 …` works.

A published namespace is a symlink `/run/netns/LAB.NAME` to `/proc/HOLDER/root/run/netns/NAME`: it pins nothing, and
dangles when the holder is dead. Root only; the lab itself does not need them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from k8snetlab.errors import HostError
from k8snetlab.lab.rundir import base_directory

HOST_NETNS = Path("/run/netns")
_TARGET = re.compile(r"/proc/(\d+)/root/run/netns/[^/]+")

# Left in the run directory when `/run/netns` was missing and we made it, so that the last lab removes it again.
MADE_MARK = ".made-run-netns"


def publish(lab: str, pid: int, names: Iterable[str]) -> None:
    """Make the host's links equal to `names`, the namespaces of the lab whose holder is `pid`.

    Raises HostError when a name is taken by something that is not this lab's.
    """
    wanted = {f"{lab}.{name}": f"/proc/{pid}/root/run/netns/{name}" for name in names}
    if not HOST_NETNS.is_dir():
        (base_directory() / MADE_MARK).touch()
        HOST_NETNS.mkdir(mode=0o755, parents=True, exist_ok=True)
    present = _links(lab)
    for link in present.keys() - wanted.keys():
        if _pid_of(present[link]) == pid:
            _unlink(link)
    for link, target in wanted.items():
        if present.get(link) != target:
            _link(link, target)


def withdraw(lab: str, pid: int) -> None:
    """Remove the lab's links that name the holder `pid`, and `/run/netns` itself when we made it and it is empty."""
    for link, target in _links(lab).items():
        if _pid_of(target) == pid:
            _unlink(link)
    remove_made_directory()


def remove_made_directory() -> None:
    """Remove `/run/netns` when it is empty and one of our labs made it."""
    mark = base_directory() / MADE_MARK
    if mark.exists():
        with suppress(OSError):  # not empty, or mounted on: `ip netns add` makes it a mount point
            HOST_NETNS.rmdir()
            mark.unlink(missing_ok=True)


def _links(lab: str) -> dict[str, str]:
    """The lab's symlinks by file name, with their targets."""
    try:
        with os.scandir(HOST_NETNS) as entries:
            return {
                entry.name: os.readlink(entry.path)  # noqa: PTH115  (a string compared as it stands)
                for entry in entries
                if entry.name.startswith(f"{lab}.") and entry.is_symlink()
            }
    except FileNotFoundError:
        return {}


def _pid_of(target: str) -> int | None:
    match = _TARGET.fullmatch(target)
    return int(match[1]) if match else None


def _link(name: str, target: str) -> None:
    path = HOST_NETNS / name
    try:
        os.symlink(target, path)  # noqa: PTH211  (a thousand of them)
    except FileExistsError:
        # A link of ours whose holder is gone may be replaced; anything else belongs to somebody.
        if not path.is_symlink() or _pid_of(str(path.readlink())) is None or path.exists():
            raise HostError(
                f"{path} exists and is not this lab's", hint="remove it, or give the lab another name with --lab"
            ) from None
        path.unlink()
        path.symlink_to(target)


def _unlink(name: str) -> None:
    with suppress(FileNotFoundError):
        (HOST_NETNS / name).unlink()
