"""Policies changed in one small way each, as somebody might have written them by mistake. Pure.

If the checks of a lab pass with a mutant as they pass without, they do not test what the change is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, Literal, TypeVar

from k8snetlab.cluster.model import AdminPolicy, Cluster
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api.admin_policy import ClusterNetworkPolicy
from k8snetlab.manifests.api.meta import LabelSelector, Protocol
from k8snetlab.manifests.api.networking import (
    IPBlock,
    NetworkPolicy,
    NetworkPolicyEgressRule,
    NetworkPolicyIngressRule,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from k8snetlab.oracle.policy_rules import directions

Item = TypeVar("Item")
Rule = TypeVar("Rule", bound=NetworkPolicyIngressRule | NetworkPolicyEgressRule)
Peers = tuple[NetworkPolicyPeer, ...]
Change = tuple[str, str, Source | None]  # which part, what is done to it, where it is written
Type = Literal["Ingress", "Egress"]
_TYPES: tuple[tuple[Type, Type], ...] = (("Ingress", "Egress"), ("Egress", "Ingress"))  # the one that goes, the other


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`policy` is `ns/name` (of an admin policy its name), `part` the path of what is changed; `cluster` is the lab
    with the changed policy."""

    kind: str
    policy: str
    part: str
    change: str
    source: Source | None
    cluster: Cluster


def mutants(cluster: Cluster) -> Iterator[Mutant]:
    """Every mutant of every policy, NetworkPolicies first, each in the order in which it is written."""
    policies = cluster.network_policies
    for place, policy in enumerate(policies):
        key = f"{policy.metadata.namespace}/{policy.metadata.name}"
        for change, changed in _of_policy(policy):
            others = (*policies[:place], *((changed,) if changed else ()), *policies[place + 1 :])
            yield _mutant("NetworkPolicy", key, change, policy.source, replace(cluster, network_policies=others))
    admins = cluster.admin_policies
    for place, admin in enumerate(admins):
        for change, altered in _of_admin_policy(admin):
            rest = (*admins[:place], *((altered,) if altered else ()), *admins[place + 1 :])
            name = admin.metadata.name
            yield _mutant(type(admin).__name__, name, change, admin.source, replace(cluster, admin_policies=rest))


def _mutant(kind: str, policy: str, change: Change, written: Source | None, cluster: Cluster) -> Mutant:
    part, words, source = change
    return Mutant(kind=kind, policy=policy, part=part, change=words, source=source or written, cluster=cluster)


def _of_admin_policy(policy: AdminPolicy) -> Iterator[tuple[Change, AdminPolicy | None]]:
    """The whole policy, each rule, and what each rule says: the first that matches decides, so each word counts."""
    yield ("spec", "policy dropped", policy.source), None
    opposite = {"Accept": "Deny", "Allow": "Deny", "Pass": "Deny"}
    opposite["Deny"] = "Accept" if isinstance(policy, ClusterNetworkPolicy) else "Allow"
    spec: Any = policy.spec  # three kinds with the same two lists
    for direction in ("ingress", "egress"):
        rules = getattr(spec, direction)
        for place, rule in enumerate(rules):
            here = f"spec.{direction}[{place}]"
            turned = replace(rule, action=opposite[rule.action])
            for words, changed in (
                ("rule dropped", _without(rules, place)),
                (f"{rule.action} changed to {turned.action}", _with(rules, place, turned)),
            ):
                yield (here, words, rule.source), replace(policy, spec=replace(spec, **{direction: changed}))


def _of_policy(policy: NetworkPolicy) -> Iterator[tuple[Change, NetworkPolicy | None]]:
    spec = policy.spec
    yield ("spec", "policy dropped", policy.source), None
    effective = directions(policy)
    if len(effective) > 1:
        for gone, kept in _TYPES:
            yield (
                ("spec.policyTypes", f"{gone} removed", policy.source),
                replace(policy, spec=replace(spec, policy_types=(kept,))),
            )
    if spec.pod_selector != LabelSelector():
        change = "spec.podSelector", "selects every pod of the namespace", policy.source
        yield change, replace(policy, spec=replace(spec, pod_selector=LabelSelector()))
    # A rule of a direction that is not in policyTypes is void: to change it would change nothing.
    if "ingress" in effective:
        for change, ingress in _of_rules("spec.ingress", "from", spec.ingress, lambda r: r.from_, _from):
            yield change, replace(policy, spec=_isolating(spec, effective, replace(spec, ingress=ingress)))
    if "egress" in effective:
        for change, egress in _of_rules("spec.egress", "to", spec.egress, lambda r: r.to, _to):
            yield change, replace(policy, spec=_isolating(spec, effective, replace(spec, egress=egress)))


def _isolating(spec: NetworkPolicySpec, effective: Sequence[str], changed: NetworkPolicySpec) -> NetworkPolicySpec:
    """A policy without policyTypes isolates egress only while it has egress rules: a lost rule is not a lost type."""
    if spec.policy_types or changed.egress or "egress" not in effective:
        return changed
    return replace(changed, policy_types=("Ingress", "Egress"))


def _from(rule: NetworkPolicyIngressRule, peers: Peers) -> NetworkPolicyIngressRule:
    return replace(rule, from_=peers)


def _to(rule: NetworkPolicyEgressRule, peers: Peers) -> NetworkPolicyEgressRule:
    return replace(rule, to=peers)


def _of_rules(
    path: str,
    side: str,
    rules: tuple[Rule, ...],
    peers_of: Callable[[Rule], Peers],
    with_peers: Callable[[Rule, Peers], Rule],
) -> Iterator[tuple[Change, tuple[Rule, ...]]]:
    for place, rule in enumerate(rules):
        here = f"{path}[{place}]"
        yield (here, "rule dropped", rule.source), _without(rules, place)
        for change, peers in _of_peers(f"{here}.{side}", peers_of(rule)):
            yield change, _with(rules, place, with_peers(rule, peers))
        for change, ports in _of_ports(f"{here}.ports", rule.ports):
            yield change, _with(rules, place, replace(rule, ports=ports))


def _of_peers(path: str, peers: Peers) -> Iterator[tuple[Change, Peers]]:
    if peers:
        yield (path, "removed: anybody", peers[0].source), ()
    for place, peer in enumerate(peers):
        here = f"{path}[{place}]"
        if len(peers) > 1:  # without its last peer a rule would match anybody, which is the mutant above
            yield (here, "peer dropped", peer.source), _without(peers, place)
        if peer.pod_selector is not None and peer.namespace_selector is not None:
            apart = replace(peer, pod_selector=None), replace(peer, namespace_selector=None)
            yield (here, "AND split into OR by a dash", peer.source), (*peers[:place], *apart, *peers[place + 1 :])
        joined = _joined(peer, peers[place + 1]) if place + 1 < len(peers) else None
        if joined:
            change = f"{here} and [{place + 1}]", "OR joined into AND by a missing dash", peer.source
            yield change, (*peers[:place], joined, *peers[place + 2 :])
        if peer.pod_selector not in (None, LabelSelector()):
            changed = replace(peer, pod_selector=LabelSelector())
            yield (f"{here}.podSelector", "matches every pod", peer.source), _with(peers, place, changed)
        if peer.namespace_selector not in (None, LabelSelector()):
            changed = replace(peer, namespace_selector=LabelSelector())
            yield (f"{here}.namespaceSelector", "matches every namespace", peer.source), _with(peers, place, changed)
        if peer.ip_block:
            for what, block in _of_block(peer.ip_block):
                changed = replace(peer, ip_block=block)
                yield (f"{here}.ipBlock", what, peer.source), _with(peers, place, changed)


def _joined(one: NetworkPolicyPeer, other: NetworkPolicyPeer) -> NetworkPolicyPeer | None:
    """One peer of both, where one is only a podSelector and the other only a namespaceSelector."""
    for pods, spaces in ((one, other), (other, one)):
        only_pods = pods.pod_selector is not None and pods.namespace_selector is None
        only_spaces = spaces.namespace_selector is not None and spaces.pod_selector is None
        if only_pods and only_spaces:
            return replace(one, pod_selector=pods.pod_selector, namespace_selector=spaces.namespace_selector)
    return None


def _of_block(block: IPBlock) -> Iterator[tuple[str, IPBlock]]:
    network = ip_network(block.cidr, strict=False)
    if network.prefixlen:
        wider = str(network.supernet())
        yield f"cidr widened to {wider}", replace(block, cidr=wider)
    for place, text in enumerate(block.except_):
        yield f"except {text} dropped", replace(block, except_=_without(block.except_, place))


def _of_ports(
    path: str, ports: tuple[NetworkPolicyPort, ...]
) -> Iterator[tuple[Change, tuple[NetworkPolicyPort, ...]]]:
    if ports:
        yield (path, "removed: any port", ports[0].source), ()
    for place, port in enumerate(ports):
        here = f"{path}[{place}]"
        if len(ports) > 1:
            yield (here, "port dropped", port.source), _without(ports, place)
        for what, changed in _of_port(port):
            yield (here, what, port.source), _with(ports, place, changed)


def _of_port(port: NetworkPolicyPort) -> Iterator[tuple[str, NetworkPolicyPort]]:
    other: Protocol = "UDP" if port.protocol == "TCP" else "TCP"
    yield f"{port.protocol} changed to {other}", replace(port, protocol=other)
    if port.end_port is not None:
        yield "endPort dropped", replace(port, end_port=None)
    elif isinstance(port.port, int):
        number = port.port + 1 if port.port < 65535 else port.port - 1
        yield f"port changed to {number}", replace(port, port=number)
    elif port.port is not None:
        yield f"port {port.port} removed: any port", replace(port, port=None)


def _with(items: tuple[Item, ...], place: int, item: Item) -> tuple[Item, ...]:
    return (*items[:place], item, *items[place + 1 :])


def _without(items: tuple[Item, ...], place: int) -> tuple[Item, ...]:
    return (*items[:place], *items[place + 1 :])
