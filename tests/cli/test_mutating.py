"""Mutants tried on a running lab, and what its rules have counted."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from k8snetlab.cli.mutating import by_checks, by_matrix, planner, try_mutants
from k8snetlab.cli.sweeping import Matrix
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.errors import CheckError
from k8snetlab.flows.trial import Trial
from k8snetlab.lab import life
from k8snetlab.lab.life import OwnedLab
from k8snetlab.lab.store import Record, is_clean
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.matrix import question
from k8snetlab.plan.build import build

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: api, labels: {app: api}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: spy, labels: {app: spy}}
spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 5432}]
"""
ALLOWED = """
---
apiVersion: k8snetlab.dev/v1
kind: Check
metadata: {name: api-reaches-db}
spec: {from: api, to: db, port: 5432, protocol: TCP, expect: ok}
"""
DENIED = """
---
apiVersion: k8snetlab.dev/v1
kind: Check
metadata: {name: spy-does-not}
spec: {from: spy, to: db, port: 5432, protocol: TCP, expect: timeout}
"""


@contextmanager
def running(name: str, text: str) -> Iterator[tuple[OwnedLab, Record]]:
    manifests = load_text(text.encode(), "t.yaml")
    cluster = resolve(manifests, Overrides())
    record = Record(manifests=manifests, cluster=cluster, plan=build(cluster))
    try:
        with life.locked(name) as lab:
            life.up(lab, record)
            yield lab, record
    finally:
        life.down(name)


@pytest.fixture
def name(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, lab_name: Callable[[], str]) -> str:
    monkeypatch.setenv("K8SNETLAB_RUN_DIR", str(tmp_path / "run"))
    return lab_name()


def rules(name: str) -> list[str]:
    """Every rule and set of a node, whatever order the kernel lists its chains in, without counters and hash seeds."""
    argv = ["ip", "netns", "exec", f"{name}.node2", "sh", "-c", "iptables -S; ipset save; nft list ruleset"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sorted(re.sub(r"packets \d+ bytes \d+|initval \S+", "", listed).splitlines())


def fates(trials: list[Trial]) -> dict[str, str]:
    return {f"{trial.part}: {trial.change}": trial.fate for trial in trials}


@pytest.mark.parametrize("engine", ["iptables", "nftables"])
def test_checks_and_what_they_do_not_notice(name: str, engine: str) -> None:
    manifests = MANIFESTS.replace("nodes: 2", f"nodes: 2, policyEngine: {engine}")
    with running(name, manifests + ALLOWED) as (lab, record):
        before = rules(name)
        test = by_checks(lab, record.cluster, 1.0)
        assert test is not None
        trials = list(try_mutants(lab, record, planner(record), test))
        assert rules(name) == before
        assert lab.holder is not None
        assert is_clean(lab.holder.state)
        assert not life.status(lab.holder)
    assert fates(trials) == {
        "spec: policy dropped": "survived",
        "spec.podSelector: selects every pod of the namespace": "survived",
        "spec.ingress[0]: rule dropped": "killed",
        "spec.ingress[0].from: removed: anybody": "survived",
        "spec.ingress[0].from[0].podSelector: matches every pod": "survived",
        "spec.ingress[0].ports: removed: any port": "survived",
        "spec.ingress[0].ports[0]: TCP changed to UDP": "killed",
        "spec.ingress[0].ports[0]: port changed to 5433": "killed",
    }
    told = {trial.change: (trial.by, trial.witness) for trial in trials}
    assert told["rule dropped"] == ("check api-reaches-db", "")
    assert told["policy dropped"] == ("", "pod/default/spy -> pod/default/db TCP 5432: now allowed")
    assert str(trials[0].source) == "t.yaml:21"


def test_a_second_check_notices_more(name: str) -> None:
    with running(name, MANIFESTS + ALLOWED + DENIED) as (lab, record):
        test = by_checks(lab, record.cluster, 0.3)
        assert test is not None
        found = fates(list(try_mutants(lab, record, planner(record), test)))
    assert [key for key, fate in found.items() if fate == "survived"] == [
        "spec.podSelector: selects every pod of the namespace",
        "spec.ingress[0].ports: removed: any port",
    ]


def test_by_the_matrix(name: str) -> None:
    with running(name, MANIFESTS) as (lab, record):
        asked = question(record.cluster, 0, "TCP", "pod", "", None)
        test = by_matrix(Matrix(lab, record, asked, 1.0))
        assert test is not None
        trials = list(try_mutants(lab, record, planner(record), test))
    found = fates(trials)
    assert [key for key, fate in found.items() if fate != "killed"] == ["spec.ingress[0].ports: removed: any port"]
    assert {trial.by for trial in trials} <= {"default/api -> default/db", "default/spy -> default/db",
                                              "default/api -> default/spy", ""}  # fmt: skip


def test_the_lab_comes_back_when_the_iteration_is_broken_off(name: str) -> None:
    with running(name, MANIFESTS) as (lab, record):
        before = rules(name)

        def interrupted() -> Any:
            assert rules(name) != before
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(try_mutants(lab, record, planner(record), interrupted))
        assert rules(name) == before
        assert lab.holder is not None
        assert is_clean(lab.holder.state)


def test_what_fails_already_is_said(name: str) -> None:
    with running(name, MANIFESTS + DENIED.replace("expect: timeout", "expect: ok")) as (lab, record):
        with pytest.raises(CheckError, match="fail already: spy-does-not"):
            by_checks(lab, record.cluster, 0.3)
        cluster = replace(record.cluster, network_policies=())
        bare = replace(record, plan=build(cluster))
        life.change(lab, bare)
        asked = question(record.cluster, 0, "TCP", "pod", "", None)
        with pytest.raises(CheckError, match="1 pairs are not as expected already"):
            by_matrix(Matrix(lab, bare, asked, 1.0))


def test_exit_codes(run: Any, lab_name: Callable[[], str]) -> None:
    name = lab_name()
    assert run("mutate", "--lab", name).returncode == 2
    assert run("up", "--lab", name, "-f", "-", stdin=MANIFESTS).returncode == 0
    done = run("mutate", "--lab", name)
    assert (done.returncode, done.stderr.splitlines()[0]) == (4, "no Check documents: write some, or --matrix")
    assert run("delete", "--lab", name, "networkpolicy", "db").returncode == 0
    done = run("mutate", "--lab", name, "--matrix")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (4, "no policy to change")


@pytest.mark.parametrize("config", ["policyEngine: nftables", "iptablesBackend: legacy"])
def test_coverage_counts_rules_by_their_names(run: Any, lab_name: Callable[[], str], config: str) -> None:
    name = lab_name()
    manifests = MANIFESTS.replace("nodes: 2", f"nodes: 2, {config}")
    assert run("up", "--lab", name, "-f", "-", stdin=manifests).returncode == 0
    hit = run("coverage", "--lab", name, "--run", "matrix", "--fail-under", "100", "-o", "json")
    assert hit.returncode == 0, hit.stderr
    assert json.loads(hit.stdout)["rules"] == [
        {"policy": "NetworkPolicy default/db", "rule": "ingress[0]", "source": "-:27", "hits": 1}
    ]


def test_coverage_grows(run: Any, lab_name: Callable[[], str]) -> None:
    name = lab_name()
    assert run("up", "--lab", name, "-f", "-", stdin=MANIFESTS).returncode == 0
    never = run("coverage", "--lab", name)
    assert (never.returncode, never.stderr.splitlines()[-1]) == (0, "0 of 1 rules hit (0 %)")
    assert run("coverage", "--lab", name, "--fail-under", "50").returncode == 1
    assert run("probe", "--lab", name, "api", "db", "--port", "5432").returncode == 0
    total = json.loads(run("coverage", "--lab", name, "-o", "json").stdout)
    assert (total["rules"][0]["hits"], total["covered"], total["total"]) == (1, 1, 1)


def test_coverage_of_files(run: Any, tmp_path: Any) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(MANIFESTS.replace("app: api}}}]", "app: nobody}}}]"))
    done = run("coverage", "-f", str(file), "--fail-under", "1")
    assert done.returncode == 1
    assert "NEVER HIT" in done.stdout
    assert f"spec.ingress[0].from[0]   {file}:27" in done.stdout
    assert run("list", "-o", "name").stdout == ""
    assert run("coverage", "-f", str(file), "--lab", "x").returncode == 2


def test_without_an_engine_nothing_is_covered(run: Any, lab_name: Callable[[], str]) -> None:
    name = lab_name()
    run("up", "--lab", name, "-f", "-", stdin=MANIFESTS.replace("nodes: 2", "nodes: 2, policyEngine: none"))
    done = run("coverage", "--lab", name)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "0 of 1 rules hit (0 %); 1 NOT enforced"
    assert run("mutate", "--lab", name, "--matrix").returncode == 1
