"""What a lab knows about itself: the manifests it was made from, its cluster and its plan ("etcd").

One file in the lab's own tmpfs, reached through `/proc/HOLDER/root`, so it dies with the lab. A header line of fixed
width says the version, whether the kernel is known to agree with the plan, and how long each section is; the sections
are pickles, so a command that needs only the cluster reads only that one. The file is replaced as a whole; only the
`clean` letter is changed in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from k8snetlab import __version__
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import HostError, LabError
from k8snetlab.lab import pack

if TYPE_CHECKING:
    from k8snetlab.cluster.model import Cluster
    from k8snetlab.manifests.document import Manifests
    from k8snetlab.plan.state import Plan

FILE = "record"
_MAGIC = b"k8snetlab"
_CLEAN_AT = len(_MAGIC) + 1
_HEADER_SIZE = 96
_SECTIONS = ("options", "manifests", "cluster", "plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """`overrides` are the options of `up` that won over the Lab document; `readiness` is what `set-ready` said, by pod.

    `clean` is False from before the kernel is touched until it agrees with `plan`.
    """

    manifests: Manifests
    cluster: Cluster
    plan: Plan
    overrides: Mapping[str, object] = field(default_factory=dict)
    readiness: Mapping[str, bool] = field(default_factory=dict)
    clean: bool = False
    version: str = __version__


def save(directory: Path, record: Record) -> None:
    """Replace the record in `directory` (`Holder.state`) at once or not at all."""
    options = {"overrides": dict(record.overrides), "readiness": dict(record.readiness)}
    sections = [pack.dump(part) for part in (options, record.manifests, record.cluster, record.plan)]
    sizes = " ".join(str(len(section)) for section in sections)
    header = f"{_MAGIC.decode()} {_letter(record.clean)} {record.version} {sizes}".ljust(_HEADER_SIZE - 1) + "\n"
    new = directory / f"{FILE}.new"
    new.touch(mode=0o600)
    with new.open("wb") as file:
        file.writelines([header.encode(), *sections])
    new.rename(directory / FILE)


def mark(directory: Path, *, clean: bool) -> None:
    """Say in place whether the kernel agrees with the stored plan: one byte, so it is there or not."""
    with (directory / FILE).open("r+b", buffering=0) as file:
        file.seek(_CLEAN_AT)
        file.write(_letter(clean).encode())


def load(directory: Path) -> Record | None:
    """The whole record; None when there is none yet. Raises LabError when it cannot be trusted or understood."""
    with _opened(directory) as header:
        if header is None:
            return None
        options, manifests, cluster, plan = (header.section(name) for name in _SECTIONS)
        try:
            overrides, readiness = options["overrides"], options["readiness"]
        except (KeyError, TypeError) as error:
            raise _damaged(f"its options are {options!r}") from error
        return Record(
            manifests=manifests,
            cluster=cluster,
            plan=plan,
            overrides=overrides,
            readiness=readiness,
            clean=header.clean,
        )


def load_cluster(directory: Path) -> Cluster | None:
    """Only the cluster, for the commands that show Kubernetes objects."""
    with _opened(directory) as header:
        cluster: Cluster | None = header.section("cluster") if header else None
        return cluster


def load_plan(directory: Path) -> tuple[Plan, bool] | None:
    """Only the plan, and whether the kernel is known to agree with it."""
    with _opened(directory) as header:
        return (header.section("plan"), header.clean) if header else None


def is_clean(directory: Path) -> bool:
    """Whether the kernel is known to agree with the stored plan; False when there is none."""
    with _opened(directory) as header:
        return header is not None and header.clean


@dataclass(frozen=True, slots=True)
class _Header:
    file: BinaryIO
    clean: bool
    sizes: tuple[int, ...]

    def section(self, name: str) -> Any:
        index = _SECTIONS.index(name)
        self.file.seek(_HEADER_SIZE + sum(self.sizes[:index]))
        try:
            return pack.parse(self.file.read(self.sizes[index]))
        except ValueError as error:
            raise _damaged(str(error)) from error


@contextmanager
def _opened(directory: Path) -> Iterator[_Header | None]:
    try:
        file = (directory / FILE).open("rb")
    except FileNotFoundError:
        yield None
        return
    except PermissionError:
        raise HostError("only the user who made a lab may look into it", hint="run as root (sudo)") from None
    with file:
        _check_owner(file)
        words = file.read(_HEADER_SIZE).decode("ascii", "replace").split()
        if len(words) < 3 or words[0] != _MAGIC.decode():
            raise _damaged("no header")
        if words[2] != __version__:
            raise LabError(
                f"this lab was made by k8snetlab {words[2]}, this is {__version__}",
                hint="use that version, or take the lab down and make it anew",
            )
        sizes = tuple(int(word) for word in words[3:])
        if len(sizes) != len(_SECTIONS) or os.fstat(file.fileno()).st_size != _HEADER_SIZE + sum(sizes):
            raise _damaged("its length is not what its header says")
        yield _Header(file, words[1] == _letter(True), sizes)


def _letter(clean: bool) -> str:
    return "c" if clean else "u"


def _check_owner(file: BinaryIO) -> None:
    """A pickle is code: read only what we or root wrote, where nobody else may write."""
    status = os.fstat(file.fileno())
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise LabError(f"the lab's record belongs to user {status.st_uid} or others may write it; it is not read")


def _damaged(reason: str) -> LabError:
    return LabError(f"the lab's record is damaged: {reason}", hint="take the lab down and make it anew")
