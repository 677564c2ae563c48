"""Which of two objects is older, where a conflict is decided by that.

Kubernetes compares creationTimestamps, which count whole seconds: objects applied together are of the same age, and
names decide. What a later command adds is younger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from k8snetlab.manifests.document import Document

CreationOrder = Mapping[str, int]  # `Kind ns/name` → the number of the command that brought it
_KINDS = ("Ingress", "IngressClass", "Gateway", "HTTPRoute")


def creation_key(kind: str, namespace: str, name: str) -> str:
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"


def creation_order(documents: Sequence[Document], previous: CreationOrder | None) -> CreationOrder:
    """Keep the numbers of what was there; everything new gets the next one."""
    keys = [creation_key(*document.key) for document in documents if document.kind in _KINDS]
    if not previous:
        return dict.fromkeys(keys, 0)
    following = max(previous.values()) + 1
    return {key: previous.get(key, following) for key in keys}
