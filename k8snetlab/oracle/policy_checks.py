"""Checks of the policies themselves: for each rule a flow that it allows, for each isolated pod one that is denied.

Only flows to a port that something listens on, so that silence can mean nothing but the policy. Representatives, not
all pairs (`matrix` is for those): of each policy first, then more of each as long as there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Pod
from k8snetlab.flows.model import Check, Flow, FlowProtocol, Place
from k8snetlab.flows.targets import pod_place
from k8snetlab.oracle.parties import Party, pod_party
from k8snetlab.oracle.places import Scene, external_place
from k8snetlab.oracle.policy import PolicyVerdict, judge
from k8snetlab.oracle.policy_rules import DirectedPolicy, Rule
from k8snetlab.oracle.reasons import cited, reason

MOST_ALLOWED = 40
MOST_DENIED = 20
_MOST_SUBJECTS = 4  # of a policy that are tried as an end of a flow
_MOST_PEERS = 200

_End = tuple[Place, Party]
_Listener = tuple[str, int]


def policy_checks(scene: Scene) -> Iterator[Check]:
    """`policy-allowed` and `policy-denied`, in that order."""
    if not scene.policy_context.policies.all:
        return
    pods = {pod.key: pod for pod in scene.pods}
    policies = scene.policy_context.policies.all
    yield from islice(_in_turn([_allowed(scene, pods, policy) for policy in policies]), MOST_ALLOWED)
    yield from islice(_in_turn([_denied(scene, pods, policy) for policy in policies]), MOST_DENIED)


def _in_turn(each: Sequence[Iterable[Check]]) -> Iterator[Check]:
    """The first of every policy, then the second, and so on; none of whose flow there is one already."""
    seen: set[Flow] = set()
    waiting = deque(map(iter, each))
    while waiting:
        mine = waiting.popleft()
        check = next(mine, None)
        if check is None:
            continue
        waiting.append(mine)
        if check.flow not in seen:
            seen.add(check.flow)
            yield check


def _allowed(scene: Scene, pods: dict[str, Pod], policy: DirectedPolicy) -> Iterator[Check]:
    """One flow for each rule that lets one through: it matches the rule, and the other end agrees."""
    for rule in policy.rules:
        if rule.action == "Accept":
            yield from islice(_flows_of(scene, pods, policy, rule), 1)


def _flows_of(scene: Scene, pods: dict[str, Pod], policy: DirectedPolicy, rule: Rule) -> Iterator[Check]:
    for source, destination, listener in _candidates(scene, pods, policy):
        verdict = _judge(scene, source[1], destination[1], listener)
        if verdict is None or not verdict.allowed:
            continue
        if any(ruling.policy is policy and ruling.rule is rule for ruling in verdict.rulings):
            yield _check("policy-allowed", source, destination, listener, cited(policy, rule), "")


def _denied(scene: Scene, pods: dict[str, Pod], policy: DirectedPolicy) -> Iterator[Check]:
    """For each pod that the policy selects one flow that is denied in its direction; for a rule that denies, one that
    it denies."""
    for subject in islice(_subjects(pods, policy), MOST_DENIED):
        for source, destination, listener in _candidates(scene, pods, policy, subject):
            verdict = _judge(scene, source[1], destination[1], listener)
            if verdict is None or verdict.allowed:
                continue
            first = next(ruling for ruling in verdict.rulings if not ruling.allowed)
            if first.direction == policy.direction and policy in (first.policy, *first.isolating):
                because = reason(verdict)
                yield _check("policy-denied", source, destination, listener, cited(policy), because)
                break


def _subjects(pods: dict[str, Pod], policy: DirectedPolicy) -> Iterator[Pod]:
    return (pods[key] for key in sorted(policy.subjects) if key in pods)


def _candidates(
    scene: Scene, pods: dict[str, Pod], policy: DirectedPolicy, subject: Pod | None = None
) -> Iterator[tuple[_End, _End, _Listener]]:
    """Flows with a pod that the policy selects at its end, to ports that are served there."""
    subjects = [subject] if subject is not None else list(islice(_subjects(pods, policy), _MOST_SUBJECTS))
    peers = list(_peers(scene, pods, policy))
    for mine in subjects:
        own = _end(scene, mine)
        for other in peers:
            source, destination = (other, own) if policy.direction == "ingress" else (own, other)
            if source[0] != destination[0]:
                for listener in _listeners(scene, destination[0]):
                    yield source, destination, listener


def _peers(scene: Scene, pods: dict[str, Pod], policy: DirectedPolicy) -> Iterator[_End]:
    """Those that rules name come first, so that they are found among many; nobody outside has a route to a pod."""
    named = {key for rule in policy.rules for peer in rule.peers or () for key in peer.pods if key in pods}
    ordered = chain(sorted(named), (key for key in pods if key not in named))
    for key in islice(ordered, _MOST_PEERS):
        yield _end(scene, pods[key])
    if policy.direction == "egress":
        yield external_place(names.INTERNET), Party(names.outside_address(names.INTERNET, scene.family))


def _end(scene: Scene, pod: Pod) -> _End:
    party = pod_party(pod, scene.family)
    assert party is not None, "a scene's pods have an address of its family"
    return pod_place(pod), party


def _listeners(scene: Scene, place: Place) -> Sequence[_Listener]:
    if place.kind == "external":
        return names.INTERNET_LISTENERS
    return [] if place.name in scene.programs else scene.listening.get(place.name, ())


def _judge(scene: Scene, source: Party, destination: Party, listener: _Listener) -> PolicyVerdict | None:
    protocol, port = listener
    match protocol:
        case "TCP" | "UDP":
            verdict = judge(scene.policy_context.policies, source, destination, protocol, port)
            return None if verdict.exempt else verdict
        case _:
            return None  # SCTP: not every kernel has it, and then nothing listens


def _check(kind: str, source: _End, destination: _End, listener: _Listener, rule: str, because: str) -> Check:
    place = destination[0]
    protocol: FlowProtocol = "HTTP" if listener[0] == "TCP" else "UDP"
    server = place.name if place.kind == "pod" else f"external/{place.name}"
    allowed = kind == "policy-allowed"
    return Check(
        type=kind,
        name=f"{source[0].name} to {place.name}:{listener[1]}: {rule}",
        flow=Flow(
            sender=source[0],
            destination=place,
            address=str(destination[1].address),
            protocol=protocol,
            port=listener[1],
        ),
        expected="ok" if allowed else "timeout",
        source="pod" if allowed and place.kind == "pod" else None,
        sources=(source[1].address,) if allowed and place.kind == "pod" else (),
        servers=(server,) if allowed else (),
        because=because,
    )
