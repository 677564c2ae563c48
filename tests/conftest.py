"""What holds for every test: root tests need root, and the machine is afterwards as it was before.

`--leak-check` (always on in CI) compares the host before and after the session: network namespaces, labs, and the whole
network configuration of the host's own namespace.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Generator, Mapping
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
IS_ROOT = os.geteuid() == 0
LABS = Path("/run/k8snetlab")
NAMED_NAMESPACES = Path("/run/netns")
SYSCTLS = Path("/proc/sys/net")

# Read-only commands; those that this host lacks are left out.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ip", "-j", "-d", "link"),
    ("ip", "-j", "addr"),
    ("ip", "-j", "route", "show", "table", "all"),
    ("ip", "-j", "-6", "route", "show", "table", "all"),
    ("ip", "-j", "rule"),
    ("ip", "-j", "-6", "rule"),
    ("nft", "--stateless", "list", "ruleset"),
    ("iptables-save",),
    ("ip6tables-save",),
    ("iptables-legacy-save",),
    ("ip6tables-legacy-save",),
    ("ipset", "list", "-name"),
)
# What changes by itself: lifetimes from DHCP and router advertisements, the timers of bridges.
TIMERS = re.compile(r"^(valid_life_time|preferred_life_time|expires|.*_timer|used|age)$")
# The two lines of iptables-save with the date, and the packet counters of its built-in chains.
DATES = re.compile(r"^# (Generated|Completed).*\n", re.MULTILINE)
COUNTERS = re.compile(r"\[\d+:\d+\]")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--leak-check", action="store_true", default=IN_CI, help="compare the host before and after")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and not IS_ROOT:
        if IN_CI:
            pytest.fail("this test needs root, and CI must not leave it out", pytrace=False)
        pytest.skip("needs root: network namespaces are made")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a root test that skips hides a feature that nobody has tried."""
    report = yield
    if IN_CI and report.skipped and item.get_closest_marker("root") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"a root test must not skip in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _host_is_left_as_it_was(request: pytest.FixtureRequest) -> Generator[None]:
    if not (IS_ROOT and request.config.getoption("--leak-check")):
        yield
        return
    before = host_state()
    yield
    assert changes(before, host_state()) == []


@pytest.fixture
def host_changes() -> Callable[[], list[str]]:
    """What has changed in the host's own network namespace since the fixture was made or last called.

    Other labs may come and go meanwhile, so the names of labs and of their namespaces are left out.
    """
    seen = [host_state()]

    def since() -> list[str]:
        seen.append(host_state())
        found = changes(seen[-2], seen[-1])
        return [change for change in found if not change.startswith((f"{NAMED_NAMESPACES}:", f"{LABS}:"))]

    return since


def host_state() -> Mapping[str, str]:
    """Everything of the host that no lab may change, by a name that says where to look."""
    state = {" ".join(command): _output(command) for command in COMMANDS if shutil.which(command[0])}
    state |= {str(path): text for path in SYSCTLS.rglob("*") if (text := _sysctl(path)) is not None}
    state[str(NAMED_NAMESPACES)] = "\n".join(_entries(NAMED_NAMESPACES))
    state[str(LABS)] = "\n".join(_entries(LABS))
    return state


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs, one line each. A sysctl that is new came with a kernel module and is no change of the host's."""
    return [f"{name}: was {text!r}, is {after.get(name)!r}" for name, text in before.items() if after.get(name) != text]


def _entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


def _output(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    text = COUNTERS.sub("[0:0]", DATES.sub("", done.stdout))
    if "-j" in command and text.strip():
        text = json.dumps(_timeless(json.loads(text)), sort_keys=True)
    return f"exit code {done.returncode}\n{text}"


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if not TIMERS.match(key)}
    if isinstance(value, list):
        return [_timeless(inner) for inner in value]
    return value


def _sysctl(path: Path) -> str | None:
    """The value of a setting that can be written; None for what is no setting or cannot be read."""
    if not path.is_file() or not path.stat().st_mode & 0o200:
        return None
    try:
        return path.read_text()
    except OSError:  # write-only (route/flush), or a secret not set yet (stable_secret)
        return None
