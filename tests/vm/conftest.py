"""What the tests under the guest's kernel share: the commands that a user types.

Everything in the guest dies with it, so nothing here needs to take care of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

SECONDS = 120  # the guest starts programs some ten times slower than the host


@pytest.fixture(autouse=True, scope="session")
def _in_the_guest() -> None:
    if not os.environ.get("K8SNETLAB_VM"):
        pytest.fail("these tests run under another kernel: make vm-test", pytrace=False)


@pytest.fixture(scope="session", name="run")
def run_fixture() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run(command, …)` is one command of k8snetlab, in a process of its own."""

    def run(command: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "k8snetlab", command, *words]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=SECONDS)

    return run


@pytest.fixture(scope="session", name="probe")
def probe_fixture(run: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., list[dict[str, Any]]]:
    """`probe(FROM, TO, port, …)`: the results, one a try."""

    def probe(
        sender: str, target: str, port: int = 0, *, protocol: str = "TCP", count: int = 1
    ) -> list[dict[str, Any]]:
        words = ["--port", str(port)] if port else []
        done = run("probe", sender, target, *words, "--protocol", protocol, "--count", str(count), "-o", "json")
        assert done.stdout, done.stderr
        results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
        assert len(results) == count
        return results

    return probe
