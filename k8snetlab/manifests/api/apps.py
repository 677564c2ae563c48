"""The workload kinds of apps/v1 and batch/v1: what the lab turns into pods."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.core import PodTemplateSpec
from k8snetlab.manifests.api.meta import LabelSelector, ObjectMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    IGNORED: ClassVar = ("minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy")

    replicas: int = field(default=1, metadata={"always": True})
    selector: LabelSelector
    template: PodTemplateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: DeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSetSpec:
    IGNORED: ClassVar = ("minReadySeconds",)

    replicas: int = field(default=1, metadata={"always": True})
    selector: LabelSelector
    template: PodTemplateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSet:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: ReplicaSetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StatefulSetOrdinals:
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatefulSetSpec:
    IGNORED: ClassVar = (
        "minReadySeconds", "persistentVolumeClaimRetentionPolicy", "podManagementPolicy", "revisionHistoryLimit",
        "updateStrategy", "volumeClaimTemplates",
    )  # fmt: skip

    replicas: int = field(default=1, metadata={"always": True})
    service_name: str = ""
    selector: LabelSelector
    template: PodTemplateSpec
    ordinals: StatefulSetOrdinals = StatefulSetOrdinals()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatefulSet:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: StatefulSetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSetSpec:
    IGNORED: ClassVar = ("minReadySeconds", "revisionHistoryLimit", "updateStrategy")

    selector: LabelSelector
    template: PodTemplateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSet:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: DaemonSetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """`selector` is only given together with `manualSelector`; pods of a Job run `parallelism` at a time."""

    IGNORED: ClassVar = (
        "activeDeadlineSeconds", "backoffLimit", "backoffLimitPerIndex", "managedBy", "manualSelector",
        "maxFailedIndexes", "podFailurePolicy", "podReplacementPolicy", "selector", "successPolicy",
        "ttlSecondsAfterFinished",
    )  # fmt: skip

    parallelism: int = 1
    completions: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    template: PodTemplateSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CronJobSpec:
    """Understood so that it is checked for existence only: a CronJob is not run."""

    IGNORED: ClassVar = (
        "concurrencyPolicy", "failedJobsHistoryLimit", "jobTemplate", "startingDeadlineSeconds",
        "successfulJobsHistoryLimit", "suspend", "timeZone",
    )  # fmt: skip

    schedule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CronJob:
    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: CronJobSpec
