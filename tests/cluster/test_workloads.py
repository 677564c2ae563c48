from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.podnames import ALPHABET

Build = Callable[..., Cluster]
Yaml = Callable[..., str]


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        pytest.param("Deployment", rf"web-[{ALPHABET}]{{10}}-[{ALPHABET}]{{5}}", id="deployment"),
        pytest.param("ReplicaSet", rf"web-[{ALPHABET}]{{5}}", id="replicaset"),
        pytest.param("StatefulSet", r"web-[01]", id="statefulset"),
        pytest.param("DaemonSet", rf"web-[{ALPHABET}]{{5}}", id="daemonset"),
    ],
)
def test_names(build: Build, workload: Yaml, kind: str, pattern: str) -> None:
    names = [pod.name for pod in build(workload("web", 2, kind=kind), nodes=2).pods]
    assert len(set(names)) == 2
    assert all(re.fullmatch(pattern, name) for name in names)


@pytest.mark.parametrize(
    ("extra", "count"),
    [
        pytest.param("", 1, id="default"),
        pytest.param("parallelism: 3, ", 3, id="parallel"),
        pytest.param("parallelism: 3, completions: 2, ", 2, id="fewer-completions"),
        pytest.param("parallelism: 3, suspend: true, ", 0, id="suspended"),
    ],
)
def test_jobs(build: Build, workload: Yaml, extra: str, count: int) -> None:
    cluster = build(workload("job", kind="Job", extra=extra, spec="restartPolicy: Never, "))
    assert [pod.labels["batch.kubernetes.io/job-name"] for pod in cluster.pods] == ["job"] * count


def test_an_indexed_job_has_its_index_in_name_hostname_and_label(build: Build, workload: Yaml) -> None:
    extra = "parallelism: 2, completions: 2, completionMode: Indexed, "
    pods = build(workload("job", kind="Job", extra=extra, spec="restartPolicy: Never, ")).pods
    assert [pod.name[:6] for pod in pods] == ["job-0-", "job-1-"]
    assert [pod.hostname for pod in pods] == ["job-0", "job-1"]
    assert pods[1].labels["batch.kubernetes.io/job-completion-index"] == "1"


def test_a_stateful_sets_pods(build: Build, workload: Yaml) -> None:
    text = workload("db", 2, kind="StatefulSet", extra="serviceName: peers, ordinals: {start: 5}, ")
    pods = build(text).pods
    assert [pod.name for pod in pods] == ["db-5", "db-6"]
    assert (pods[0].hostname, pods[0].spec.subdomain) == ("db-5", "peers")
    assert pods[0].labels["statefulset.kubernetes.io/pod-name"] == "db-5"
    assert pods[0].labels["apps.kubernetes.io/pod-index"] == "5"


def test_a_deployments_replica_set_is_an_object(build: Build, workload: Yaml) -> None:
    cluster = build(workload("web", 2))
    kinds = {each.kind: each for each in cluster.workloads}
    assert kinds["Deployment"].replicas == kinds["ReplicaSet"].replicas == 2
    hashes = {pod.labels["pod-template-hash"] for pod in cluster.pods}
    assert hashes == {kinds["ReplicaSet"].name.removeprefix("web-")}
    assert {pod.owner for pod in cluster.pods} == {f"ReplicaSet/{kinds['ReplicaSet'].name}"}


def test_scaling_keeps_pods_and_another_template_replaces_them(build: Build, workload: Yaml) -> None:
    two = build(workload("web", 2))
    three = build(workload("web", 3), previous=two)
    assert [three.pod(pod.key) for pod in two.pods] == list(two.pods)
    assert len(three.pods) == 3
    rolled = build(workload("web", 3, container=", ports: [{containerPort: 1}]"), previous=three)
    assert not {pod.name for pod in three.pods} & {pod.name for pod in rolled.pods}


def test_the_order_in_which_labels_are_written_is_no_change(build: Build) -> None:
    text = """
        apiVersion: apps/v1
        kind: Deployment
        metadata: {name: web}
        spec:
          selector: {matchLabels: {a: x}}
          template: {metadata: {labels: {LABELS}}, spec: {containers: [{name: c, image: x}]}}
    """
    names = [build(text.replace("LABELS", labels)).pods[0].name for labels in ("a: x, b: y", "b: y, a: x")]
    assert names[0] == names[1]


def test_long_names_are_cut_as_generated_names_are(build: Build, workload: Yaml) -> None:
    name = "n" * 63
    pod = build(workload(name)).pods[0]
    assert len(pod.name) == 63
    assert pod.name.startswith("n" * 58)


def test_many_pods_of_one_owner_never_share_a_name(build: Build, workload: Yaml) -> None:
    name = "n" * 63  # cut to 58: only the five characters differ, also between the two namespaces' owners
    pods = build(workload(name, 700) + workload(name + "a", 700).replace(name + "a}", "b}"), nodes=6).pods
    assert len({pod.key for pod in pods}) == 1400


def test_two_pods_of_one_name_are_refused(problems: Callable[..., list[str]], workload: Yaml) -> None:
    pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: db-0}\nspec: {containers: [{name: c, image: x}]}\n"
    assert any("its pod db-0 already exists" in found for found in problems(pod + workload("db", kind="StatefulSet")))


def test_a_cron_job_is_listed_and_not_run(build: Build) -> None:
    cluster = build("""
        apiVersion: batch/v1
        kind: CronJob
        metadata: {name: nightly}
        spec:
          schedule: "0 3 * * *"
          jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}}}
    """)
    assert cluster.pods == ()
    assert [each.kind for each in cluster.workloads] == ["CronJob"]


def test_a_job_may_leave_its_name_to_the_lab(build: Build, workload: Yaml) -> None:
    text = workload("NAME", kind="Job", spec="restartPolicy: Never, ").replace("name: NAME", "generateName: migrate-")
    cluster = build(text + text)
    names = [each.name for each in cluster.workloads]
    assert len(set(names)) == 2
    assert all(re.fullmatch(rf"migrate-[{ALPHABET}]{{5}}", name) for name in names)
    assert {pod.owner for pod in cluster.pods} == {f"Job/{name}" for name in names}
