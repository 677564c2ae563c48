"""Which pods the selectors of policies choose, asked often and answered once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import field

from k8snetlab.cluster.model import Cluster, Pod
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.selectors import matches

Keys = frozenset[str]
_Text = tuple[frozenset[tuple[str, str]], tuple[object, ...]]  # a selector as a value that can be looked up


@dataclass(frozen=True, slots=True)
class Chooser:
    """The pods of a cluster by namespace and by label. Pods with hostNetwork are chosen by no selector of a policy
    (NetworkPolicy: "undefined, treated as node traffic"; ClusterNetworkPolicy: never)."""

    cluster: Cluster
    pods: dict[str, Pod]
    by_namespace: dict[str, list[Pod]]
    by_label: dict[tuple[str, str, str], list[Pod]]
    _namespaces: dict[_Text, tuple[str, ...]] = field(default_factory=dict)
    _chosen: dict[tuple[object, _Text], Keys] = field(default_factory=dict)

    def namespaces(self, selector: LabelSelector) -> tuple[str, ...]:
        """Names of the namespaces that the selector matches; all when it is empty."""
        key = _text(selector)
        if key not in self._namespaces:
            found = tuple(name for name, labels in self.cluster.namespaces.items() if matches(selector, labels))
            self._namespaces[key] = found
        return self._namespaces[key]

    def in_namespace(self, namespace: str, selector: LabelSelector) -> Keys:
        """Pods (`ns/name`) of one namespace."""
        key = (namespace, _text(selector))
        if key not in self._chosen:
            self._chosen[key] = frozenset(self._find((namespace,), selector))
        return self._chosen[key]

    def in_namespaces(self, namespaces: LabelSelector, selector: LabelSelector) -> Keys:
        """Pods that match one selector in namespaces that match the other."""
        key = (_text(namespaces), _text(selector))
        if key not in self._chosen:
            self._chosen[key] = frozenset(self._find(self.namespaces(namespaces), selector))
        return self._chosen[key]

    def _find(self, namespaces: Iterable[str], selector: LabelSelector) -> Iterable[str]:
        for namespace in namespaces:
            for pod in self._candidates(namespace, selector):
                if matches(selector, pod.labels):
                    yield pod.key

    def _candidates(self, namespace: str, selector: LabelSelector) -> Sequence[Pod]:
        """Few pods among which all that match are: those with the rarest of the labels asked for."""
        if not selector.match_labels:
            return self.by_namespace.get(namespace, ())
        return min((self.by_label.get((namespace, k, v), ()) for k, v in selector.match_labels.items()), key=len)


def chooser(cluster: Cluster) -> Chooser:
    by_namespace: defaultdict[str, list[Pod]] = defaultdict(list)
    by_label: defaultdict[tuple[str, str, str], list[Pod]] = defaultdict(list)
    for pod in cluster.pods:
        if not pod.host_network:
            by_namespace[pod.namespace].append(pod)
            for key, value in pod.labels.items():
                by_label[pod.namespace, key, value].append(pod)
    pods = {pod.key: pod for each in by_namespace.values() for pod in each}
    return Chooser(cluster, pods, dict(by_namespace), dict(by_label))


def _text(selector: LabelSelector) -> _Text:
    return frozenset(selector.match_labels.items()), selector.match_expressions
