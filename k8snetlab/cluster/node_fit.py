"""May this pod run on this node? The scheduler's filters that look at one node alone.

After pkg/scheduler/framework/plugins: nodename, nodeaffinity, nodeunschedulable, tainttoleration.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from k8snetlab.cluster.model import Node
from k8snetlab.manifests.api import core, scheduling

UNSCHEDULABLE = scheduling.Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")

# What the DaemonSet controller adds to each of its pods (pkg/controller/daemon/util).
DAEMON_TOLERATIONS = (
    scheduling.Toleration(key="node.kubernetes.io/not-ready", operator="Exists", effect="NoExecute"),
    scheduling.Toleration(key="node.kubernetes.io/unreachable", operator="Exists", effect="NoExecute"),
    scheduling.Toleration(key="node.kubernetes.io/disk-pressure", operator="Exists", effect="NoSchedule"),
    scheduling.Toleration(key="node.kubernetes.io/memory-pressure", operator="Exists", effect="NoSchedule"),
    scheduling.Toleration(key="node.kubernetes.io/pid-pressure", operator="Exists", effect="NoSchedule"),
    scheduling.Toleration(key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule"),
)
HOST_NETWORK_TOLERATION = scheduling.Toleration(
    key="node.kubernetes.io/network-unavailable", operator="Exists", effect="NoSchedule"
)


def misfit(spec: core.PodSpec, node: Node) -> str:
    """Why the scheduler would not put the pod on the node, in its own words; empty when it would."""
    if node.unschedulable and not _tolerated(UNSCHEDULABLE, spec.tolerations):
        return "node(s) were unschedulable"
    taint = untolerated(spec.tolerations, node, ("NoSchedule", "NoExecute"))
    if taint is not None:
        value = f": {taint.value}" if taint.value else ""
        return f"node(s) had untolerated taint {{{taint.key}{value}}}"
    if not selects(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def daemon_fits(spec: core.PodSpec, node: Node) -> bool:
    """Whether a DaemonSet has a pod on the node: its pods tolerate what the controller adds."""
    tolerations = spec.tolerations + DAEMON_TOLERATIONS
    if spec.host_network:
        tolerations += (HOST_NETWORK_TOLERATION,)
    if spec.node_name and spec.node_name != node.name:
        return False
    return untolerated(tolerations, node, ("NoSchedule", "NoExecute")) is None and selects(spec, node)


def evicted(spec: core.PodSpec, node: Node) -> bool:
    """Whether a running pod must leave: only NoExecute does that, everything else matters when scheduling only."""
    return untolerated(spec.tolerations, node, ("NoExecute",)) is not None


def untolerated(
    tolerations: Sequence[scheduling.Toleration], node: Node, effects: Iterable[str]
) -> scheduling.Taint | None:
    return next(
        (taint for taint in node.taints if taint.effect in effects and not _tolerated(taint, tolerations)), None
    )


def _tolerated(taint: scheduling.Taint, tolerations: Sequence[scheduling.Toleration]) -> bool:
    """core/v1 Toleration.ToleratesTaint: an empty effect and, with Exists, an empty key match all."""
    for toleration in tolerations:
        if toleration.effect and toleration.effect != taint.effect:
            continue
        if toleration.key and toleration.key != taint.key:
            continue
        if toleration.operator == "Exists" or (toleration.key and toleration.value == taint.value):
            return True
    return False


def selects(spec: core.PodSpec, node: Node) -> bool:
    """nodeSelector and required node affinity, both of which must hold."""
    if any(node.labels.get(key) != value for key, value in spec.node_selector.items()):
        return False
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    return required is None or any(term_matches(term, node) for term in required.node_selector_terms)


def preference(spec: core.PodSpec, node: Node) -> int:
    """The sum of the weights of the preferred node affinity terms that match, less one for a PreferNoSchedule taint."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    preferred = affinity.preferred_during_scheduling_ignored_during_execution if affinity else ()
    score = sum(term.weight for term in preferred if term_matches(term.preference, node))
    return score - (untolerated(spec.tolerations, node, ("PreferNoSchedule",)) is not None)


def term_matches(term: scheduling.NodeSelectorTerm, node: Node) -> bool:
    """All expressions and fields of the term; a term without any matches no node."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node.name}
    return all(
        _requirement_holds(requirement, node.labels.get(requirement.key)) for requirement in term.match_expressions
    ) and all(_requirement_holds(requirement, fields.get(requirement.key)) for requirement in term.match_fields)


def _requirement_holds(requirement: scheduling.NodeSelectorRequirement, value: str | None) -> bool:
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            # Both sides must be integers, else the requirement does not hold (apimachinery labels.Requirement).
            numbers = [_integer(value), _integer(requirement.values[0] if len(requirement.values) == 1 else None)]
            if numbers[0] is None or numbers[1] is None:
                return False
            return numbers[0] > numbers[1] if requirement.operator == "Gt" else numbers[0] < numbers[1]


def _integer(text: str | None) -> int | None:
    if text is None or not text.lstrip("+-").isdecimal():
        return None
    return int(text)
