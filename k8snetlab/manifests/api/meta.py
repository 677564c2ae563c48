"""What all Kubernetes objects have in common, and how fields are written in YAML.

A field is spelled in YAML as its Python name in camel case (`node_name` is `nodeName`); `key=` in the metadata gives
the exceptions. `IGNORED` on a class names fields that Kubernetes knows and the lab does not need: they are accepted and
dropped, so that a typing error is still caught. Source: k8s.io/apimachinery, meta/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal

from k8snetlab.dataclass import dataclass

Labels = Mapping[str, str]
IntOrString = int | str
Protocol = Literal["TCP", "UDP", "SCTP"]


def written_at() -> Any:
    """A field `source: Source | None` for where a part of an object was written; no part of the value itself.

    The loader fills it in (`manifests.locate`); it is neither read from YAML nor written to it, nor compared.
    """
    return field(default=None, compare=False, repr=False, metadata={"source": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """Identity: `namespace` is empty for cluster-scoped kinds; the loader fills in `default` for the others."""

    IGNORED: ClassVar = (
        "clusterName", "creationTimestamp", "deletionGracePeriodSeconds", "finalizers", "generation",
        "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
    )  # fmt: skip

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    deletion_timestamp: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelectorRequirement:
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """An empty selector matches everything; a missing one (`None` where it may be) matches nothing or is not given."""

    match_labels: Labels = field(default_factory=dict)
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
