"""What a pod says about where it may run: node selector, affinity, tolerations, spreading (core validation)."""

from __future__ import annotations

from k8snetlab.manifests.api.core import PodSpec
from k8snetlab.manifests.api.scheduling import (
    Affinity,
    NodeAffinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PodAffinityTerm,
    Taint,
    Toleration,
)
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.messages import Wrongs, check, duplicate, invalid, required, unsupported
from k8snetlab.manifests.validate.metadata import check_labels, check_selector, check_values
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain, label_value, qualified_name

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def check_placement(spec: PodSpec, at: Path) -> Wrongs:
    """Everything the scheduler reads."""
    yield from check_labels(spec.node_selector, (*at, "nodeSelector"))
    if spec.affinity:
        yield from _check_affinity(spec.affinity, (*at, "affinity"))
    for index, toleration in enumerate(spec.tolerations):
        yield from _check_toleration(toleration, (*at, "tolerations", index))
    for index, constraint in enumerate(spec.topology_spread_constraints):
        path = (*at, "topologySpreadConstraints", index)
        if constraint.max_skew <= 0:
            yield invalid((*path, "maxSkew"), constraint.max_skew, "must be greater than zero")
        yield from _check_topology_key(constraint.topology_key, (*path, "topologyKey"))
        yield from check_selector(constraint.label_selector, (*path, "labelSelector"))


def check_taints(taints: tuple[Taint, ...], at: Path) -> Wrongs:
    """Taints of a node: no key twice with one effect."""
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        yield from check((*at, index, "key"), taint.key, qualified_name(taint.key))
        yield from check((*at, index, "value"), taint.value, label_value(taint.value))
        if (taint.key, taint.effect) in seen:
            yield duplicate((*at, index), f"{taint.key}:{taint.effect}")
        seen.add((taint.key, taint.effect))


def _check_toleration(toleration: Toleration, at: Path) -> Wrongs:
    if toleration.key:
        yield from check((*at, "key"), toleration.key, qualified_name(toleration.key))
    elif toleration.operator != "Exists":
        detail = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid((*at, "operator"), toleration.operator, detail)
    if toleration.operator == "Exists" and toleration.value:
        yield invalid((*at, "value"), toleration.value, "value must be empty when `operator` is 'Exists'")
    yield from check((*at, "value"), toleration.value, label_value(toleration.value))
    if toleration.effect and toleration.effect not in _EFFECTS:
        yield unsupported((*at, "effect"), toleration.effect, _EFFECTS)


def _check_affinity(affinity: Affinity, at: Path) -> Wrongs:
    if affinity.node_affinity:
        yield from _check_node_affinity(affinity.node_affinity, (*at, "nodeAffinity"))
    if affinity.pod_affinity:
        yield from _check_pod_affinity(affinity.pod_affinity, (*at, "podAffinity"))
    if affinity.pod_anti_affinity:
        yield from _check_pod_affinity(affinity.pod_anti_affinity, (*at, "podAntiAffinity"))


# --- Nodes ------------------------------------------------------------------------------------------------------------


def _check_node_affinity(affinity: NodeAffinity, at: Path) -> Wrongs:
    needed = affinity.required_during_scheduling_ignored_during_execution
    if needed is not None:
        path = (*at, _REQUIRED, "nodeSelectorTerms")
        if not needed.node_selector_terms:
            yield required(path, "must have at least one node selector term")
        for index, term in enumerate(needed.node_selector_terms):
            yield from _check_term(term, (*path, index))
    for index, preferred in enumerate(affinity.preferred_during_scheduling_ignored_during_execution):
        path = (*at, _PREFERRED, index)
        yield from _check_weight(preferred.weight, (*path, "weight"))
        yield from _check_term(preferred.preference, (*path, "preference"))


def _check_weight(weight: int, at: Path) -> Wrongs:
    if not 1 <= weight <= 100:
        yield invalid(at, weight, "must be in the range 1-100")


def _check_term(term: NodeSelectorTerm, at: Path) -> Wrongs:
    for index, expression in enumerate(term.match_expressions):
        path = (*at, "matchExpressions", index)
        yield from check((*path, "key"), expression.key, qualified_name(expression.key))
        yield from check_values(expression.operator, expression.values, (*path, "values"))
        yield from _check_comparison(expression, (*path, "values"))
    for index, field in enumerate(term.match_fields):
        yield from _check_match_field(field, (*at, "matchFields", index))


def _check_comparison(expression: NodeSelectorRequirement, at: Path) -> Wrongs:
    if expression.operator not in ("Gt", "Lt"):
        return
    if len(expression.values) != 1:
        yield required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'")
    elif not expression.values[0].removeprefix("-").isdecimal():
        # The scheduler parses both sides as integers; with anything else the term never matches.
        yield invalid((*at, 0), expression.values[0], "must be an integer when `operator` is 'Lt' or 'Gt'")


def _check_match_field(field: NodeSelectorRequirement, at: Path) -> Wrongs:
    if field.key != "metadata.name":
        yield unsupported((*at, "key"), field.key, ("metadata.name",))
    if field.operator not in ("In", "NotIn"):
        yield unsupported((*at, "operator"), field.operator, ("In", "NotIn"))
    elif len(field.values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield required((*at, "values"), detail)
    for index, name in enumerate(field.values):
        yield from check((*at, "values", index), name, dns_subdomain(name))


# --- Pods -------------------------------------------------------------------------------------------------------------


def _check_pod_affinity(affinity: PodAffinity, at: Path) -> Wrongs:
    for index, term in enumerate(affinity.required_during_scheduling_ignored_during_execution):
        yield from _check_pod_term(term, (*at, _REQUIRED, index))
    for index, preferred in enumerate(affinity.preferred_during_scheduling_ignored_during_execution):
        path = (*at, _PREFERRED, index)
        yield from _check_weight(preferred.weight, (*path, "weight"))
        yield from _check_pod_term(preferred.pod_affinity_term, (*path, "podAffinityTerm"))


def _check_pod_term(term: PodAffinityTerm, at: Path) -> Wrongs:
    yield from _check_topology_key(term.topology_key, (*at, "topologyKey"))
    yield from check_selector(term.label_selector, (*at, "labelSelector"))
    yield from check_selector(term.namespace_selector, (*at, "namespaceSelector"))
    for index, name in enumerate(term.namespaces):
        yield from check((*at, "namespaces", index), name, dns_label(name))


def _check_topology_key(key: str, at: Path) -> Wrongs:
    if not key:
        yield required(at, "can not be empty")
    else:
        yield from check(at, key, qualified_name(key))
