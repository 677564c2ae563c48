"""The leak check of conftest.py sees what it is there to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SNAPSHOT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("leak_check", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
before = module.host_state()
import subprocess
subprocess.run(["sh", "-euc", sys.argv[2]], check=True)
print(json.dumps(module.changes(before, module.host_state())))
"""


def changes_made_by(script: str) -> list[str]:
    """The changes seen around a shell script, in network and mount namespaces that end with it."""
    run = ["unshare", "--net", "--mount", "sh", "-euc", 'mount -t tmpfs none /run; ip link set lo up; exec "$@"', "sh"]
    conftest = str(Path(__file__).with_name("conftest.py"))
    done = subprocess.run(
        [*run, sys.executable, "-c", SNAPSHOT, conftest, script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert isinstance(seen, list)
    return seen


@pytest.mark.root
@pytest.mark.parametrize(
    ("script", "where"),
    [
        pytest.param("ip link add leak0 type bridge", "ip -j -d link", id="link"),
        pytest.param("ip addr add 192.0.2.1/32 dev lo", "ip -j addr", id="address"),
        pytest.param("ip route add blackhole 192.0.2.0/24", "ip -j route show table all", id="route"),
        pytest.param("ip rule add from 192.0.2.1 table 7", "ip -j rule", id="rule"),
        pytest.param("nft add table ip leak", "nft --stateless list ruleset", id="nft table"),
        pytest.param("iptables-nft -A INPUT -s 192.0.2.1 -j DROP", "iptables-save", id="iptables rule"),
        pytest.param("echo 1 >/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward", id="sysctl"),
        pytest.param("ip netns add leak", "/run/netns", id="named namespace"),
        pytest.param("mkdir -p /run/k8snetlab/leak", "/run/k8snetlab", id="lab directory"),
    ],
)
def test_a_leak_is_seen(script: str, where: str) -> None:
    assert where in [change.partition(":")[0] for change in changes_made_by(script)]


@pytest.mark.root
def test_what_is_put_back_is_no_leak() -> None:
    assert (
        changes_made_by("ip link add leak0 type bridge; ip link del leak0; ip netns add leak; ip netns del leak") == []
    )


def run_inner_suite(directory: Path, body: str, environment: dict[str, str]) -> str:
    """Runs a one-test suite under the project's conftest.py, as an ordinary user would see it; returns its summary."""
    (directory / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = root: needs root\n")
    (directory / "test_inner.py").write_text(f"import pytest\n\n\n@pytest.mark.root\ndef test_inner():\n    {body}\n")
    variables = {key: value for key, value in os.environ.items() if key != "CI"} | environment
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", str(directory)],
        cwd=directory, env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout


@pytest.mark.root
@pytest.mark.parametrize(
    ("environment", "expected"),
    [pytest.param({}, "1 skipped", id="by hand"), pytest.param({"CI": "true"}, "1 failed", id="in CI")],
)
def test_a_root_test_that_skips_fails_only_in_ci(tmp_path: Path, environment: dict[str, str], expected: str) -> None:
    assert expected in run_inner_suite(tmp_path, "pytest.skip('no such tool here')", environment)
