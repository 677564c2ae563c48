"""The inverse of decoding: an object as plain data in Kubernetes' field names, ready for YAML or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, cast

from k8snetlab.manifests.decode import yaml_key
from k8snetlab.manifests.document import KubernetesObject
from k8snetlab.manifests.kinds import KINDS


def encode(obj: KubernetesObject) -> dict[str, Any]:
    """Plain dicts, lists, strings, numbers and bools, beginning with apiVersion and kind.

    Fields that have their default are left out, but for those which the API server always shows (`always` in the
    field's metadata).
    """
    kind = KINDS[type(obj).__name__]
    return {"apiVersion": kind.api_versions[0], "kind": kind.name, **encode_value(obj)}


def encode_value(value: Any) -> Any:
    """Any part of an object as plain data."""
    if dataclasses.is_dataclass(value):
        return {
            key: encode_value(part)
            for key, name, default in _fields(cast(Hashable, type(value)))
            if (part := getattr(value, name)) is not None and part != default
        }
    if isinstance(value, tuple):
        return [encode_value(part) for part in value]
    if isinstance(value, Mapping):
        return {key: encode_value(part) for key, part in value.items()}
    return value


@cache
def _fields(cls: Hashable) -> tuple[tuple[str, str, Any], ...]:
    """Key, attribute and the value with which it is left out (MISSING: never)."""
    fields = [field for field in dataclasses.fields(cast(Any, cls)) if not field.metadata.get("source")]
    return tuple((yaml_key(field), field.name, _omitted(field)) for field in fields)


def _omitted(field: dataclasses.Field[Any]) -> Any:
    if field.metadata.get("always"):
        return dataclasses.MISSING
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
