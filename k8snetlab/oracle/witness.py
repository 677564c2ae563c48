"""The first connection on which two versions of the policies disagree: what a check would have to send. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from k8snetlab.cluster import names
from k8snetlab.cluster.listeners import listeners
from k8snetlab.cluster.model import Cluster, Family, Pod
from k8snetlab.manifests.api.meta import Protocol
from k8snetlab.oracle.parties import Party, node_party, pod_party
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.statutes import Statutes, read_statutes

Door = tuple[Protocol, int]


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


def witness(cluster: Cluster, changed: Cluster, policy: str) -> Witness | None:
    """None when they say the same of every pair of pods, nodes and external hosts, at every port that is open or named.

    `policy` (`ns/name`) is the one that differs: only the pods that it selects, in either version, can tell.
    """
    before, after = read_statutes(cluster), read_statutes(changed)
    subjects = _subjects(before, policy) | _subjects(after, policy)
    doors = _doors(cluster, before, after)
    for family in cluster.config.families:
        for source, destination in _pairs(cluster, subjects, family):
            for protocol, port in doors.get(str(destination), doors[""]):
                one = judge(after, source, destination, protocol, port).allowed
                if judge(before, source, destination, protocol, port).allowed != one:
                    return Witness(
                        source=_name(source), destination=_name(destination), protocol=protocol, port=port, allowed=one
                    )
    return None


def _subjects(statutes: Statutes, policy: str) -> set[str]:
    found = (statute.subjects for statute in statutes.all if (statute.kind, statute.name) == ("NetworkPolicy", policy))
    return {pod for subjects in found for pod in subjects}


def _pairs(cluster: Cluster, subjects: set[str], family: Family) -> Iterator[tuple[Party, Party]]:
    """Everybody to and from the subjects, pods first: a pod is the handiest witness."""
    pods = [party for pod in cluster.pods if _is_there(pod) and (party := pod_party(pod, family))]
    nodes = [party for node in cluster.nodes if (party := node_party(node, family))]
    outside = [Party(names.outside_address(name, family)) for name in (names.CLIENT, names.INTERNET)]
    for subject in (party for party in pods if party.pod and party.pod.key in subjects):
        for other in (*pods, *outside, *nodes):
            if other is not subject:
                yield other, subject
                yield subject, other


def _is_there(pod: Pod) -> bool:
    return pod.phase == "Running" and not pod.host_network


def _doors(cluster: Cluster, *both: Statutes) -> dict[str, list[Door]]:
    """By destination the ports worth trying, open ones first; under the empty name those that policies name."""
    named: dict[Door, None] = {}
    protocols: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")
    for statutes in both:
        for port in (port for each in statutes.all for rule in each.rules for port in rule.ports or ()):
            for protocol in protocols:
                if port.protocol in (None, protocol) and not port.name:
                    named[protocol, port.first] = named[protocol, port.last] = None
    every = list(dict.fromkeys((*named, *((protocol, 80) for protocol in protocols))))
    found: dict[str, list[Door]] = {"": every}
    for key, opened in listeners(cluster).items():
        own: list[Door] = [(protocol, port) for known in protocols for protocol, port in _of(opened, known)]
        found[key] = list(dict.fromkeys((*own, *every)))
    return found


def _of(opened: tuple[tuple[str, int], ...], protocol: Protocol) -> Iterator[Door]:
    return ((protocol, port) for kind, port in opened if kind == protocol)


def _name(party: Party) -> str:
    for name in (names.CLIENT, names.INTERNET):
        if party.address in (names.outside_address(name, 4), names.outside_address(name, 6)):
            return f"external/{name}"
    return f"pod/{party.pod.key}" if party.pod else f"node/{party.node}"
