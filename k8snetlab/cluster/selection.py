"""Which pods a Service selects, found by label instead of by trying every pod with every Service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from k8snetlab.manifests.api.meta import Labels
from k8snetlab.manifests.selectors import matches_labels


class Labelled(Protocol):
    @property
    def namespace(self) -> str: ...
    @property
    def labels(self) -> Labels: ...


Item = TypeVar("Item", bound=Labelled)
Index = Mapping[tuple[str, str, str], Sequence[Item]]  # namespace, label key, label value → pods, in their order


def index_by_label(items: Iterable[Item]) -> Index[Item]:
    index: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        for key, value in item.labels.items():
            index.setdefault((item.namespace, key, value), []).append(item)
    return index


def select(index: Index[Item], namespace: str, selector: Labels | None) -> Sequence[Item]:
    """The pods of the namespace with all these labels; none for an empty selector, which a Service fills by hand."""
    if not selector:
        return ()
    candidates = min((index.get((namespace, key, value), ()) for key, value in selector.items()), key=len)
    if len(selector) == 1:
        return candidates
    return [item for item in candidates if matches_labels(selector, item.labels)]
