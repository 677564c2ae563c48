"""`explain`, and what `probe`, `up` and `plan` say of policies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCENARIO = str(Path(__file__).parents[2] / "scenarios" / "policy-and-or")
POLICIES = f"{SCENARIO}/policies.yaml"


def test_files_alone_need_neither_root_nor_lab(run: Any, nobody: tuple[str, ...]) -> None:
    done = run("explain", "ops/shell", "shop/db", "--port", "5432", "-f", SCENARIO, prefix=nobody)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (
        f"policies: denied: NetworkPolicy shop/both ({POLICIES}:2) isolates shop/db for ingress "
        "and nothing allows TCP 5432 from ops/shell"
    )


def test_json_of_files(run: Any) -> None:
    done = run("explain", "ops/shell", "shop/db-or", "--port", "5432", "-f", SCENARIO, "-o", "json")
    told = json.loads(done.stdout)
    assert (told["expected"], told["observed"], told["agrees"]) == ("allowed", None, None)
    assert told["reason"] == f"allowed by NetworkPolicy shop/either ingress[0] ({POLICIES}:19)"


def test_a_target_that_is_not_there(run: Any) -> None:
    done = run("explain", "ops/shell", "shop/db-orr", "--port", "5432", "-f", SCENARIO)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean shop/db" in done.stderr


def test_without_files_a_lab_must_run(run: Any) -> None:
    done = run("explain", "ops/shell", "shop/db", "--port", "5432", K8SNETLAB_LAB="none-such")
    assert done.returncode == 2
    assert "does not run" in done.stderr


def test_it_talks_to_no_kernel() -> None:
    words = ["explain", "ops/shell", "shop/db", "--port", "5432", "-f", SCENARIO]
    show = f"import sys; sys.argv[1:] = {words}\nfrom k8snetlab.cli.main import main\n"
    show += "try: main()\nfinally: print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split("\n")) & {"pyroute2", "iptc", "rich", "asyncio", "logging", "unittest"}


def test_plan_lints(run: Any) -> None:
    done = run("plan", "-f", SCENARIO)
    assert done.returncode == 0
    assert f"without the second dash ({POLICIES}:" in done.stderr


@pytest.fixture(name="lab", scope="module")
def lab_fixture(shared_run: Any, lab_name: Callable[[], str]) -> Iterator[Callable[..., Any]]:
    name = lab_name()
    done = shared_run("up", "-f", SCENARIO, "--lab", name)
    assert done.returncode == 0, done.stderr
    yield lambda *words: shared_run(*words, "--lab", name)
    shared_run("down", name)


@pytest.mark.root
def test_beside_the_packet(lab: Any) -> None:
    """Whatever the engine does: what was observed is what is held against the policies, and decides the exit code."""
    done = lab("explain", "ops/shell", "shop/db", "--port", "5432", "-o", "json")
    told = json.loads(done.stdout)
    assert told["expected"] == "denied"
    assert told["observed"] in ("ok", "timeout")
    assert told["agrees"] is (told["observed"] == "timeout")
    assert done.returncode == (0 if told["agrees"] else 1)


@pytest.mark.root
def test_an_allowed_packet(lab: Any) -> None:
    done = lab("explain", "ops/backup", "shop/db", "--port", "5432")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["packet:   ok by shop/db", "          as the policies say"]


@pytest.mark.root
def test_probe_names_the_policy(lab: Any) -> None:
    denied = json.loads(lab("probe", "ops/shell", "shop/db", "--port", "5432", "-o", "json").stdout)
    assert f"NetworkPolicy shop/both ({POLICIES}:2) isolates shop/db" in denied["results"][0]["reason"]
    allowed = json.loads(lab("probe", "ops/backup", "shop/db", "--port", "5432", "-o", "json").stdout)
    assert allowed["results"][0]["reason"] == f"allowed by NetworkPolicy shop/both ingress[0] ({POLICIES}:8)"
