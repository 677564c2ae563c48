"""Which pairs of pods the matrix has, and what policies say of each. Pure.

Policies alone are asked: a pod that nothing listens in still gets the packets (or does not).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from k8snetlab.cluster import names
from k8snetlab.cluster.endpoint_choice import categorize
from k8snetlab.cluster.model import Cluster, Family, Pod, Service, ServicePort
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import UsageError
from k8snetlab.flows.matrix import MatrixOutcome, Pair, Via
from k8snetlab.manifests.api.meta import Protocol
from k8snetlab.oracle.parties import pod_party
from k8snetlab.oracle.places import Scene, address_of
from k8snetlab.oracle.policy import judge
from k8snetlab.oracle.policy_rules import read_policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the matrix is asked for. `port` 0: each destination's first of the protocol; `namespace` empty: all."""

    port: int = 0
    protocol: Protocol = "TCP"
    via: Via = "pod"
    namespace: str = ""
    family: Family = 4


def question(
    cluster: Cluster, port: int, protocol: Protocol, via: Via, namespace: str, ip_family: str | None
) -> Question:
    """What the command line asks; UsageError for a namespace or an IP family that the cluster does not have."""
    if namespace and namespace not in cluster.namespaces:
        raise UsageError(f"namespace {namespace} does not exist")
    family: Family = cluster.config.families[0]
    if ip_family:
        family = 4 if ip_family == "ipv4" else 6
    if family not in cluster.config.families:
        raise UsageError(f"the cluster has no {ip_family}")
    return Question(port=port, protocol=protocol, via=via, namespace=namespace, family=family)


def pairs(cluster: Cluster, question: Question) -> tuple[Pair, ...]:
    """Every ordered pair of pods that can be tried, sender by sender.

    A receiver without a port (or, through Services, without a Service that leads to it) is in no pair.
    """
    pods = _pods(cluster, question)
    scene = Scene(cluster, question.family)
    if question.via == "service":
        return tuple(_through_services(scene, pods, question))
    return tuple(_direct(scene, pods, question))


def expected(cluster: Cluster, question: Question, asked: Sequence[Pair]) -> list[MatrixOutcome]:
    """What policies say of each pair, in the order of the pairs."""
    policies = read_policies(cluster)
    parties = {pod.key: party for pod in cluster.pods if (party := pod_party(pod, question.family))}
    found: list[MatrixOutcome] = []
    selected = policies.of_pod.keys()
    for pair in asked:
        if ("egress", pair.sender) not in selected and ("ingress", pair.receiver) not in selected:
            found.append("allowed")  # no policy selects either end, so none has anything to say
            continue
        verdict = judge(policies, parties[pair.sender], parties[pair.receiver], question.protocol, pair.target_port)
        found.append("allowed" if verdict.allowed else "blocked")
    return found


def left_out(cluster: Cluster, question: Question, asked: Sequence[Pair]) -> tuple[str, ...]:
    """The pods that ought to be receivers and are none: they have no such port, or no Service leads to them."""
    receivers = {pair.receiver for pair in asked}
    pods = _pods(cluster, question)
    return tuple(pod.key for pod in pods if pod.key not in receivers) if len(pods) > 1 else ()


def cut_off(cluster: Cluster) -> tuple[str, ...]:
    """The nodes that are cut off: their pods are in no pair."""
    return tuple(node.name for node in cluster.nodes if not node.ready)


def _pods(cluster: Cluster, question: Question) -> tuple[Pod, ...]:
    """Those that run, with an address of the family, on a node that is not cut off. The lab's own add-ons are asked
    for by their namespace only."""
    reachable = {node.name for node in cluster.nodes if node.ready}
    return tuple(
        pod
        for pod in cluster.pods
        if pod.phase == "Running"
        and pod.node in reachable
        and address_of(pod.ips, question.family)
        and (pod.namespace == question.namespace if question.namespace else not pod.addon)
    )


def _netns(pod: Pod) -> str:
    return pod.node if pod.host_network else names.pod_netns(pod.namespace, pod.name)


def _direct(scene: Scene, pods: Sequence[Pod], question: Question) -> Iterator[Pair]:
    """A pair for each two pods: what is the same for all senders is worked out once (200 pods are 39,800 pairs)."""
    receivers = []
    for pod in pods:
        port = question.port or _first_port(scene, pod, question.protocol)
        if port:
            listening = _listening(scene, pod, question.protocol, port)
            receivers.append((pod.key, str(scene.ip(pod)), port, listening))
    for pod in pods:
        sender, netns = pod.key, _netns(pod)
        for receiver, address, port, listening in receivers:
            if receiver != sender:
                yield Pair(
                    sender=sender,
                    receiver=receiver,
                    netns=netns,
                    address=address,
                    port=port,
                    endpoint=address,
                    target_port=port,
                    listening=listening,
                )


def _first_port(scene: Scene, pod: Pod, protocol: Protocol) -> int:
    """The first port a container declares; where none does, the first that the lab's server listens on."""
    declared = (port for container in pod.containers for port in container.ports if port.protocol == protocol)
    first = next((port.container_port for port in declared), 0)
    return first or next((number for kind, number in scene.listening.get(pod.key, ()) if kind == protocol), 0)


def _listening(scene: Scene, pod: Pod, protocol: Protocol, port: int) -> bool:
    return (protocol, port) in scene.listening.get(pod.key, ())


def _through_services(scene: Scene, pods: Sequence[Pod], question: Question) -> Iterator[Pair]:
    """From each pod to each, by a Service that leads there: the one with the fewest other endpoints."""
    doors = _doors(scene, question)
    for sender in pods:
        node = scene.nodes[sender.node]
        usable: dict[int, frozenset[str]] = {}  # of each Service port, the endpoints this node may use
        for receiver in pods:
            if receiver is sender:
                continue
            for number, service, port in doors.get(receiver.key, ()):
                if number not in usable:
                    chosen = categorize(service, port, node, question.family)
                    used = chosen.local if service.internal_local else chosen.cluster
                    usable[number] = frozenset(f"{endpoint.ip} {endpoint.port}" for endpoint in used)
                pair = _through(scene, sender, receiver, service, port, usable[number])
                if pair is not None:
                    yield pair
                    break


Door = tuple[int, Service, ServicePort]


def _doors(scene: Scene, question: Question) -> Mapping[str, Sequence[Door]]:
    """Pod key → the Service ports that lead to it, the ones with the fewest endpoints first."""
    found: dict[str, list[Door]] = {}
    every = [(service, port) for service in scene.cluster.services if service.proxied() for port in service.ports]
    for number, (service, port) in enumerate(every):
        if port.protocol != question.protocol or question.port not in (0, port.port):
            continue
        if address_of(service.cluster_ips, scene.family) is None:
            continue
        for key in {endpoint.pod for endpoint in port.endpoints if endpoint.pod}:
            found.setdefault(key, []).append((number, service, port))
    for doors in found.values():
        doors.sort(key=lambda door: (len(door[2].endpoints), door[0]))
    return found


def _through(
    scene: Scene, sender: Pod, receiver: Pod, service: Service, port: ServicePort, usable: frozenset[str]
) -> Pair | None:
    for endpoint in port.endpoints:
        if endpoint.pod == receiver.key and f"{endpoint.ip} {endpoint.port}" in usable:
            return Pair(
                sender=sender.key,
                receiver=receiver.key,
                netns=_netns(sender),
                address=str(address_of(service.cluster_ips, scene.family)),
                port=port.port,
                endpoint=str(endpoint.ip),
                target_port=endpoint.port,
                listening=_listening(scene, receiver, port.protocol, endpoint.port),
                endpoints=len(usable),
            )
    return None
