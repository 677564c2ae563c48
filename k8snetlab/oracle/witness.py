"""The first connection on which two versions of the policies disagree: what a check would have to send. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from k8snetlab.cluster import names
from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster, Family
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import Protocol
from k8snetlab.oracle.parties import Party, node_party, pod_party
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.policy_rules import DirectedPolicies, read_policies

Door = tuple[Protocol, int]
_PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A connection that `allowed` says of the changed policies, and the original ones deny; or the other way round."""

    source: str
    destination: str
    protocol: Protocol
    port: int
    allowed: bool

    def __str__(self) -> str:
        verdict = "now allowed" if self.allowed else "now blocked"
        return f"{self.source} -> {self.destination} {self.protocol} {self.port}: {verdict}"


def witness(cluster: Cluster, changed: Cluster, kind: str, policy: str) -> Witness | None:
    """None when they say the same of every pair of pods, nodes and external hosts, at every port that is open or named.

    `policy` of this `kind` is the one that differs: only the pods that it selects, in either version, can tell.
    """
    before, after = read_policies(cluster), read_policies(changed)
    subjects = _subjects(before, kind, policy) | _subjects(after, kind, policy)
    opened = {key: _known(doors) for key, doors in listeners(cluster).items()}
    named = _named(before, after)
    # A port that is open makes the handiest witness: whoever tries it sees the difference.
    for doors_of in (lambda party: opened.get(party.pod.key, []) if party.pod else [], lambda _party: named):
        for family in cluster.config.families:
            found = _first(before, after, _pairs(cluster, subjects, family), doors_of)
            if found is not None:
                return found
    return None


def _first(
    before: DirectedPolicies,
    after: DirectedPolicies,
    pairs: Iterable[tuple[Party, Party]],
    doors_of: Callable[[Party], list[Door]],
) -> Witness | None:
    for source, destination in pairs:
        for protocol, port in doors_of(destination):
            allowed = judge(after, source, destination, protocol, port).allowed
            if judge(before, source, destination, protocol, port).allowed != allowed:
                return Witness(
                    source=_name(source),
                    destination=_name(destination),
                    protocol=protocol,
                    port=port,
                    allowed=allowed,
                )
    return None


def _subjects(policies: DirectedPolicies, kind: str, name: str) -> set[str]:
    found = (policy.subjects for policy in policies.all if (policy.kind, policy.name) == (kind, name))
    return {pod for subjects in found for pod in subjects}


def _pairs(cluster: Cluster, subjects: set[str], family: Family) -> Iterator[tuple[Party, Party]]:
    """Everybody to and from the subjects, pods first: a pod is the handiest witness."""
    ready = {node.name: node for node in cluster.nodes if node.ready}
    pods = [pod for pod in cluster.pods if pod.phase == "Running" and not pod.host_network and pod.node in ready]
    ends = [party for pod in pods if (party := pod_party(pod, family))]
    nodes = [party for node in ready.values() if (party := node_party(node, family))]
    outside = [Party(names.outside_address(name, family)) for name in (names.CLIENT, names.INTERNET)]
    for subject in (party for party in ends if party.pod and party.pod.key in subjects):
        for other in (*ends, *outside, *nodes):
            if other is not subject:
                yield other, subject
                yield subject, other


def _known(doors: Iterable[tuple[str, int]]) -> list[Door]:
    return [(protocol, port) for protocol in _PROTOCOLS for kind, port in doors if kind == protocol]


def _named(*both: DirectedPolicies) -> list[Door]:
    """The ports that policies name, and one that perhaps none names."""
    found: dict[Door, None] = {}
    for policies in both:
        for port in (port for each in policies.all for rule in each.rules for port in rule.ports or ()):
            for protocol in _PROTOCOLS:
                if port.protocol in (None, protocol) and not port.name:
                    found[protocol, port.first] = found[protocol, port.last] = None
    return list(dict.fromkeys((*found, *((protocol, 80) for protocol in _PROTOCOLS))))


def _name(party: Party) -> str:
    for name in (names.CLIENT, names.INTERNET):
        if party.address in (names.outside_address(name, 4), names.outside_address(name, 6)):
            return f"external/{name}"
    return f"pod/{party.pod.key}" if party.pod else f"node/{party.node}"
