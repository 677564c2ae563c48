"""Every scenario is a set of valid manifests, says what must hold, and teaches one thing in its README."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.load import load
from k8snetlab.oracle.explanation import explain
from k8snetlab.oracle.written import written_checks

SCENARIOS = Path(__file__).parent.parent / "scenarios"
FOLDERS = sorted(path for path in SCENARIOS.iterdir() if path.is_dir())

each_scenario = pytest.mark.parametrize("folder", [pytest.param(path, id=path.name) for path in FOLDERS])


def read(*paths: Path) -> Manifests:
    return load([str(path) for path in paths], sys.stdin.buffer)


@each_scenario
def test_its_lab_is_named_after_its_folder(folder: Path) -> None:
    names = [document.object.metadata.name for document in read(folder).documents if document.kind == "Lab"]
    assert names == [folder.name]


@each_scenario
def test_it_says_what_must_hold(folder: Path) -> None:
    kinds = [document.kind for document in read(folder / "checks.yaml").documents]
    assert kinds
    assert set(kinds) == {"Check"}


@each_scenario
def test_every_pod_finds_a_node(folder: Path) -> None:
    cluster = resolve(read(folder), Overrides(name=folder.name))
    assert cluster.pods
    assert {pod.node for pod in cluster.pods} <= {node.name for node in cluster.nodes}


@each_scenario
def test_without_our_own_kinds_it_is_for_any_cluster(folder: Path) -> None:
    """`kubectl apply` would take the other files as they are."""
    own = {"lab.yaml", "checks.yaml"}
    files = [path for path in sorted(folder.glob("*.yaml")) if path.name not in own]
    assert files
    assert not {document.kind for document in read(*files).documents} & {"Lab", "Check"}


@each_scenario
def test_its_readme_is_short_and_gives_commands_that_exist(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert 30 <= len(text.splitlines()) <= 60
    paths = re.findall(r"-f (\S+)", text)
    assert f"scenarios/{folder.name}" in paths
    for path in paths:
        assert (SCENARIOS.parent / path).exists(), path


def test_the_shop_is_written_as_people_write_them() -> None:
    manifests = read(SCENARIOS / "shop")
    kinds = [document.kind for document in manifests.documents]
    workloads = sum(kinds.count(kind) for kind in ("Deployment", "StatefulSet", "DaemonSet"))
    assert workloads == 10
    assert kinds.count("Service") == 10
    assert set(manifests.ignored) >= {"ConfigMap", "Secret", "ServiceAccount", "HorizontalPodAutoscaler"}


def test_the_pair_of_cross_node_scenarios_is_really_apart() -> None:
    for name in ("cross-node-routes", "cross-node-vxlan"):
        cluster = resolve(read(SCENARIOS / name), Overrides(name=name))
        assert len({pod.node for pod in cluster.pods}) == 2


def test_nodeport_has_its_only_endpoint_on_the_node_that_its_checks_name() -> None:
    cluster = resolve(read(SCENARIOS / "nodeport"), Overrides(name="nodeport"))
    assert [pod.node for pod in cluster.pods] == ["node1"]


@pytest.mark.parametrize("folder", [pytest.param(f, id=f.name) for f in FOLDERS if f.name.startswith("policy-")])
def test_what_policy_scenarios_claim_is_what_their_policies_say(folder: Path) -> None:
    """Each Check document against the oracle: `ok` is allowed, `timeout` is denied."""
    cluster = resolve(read(folder), Overrides(name=folder.name))
    claims = {check.name: check for check in written_checks(cluster)}
    said = {name: explain(cluster, check.flow).expected for name, check in claims.items()}
    assert said == {name: {"ok": "allowed", "timeout": "denied"}[check.expected] for name, check in claims.items()}
