"""Where a pod may run: taints, tolerations, selectors, affinity and spread; parts of Node and PodSpec (core/v1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    IGNORED: ClassVar = ("timeAdded",)

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """An empty key with operator Exists tolerates every taint; an empty effect matches all effects."""

    IGNORED: ClassVar = ("tolerationSeconds",)

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelectorRequirement:
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelectorTerm:
    """`match_expressions` and `match_fields` (only `metadata.name`) are ANDed; an empty term matches no node."""

    match_expressions: tuple[NodeSelectorRequirement, ...] = ()
    match_fields: tuple[NodeSelectorRequirement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSelector:
    """The terms are ORed."""

    node_selector_terms: tuple[NodeSelectorTerm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferredSchedulingTerm:
    weight: int
    preference: NodeSelectorTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAffinity:
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: tuple[PreferredSchedulingTerm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAffinityTerm:
    IGNORED: ClassVar = ("matchLabelKeys", "mismatchLabelKeys")

    label_selector: LabelSelector | None = None
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None
    topology_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedPodAffinityTerm:
    weight: int
    pod_affinity_term: PodAffinityTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAffinity:
    """Serves `podAffinity` and `podAntiAffinity` alike."""

    required_during_scheduling_ignored_during_execution: tuple[PodAffinityTerm, ...] = ()
    preferred_during_scheduling_ignored_during_execution: tuple[WeightedPodAffinityTerm, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySpreadConstraint:
    IGNORED: ClassVar = ("minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy", "matchLabelKeys")

    max_skew: int
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    label_selector: LabelSelector | None = None
