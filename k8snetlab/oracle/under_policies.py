"""What policies make of a check: the same flow, with what must come of it where policies have a say.

Where they leave open what comes of it there is no check: nothing is promised that the specification does not say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from k8snetlab.cluster.model import Node, Service, ServicePort
from k8snetlab.flows.model import Check, Flow, IPAddress
from k8snetlab.oracle.endpoint_verdicts import EndpointVerdict, client_party, endpoint_verdicts
from k8snetlab.oracle.parties import Party, party_of
from k8snetlab.oracle.places import Scene
from k8snetlab.oracle.policy import consents, judge
from k8snetlab.oracle.policy_rules import PolicyProtocol
from k8snetlab.oracle.reasons import reason
from k8snetlab.oracle.services import Client, Expectation, node_sources

MOST_TRIES = 40


def policy_protocol(flow: Flow) -> PolicyProtocol:
    """What a policy sees of it."""
    match flow.protocol:
        case "HTTP":
            return "TCP"
        case "DNS":
            return "UDP"
        case protocol:
            return protocol


def under_policies(scene: Scene, check: Check) -> Iterator[Check]:
    """A check without any translation of addresses: as it is, or denied, or none when it hangs on which of its
    addresses a node sends from."""
    address = ip_address(check.flow.address)
    sources = _sources(scene, check.flow)
    if not scene.policy_context.policies.all or address.is_loopback or not sources:
        yield check
        return
    target, protocol = scene.policy_context.owners.party(address), policy_protocol(check.flow)
    verdicts = [judge(scene.policy_context.policies, source, target, protocol, check.flow.port) for source in sources]
    if any(verdict.contested for verdict in verdicts):
        return
    if all(verdict.allowed for verdict in verdicts):
        yield check
    elif not any(verdict.allowed for verdict in verdicts):
        yield denied(check, reason(verdicts[0]))


def denied(check: Check, because: str) -> Check:
    """Packets that policies deny are dropped in silence: nobody answers, nobody sees a source."""
    return replace(
        check, expected="timeout", source=None, sources=(), servers=(), forbidden=(), tries=1, because=because
    )


def _sources(scene: Scene, flow: Flow) -> Sequence[Party]:
    node = scene.nodes.get(flow.sender.name) if flow.sender.kind == "node" else None
    if node is not None:
        return [Party(each, None, node.name) for each in node_sources(scene.cluster, node, scene.family)]
    party = party_of(scene.cluster, scene.policy_context.owners, flow.sender, scene.family)
    return [party] if party is not None else []


def service_under_policies(
    scene: Scene,
    check: Check,
    service: Service,
    port: ServicePort,
    client: Client,
    expectation: Expectation,
    entry: Node | None,
) -> Iterator[Check]:
    """A check through a Service. `entry` is the node of a NodePort.

    When only some of the endpoints may be reached it is asked so often that, with probability 1 - e^-9, one of those
    that may answers, and one of the others would if it were not denied.
    """
    if not scene.policy_context.policies.all:
        yield check
        return
    if expectation.outcome != "ok":
        # A Service without endpoints is refused and policies drop: who is first, kube-proxy or they, is nowhere said.
        if expectation.outcome == "timeout" or _may_leave(scene, check, client):
            yield check
        return
    found = endpoint_verdicts(scene.policy_context, client, port, expectation, entry)
    allowed = [each for each in found if each.allowed]
    refused = [each for each in found if each.allowed is False]
    if len(allowed) == len(found):
        yield check
    elif len(refused) == len(found):
        yield denied(check, reason(refused[0].verdict))
    elif len(allowed) + len(refused) == len(found) and entry is None:
        yield from _some(check, service, allowed, refused)


def _may_leave(scene: Scene, check: Check, client: Client) -> bool:
    target: IPAddress = ip_address(check.flow.address)
    door, protocol = scene.policy_context.owners.party(target), policy_protocol(check.flow)
    return consents(scene.policy_context.policies, "egress", client_party(client), door, protocol, check.flow.port)


def _some(
    check: Check, service: Service, allowed: Sequence[EndpointVerdict], refused: Sequence[EndpointVerdict]
) -> Iterator[Check]:
    may, may_not = {each.endpoint.pod for each in allowed}, {each.endpoint.pod for each in refused}
    # Session affinity binds the client to its first endpoint, be it one that it cannot reach.
    if service.session_affinity_seconds or None in may | may_not or may & may_not:
        return
    rarer = min(len(allowed), len(refused)) / (len(allowed) + len(refused))
    tries = math.ceil(9 / -math.log(1 - rarer))
    if tries <= MOST_TRIES:
        yield replace(
            check,
            servers=tuple(sorted(key for key in may if key)),
            forbidden=tuple(sorted(key for key in may_not if key)),
            tries=tries,
            because=reason(refused[0].verdict),
        )
