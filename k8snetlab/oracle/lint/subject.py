"""What the findings are about: a NetworkPolicy, its rules and whom their selectors choose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.api.networking import NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from k8snetlab.oracle.choose import Chooser, Keys, chooser
from k8snetlab.oracle.policy_rules import Direction, directions

EVERY = LabelSelector()


@dataclass(frozen=True, slots=True)
class Subject:
    """One policy and the pods it selects; `listening` are all pods' (protocol, port) pairs."""

    cluster: Cluster
    choose: Chooser
    policy: NetworkPolicy
    selected: Keys
    listening: Mapping[str, tuple[tuple[str, int], ...]]

    @property
    def namespace(self) -> str:
        return self.policy.metadata.namespace

    @property
    def name(self) -> str:
        return f"NetworkPolicy {self.namespace}/{self.policy.metadata.name}"

    @property
    def where(self) -> str:
        return at(self.policy.source)


@dataclass(frozen=True, slots=True)
class RuleOf:
    """One rule; the directions only differ in how they call the peers."""

    subject: Subject
    direction: Direction
    index: int
    peers: tuple[NetworkPolicyPeer, ...]
    ports: tuple[NetworkPolicyPort, ...]
    source: Source | None

    @property
    def key(self) -> str:
        return "from" if self.direction == "ingress" else "to"

    def __str__(self) -> str:
        return f"{self.subject.name} {self.direction}[{self.index}]"

    def peer(self, index: int) -> str:
        return f"{self}.{self.key}[{index}]"


def at(source: Source | None) -> str:
    return f" ({source})" if source is not None else ""


def read_subjects(cluster: Cluster) -> list[Subject]:
    choose, listening = chooser(cluster), listeners(cluster)
    return [
        Subject(cluster, choose, p, choose.in_namespace(p.metadata.namespace, p.spec.pod_selector), listening)
        for p in cluster.network_policies
    ]


def rules(subject: Subject) -> Iterator[RuleOf]:
    """The rules that count: not those of a direction that policyTypes leaves out."""
    spec, effective = subject.policy.spec, directions(subject.policy)
    if "ingress" in effective:
        for index, ingress in enumerate(spec.ingress):
            yield RuleOf(subject, "ingress", index, ingress.from_, ingress.ports, ingress.source)
    if "egress" in effective:
        for index, egress in enumerate(spec.egress):
            yield RuleOf(subject, "egress", index, egress.to, egress.ports, egress.source)


def chosen(subject: Subject, peer: NetworkPolicyPeer) -> Keys:
    """Pods that a peer of selectors matches."""
    pods = peer.pod_selector if peer.pod_selector is not None else EVERY
    if peer.namespace_selector is None:
        return subject.choose.in_namespace(subject.namespace, pods)
    return subject.choose.in_namespaces(peer.namespace_selector, pods)
