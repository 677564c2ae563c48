"""The files that programs of the lab read: in a tmpfs of the lab, so they are gone with it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from k8snetlab.plan.state import File, KernelObject

ROOT = Path("/run/files")


def apply(missing: Sequence[KernelObject], extra: Sequence[KernelObject]) -> frozenset[str]:
    """Write and remove; returns the folders in which something has changed."""
    written = [item for item in missing if isinstance(item, File)]
    kept = {item.path for item in written}
    removed = [item for item in extra if isinstance(item, File) and item.path not in kept]
    for item in removed:
        (ROOT / item.path).unlink(missing_ok=True)
    for item in written:
        path = ROOT / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A reader sees the old content or the new one, never half of it.
        fresh = path.with_name(f".{path.name}")
        fresh.write_text(item.content)
        os.replace(fresh, path)  # noqa: PTH105
    return frozenset(f"{(ROOT / item.path).parent}/" for item in (*written, *removed))


def observe() -> Iterator[File]:
    for path in sorted(ROOT.rglob("*")) if ROOT.is_dir() else ():
        if path.is_file():
            yield File(str(path.relative_to(ROOT)), path.read_text())
