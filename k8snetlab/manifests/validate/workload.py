"""What makes pods: a selector that matches the template's labels, and sane numbers (apps and batch validation)."""

from __future__ import annotations

import re

from k8snetlab.manifests.api.apps import CronJob, DaemonSet, Deployment, Job, ReplicaSet, StatefulSet
from k8snetlab.manifests.api.core import PodTemplateSpec
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.decode import Path, shown
from k8snetlab.manifests.selectors import matches
from k8snetlab.manifests.validate.messages import Wrongs, check, invalid, required, unsupported
from k8snetlab.manifests.validate.metadata import check_labels_and_annotations, check_selector
from k8snetlab.manifests.validate.names import dns_1035_label
from k8snetlab.manifests.validate.pod import check_pod_spec

_SPEC: Path = ("spec",)
_TEMPLATE: Path = ("spec", "template")
_CRON_WORD = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every \S+)")
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,\-?]+")


def check_deployment(deployment: Deployment) -> Wrongs:
    """Deployment."""
    yield from _check_not_negative(deployment.spec.replicas, (*_SPEC, "replicas"))
    yield from _check_selected_template(deployment.spec.selector, deployment.spec.template, "deployment")


def check_replica_set(replica_set: ReplicaSet) -> Wrongs:
    """ReplicaSet."""
    yield from _check_not_negative(replica_set.spec.replicas, (*_SPEC, "replicas"))
    yield from _check_selected_template(replica_set.spec.selector, replica_set.spec.template, "replicaset")


def check_stateful_set(stateful_set: StatefulSet) -> Wrongs:
    """StatefulSet."""
    spec = stateful_set.spec
    yield from _check_not_negative(spec.replicas, (*_SPEC, "replicas"))
    yield from _check_not_negative(spec.ordinals.start, (*_SPEC, "ordinals", "start"))
    if spec.service_name:
        yield from check((*_SPEC, "serviceName"), spec.service_name, dns_1035_label(spec.service_name))
    yield from _check_selected_template(spec.selector, spec.template, "statefulset")


def check_daemon_set(daemon_set: DaemonSet) -> Wrongs:
    """DaemonSet."""
    yield from _check_selected_template(daemon_set.spec.selector, daemon_set.spec.template, "daemonset")


def check_job(job: Job) -> Wrongs:
    """Job: its selector is made by the controller."""
    spec = job.spec
    yield from _check_not_negative(spec.parallelism, (*_SPEC, "parallelism"))
    if spec.completions is not None:
        yield from _check_not_negative(spec.completions, (*_SPEC, "completions"))
    if spec.completion_mode not in ("NonIndexed", "Indexed"):
        yield unsupported((*_SPEC, "completionMode"), spec.completion_mode, ("Indexed", "NonIndexed"))
    elif spec.completion_mode == "Indexed" and spec.completions is None:
        yield required((*_SPEC, "completions"), "when completion mode is Indexed")
    restart = spec.template.spec.restart_policy
    path = (*_TEMPLATE, "spec", "restartPolicy")
    if restart is None:
        yield required(path, 'valid values: "OnFailure", "Never"')
    elif restart == "Always":
        yield unsupported(path, restart, ("OnFailure", "Never"))
    yield from _check_template(spec.template)


def check_cron_job(cron_job: CronJob) -> Wrongs:
    """CronJob: that its schedule is one."""
    schedule = cron_job.spec.schedule
    path = (*_SPEC, "schedule")
    if not schedule:
        yield required(path)
        return
    fields = schedule.split()
    if fields and fields[0].startswith(("TZ=", "CRON_TZ=")):
        yield invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    elif schedule.startswith("@"):
        if not _CRON_WORD.fullmatch(schedule):
            yield invalid(path, schedule, f"unrecognized descriptor: {shown(schedule)}")
    elif len(fields) != 5:
        yield invalid(path, schedule, f"expected exactly 5 fields, found {len(fields)}: {fields}")
    elif not all(map(_CRON_FIELD.fullmatch, fields)):
        yield invalid(path, schedule, "failed to parse")


def _check_not_negative(number: int, at: Path) -> Wrongs:
    if number < 0:
        yield invalid(at, number, "must be greater than or equal to 0")


def _check_selected_template(selector: LabelSelector, template: PodTemplateSpec, kind: str) -> Wrongs:
    """A controller that does not select the pods it makes would make them for ever."""
    if selector == LabelSelector():
        yield invalid((*_SPEC, "selector"), {}, f"empty selector is invalid for {kind}")
    else:
        yield from check_selector(selector, (*_SPEC, "selector"))
        if not matches(selector, template.metadata.labels):
            labels = ", ".join(f"{key}={value}" for key, value in template.metadata.labels.items())
            detail = "`selector` does not match template `labels`"
            yield invalid((*_TEMPLATE, "metadata", "labels"), labels, detail)
    if template.spec.restart_policy not in (None, "Always"):
        yield unsupported((*_TEMPLATE, "spec", "restartPolicy"), template.spec.restart_policy, ("Always",))
    yield from _check_template(template)


def _check_template(template: PodTemplateSpec) -> Wrongs:
    yield from check_labels_and_annotations(template.metadata, (*_TEMPLATE, "metadata"))
    yield from check_pod_spec(template.spec, (*_TEMPLATE, "spec"))
