"""Labs of the tests: each with a run directory and a name of its own, and gone when the test ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from k8snetlab.lab import holder
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked
from k8snetlab.lab.start import start

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("K8SNETLAB_RUN_DIR", str(directory))
    return directory


def _fork(function: Callable[..., object], *args: object) -> int:
    child = os.fork()
    if child == 0:
        try:
            function(*args)
            os._exit(0)
        finally:
            os._exit(1)  # whatever was raised: this copy of the test session must not go on
    return child


@pytest.fixture
def fork() -> Callable[..., int]:
    """Call a function in a forked child, which ends with 0 or, when it raises, with 1; returns its pid."""
    return _fork


@pytest.fixture
def name() -> Iterator[str]:
    """A name that no other lab of this host has; a lab of that name is taken down."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    yield name
    with locked(name):
        found = holder.find(name)
        if found is not None:
            holder.stop(found)


@pytest.fixture
def running(name: str) -> Holder:
    """A lab without anything in it."""
    with locked(name):
        return start(name)
