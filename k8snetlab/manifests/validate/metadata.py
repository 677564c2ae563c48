"""Names, labels and annotations, which all kinds have, and label selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from k8snetlab.manifests.api.meta import LabelSelector, ObjectMeta
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.messages import Wrongs, check, forbidden, invalid, required
from k8snetlab.manifests.validate.names import dns_1035_label, dns_label, dns_subdomain, label_value, qualified_name

METADATA: Path = ("metadata",)
_MAX_ANNOTATIONS = 256 * 1024  # bytes, keys and values together
_MAX_CRONJOB = 52  # a Job's name adds "-" and ten digits

_NAME_RULES: Mapping[str, Callable[[str], str | None]] = {
    "Namespace": dns_label,
    "Service": dns_1035_label,
    "Lab": dns_label,
}
_GENERATED = frozenset({"Pod", "Job"})
_UNNAMED = frozenset({"Lab"})


def check_metadata(metadata: ObjectMeta, kind: str) -> Wrongs:
    """The metadata of an object that stands on its own."""
    name, rule = metadata.name, _NAME_RULES.get(kind, dns_subdomain)
    if name:
        yield from check((*METADATA, "name"), name, rule(name))
        if kind == "CronJob" and len(name) > _MAX_CRONJOB:
            yield invalid((*METADATA, "name"), name, f"must be no more than {_MAX_CRONJOB} characters")
    elif metadata.generate_name and kind in _GENERATED:
        # A generated name is the prefix and five characters.
        yield from check((*METADATA, "generateName"), metadata.generate_name, rule(metadata.generate_name + "x"))
    elif kind not in _UNNAMED:
        yield required((*METADATA, "name"), "name or generateName is required" if kind in _GENERATED else "")
    if metadata.namespace:
        yield from check((*METADATA, "namespace"), metadata.namespace, dns_label(metadata.namespace))
    yield from check_labels_and_annotations(metadata, METADATA)


def check_labels_and_annotations(metadata: ObjectMeta, at: Path) -> Wrongs:
    """Also for the metadata of a template."""
    yield from check_labels(metadata.labels, (*at, "labels"))
    for key in metadata.annotations:
        yield from check((*at, "annotations", key), key, qualified_name(key.lower()))
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.annotations.items())
    if size > _MAX_ANNOTATIONS:
        yield invalid((*at, "annotations"), size, f"may not be more than {_MAX_ANNOTATIONS} bytes")


def check_labels(labels: Mapping[str, str], at: Path) -> Wrongs:
    """Labels, and what selects by equality: keys and values."""
    for key, value in labels.items():
        yield from check((*at, key), key, qualified_name(key))
        yield from check((*at, key), value, label_value(value))


def check_selector(selector: LabelSelector | None, at: Path) -> Wrongs:
    """Keys, values and that each operator has the values it needs."""
    if selector is None:
        return
    yield from check_labels(selector.match_labels, (*at, "matchLabels"))
    for index, expression in enumerate(selector.match_expressions):
        path = (*at, "matchExpressions", index)
        yield from check((*path, "key"), expression.key, qualified_name(expression.key))
        yield from check_values(expression.operator, expression.values, (*path, "values"))
        for position, value in enumerate(expression.values):
            yield from check((*path, "values", position), value, label_value(value))


def check_values(operator: str, values: tuple[str, ...], at: Path) -> Wrongs:
    """In and NotIn need values, Exists and DoesNotExist have none."""
    if operator in ("In", "NotIn") and not values:
        yield required(at, "must be specified when `operator` is 'In' or 'NotIn'")
    if operator in ("Exists", "DoesNotExist") and values:
        yield forbidden(at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
