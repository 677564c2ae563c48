"""Change what a lab was told, as `kubectl apply`, `delete`, `scale` and `label` change what is in etcd.

Each function takes the manifests of a lab and returns new ones; the lab is then made equal to those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from k8snetlab.errors import UsageError
from k8snetlab.manifests.document import Document, Manifests

SCALABLE = ("Deployment", "ReplicaSet", "StatefulSet")


def merge(manifests: Manifests, applied: Manifests) -> Manifests:
    """Put the applied objects in the place of those of the same kind, namespace and name, and new ones behind."""
    new = {document.key: document for document in applied.documents}
    kept = [new.pop(document.key, document) for document in manifests.documents]
    return replace(manifests, documents=(*kept, *new.values()))


def without(manifests: Manifests, keys: Sequence[tuple[str, str, str]]) -> Manifests:
    """Take objects out by kind, namespace and name; a Namespace takes all that is in it along.

    UsageError for one that is not there.
    """
    there = {document.key for document in manifests.documents}
    for key in keys:
        if key not in there:
            raise _not_found(key)
    gone = set(keys)
    namespaces = {name for kind, _, name in keys if kind == "Namespace"}
    kept = [d for d in manifests.documents if d.key not in gone and d.key[1] not in namespaces]
    return replace(manifests, documents=tuple(kept))


def scale(manifests: Manifests, key: tuple[str, str, str], replicas: int) -> Manifests:
    """Set the number of pods of a Deployment, ReplicaSet or StatefulSet."""
    if key[0] not in SCALABLE:
        raise UsageError(f"a {key[0]} cannot be scaled", hint=f"what can: {', '.join(SCALABLE)}")

    def scaled(object_: Any) -> Any:
        return replace(object_, spec=replace(object_.spec, replicas=replicas))

    return _with(manifests, key, scaled)


def label(manifests: Manifests, key: tuple[str, str, str], changes: Mapping[str, str | None]) -> Manifests:
    """Set labels of an object, or remove them where the value is None."""

    def labelled(object_: Any) -> Any:
        labels = {name: value for name, value in object_.metadata.labels.items() if name not in changes}
        labels |= {name: value for name, value in changes.items() if value is not None}
        return replace(object_, metadata=replace(object_.metadata, labels=labels))

    return _with(manifests, key, labelled)


def _with(manifests: Manifests, key: tuple[str, str, str], change: Any) -> Manifests:
    documents = tuple(
        Document(change(document.object), document.source) if document.key == key else document
        for document in manifests.documents
    )
    if all(document.key != key for document in manifests.documents):
        raise _not_found(key)
    return replace(manifests, documents=documents)


def _not_found(key: tuple[str, str, str]) -> UsageError:
    kind, namespace, name = key
    return UsageError(f"no {kind} {f'{namespace}/' if namespace else ''}{name} in the lab's manifests")
