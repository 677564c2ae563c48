"""The command as a user runs it, with a run directory of the test's own; its labs are gone afterwards."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]
_numbers = itertools.count(1)

# An ordinary user who may nevertheless read the checkout and the interpreter, wherever those are.
NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)  # fmt: skip


@contextmanager
def runner(run_dir: Path) -> Iterator[Run]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("K8SNETLAB_") and key != "NO_COLOR"}
    ours |= {"K8SNETLAB_RUN_DIR": str(run_dir), "TERM": "xterm"}

    def run(*words: str, stdin: str = "", prefix: tuple[str, ...] = (), **environment: str) -> Done:
        argv = [*prefix, sys.executable, "-m", "k8snetlab", *words]
        return subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=ours | environment
        )

    yield run
    if run_dir.is_dir():
        done = run("down", "--all")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """`run(word, …, stdin=…, prefix=…, **environment)` runs k8snetlab to its end."""
    with runner(tmp_path / "run") as run:
        yield run


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """As `run`, for the labs that several tests look at."""
    with runner(tmp_path_factory.mktemp("shared") / "run") as run:
        yield run


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """The prefix that makes a command an ordinary user's."""
    return NOBODY


@pytest.fixture(name="lab_name", scope="session")
def lab_name_fixture() -> Callable[[], str]:
    """Names that no other lab of this host has: the namespaces of labs are published there."""
    return lambda: f"t{os.getpid()}-cli{next(_numbers)}"
