"""The policies of a cluster made ready to judge by: whom each one selects, and what each of its rules matches.

Read from the API alone: NetworkPolicy (k8s.io/api/networking/v1, types.go) and ClusterNetworkPolicy with its
forerunners (network-policy-api, apis/v1alpha2). Nothing here knows how a policy is enforced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Literal

from k8snetlab.cluster.model import Cluster, IPNetwork
from k8snetlab.cluster.tiers import TieredPeer, TieredPolicy, TieredPort, TieredRule, tiered_policies
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api.admin_policy import Action
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.api.networking import NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from k8snetlab.manifests.selectors import matches
from k8snetlab.oracle.choose import Chooser, Keys, chooser
from k8snetlab.oracle.parties import Party

Direction = Literal["ingress", "egress"]
Tier = Literal["Admin", "NetworkPolicy", "Baseline"]
PolicyProtocol = Literal["TCP", "UDP", "SCTP", "ICMP"]

_EVERY = LabelSelector()


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Matches a party that is one of `pods`, has an address in `networks` and in none of `excepts`, or is a node of
    `nodes`. One of the three is asked for; a peer of which nothing is known (domain names) has none and matches nobody.
    """

    pods: Keys = frozenset()
    networks: tuple[IPNetwork, ...] = ()
    excepts: tuple[IPNetwork, ...] = ()
    nodes: Keys = frozenset()
    source: Source | None = None

    def matches(self, party: Party) -> bool:
        """Networks match addresses of pods as well; one of the other family is never in them."""
        if party.pod is not None and party.pod.key in self.pods:
            return True
        if self.nodes:
            return party.pod is None and party.node in self.nodes
        inside = any(party.address in network for network in self.networks)
        return inside and not any(party.address in hole for hole in self.excepts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Ports `first` to `last` of a protocol, or the port that the destination pod calls `name`; protocol None: any."""

    protocol: PolicyProtocol | None
    first: int = 1
    last: int = 65535
    name: str = ""
    source: Source | None = None

    def matches(self, destination: Party, protocol: PolicyProtocol, port: int) -> bool:
        """A name is looked up in the destination pod, for egress too: who is no pod has no names for its ports."""
        if self.protocol not in (None, protocol) or protocol == "ICMP":
            return False
        if not self.name:
            return self.first <= port <= self.last
        containers = destination.pod.containers if destination.pod is not None else ()
        return any(
            (each.name, each.protocol, each.container_port) == (self.name, protocol, port)
            for container in containers
            for each in container.ports
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `peers` None: anybody at all; `ports` None: any port of any protocol, ICMP among them."""

    index: int
    action: Action
    peers: tuple[Peer, ...] | None
    ports: tuple[Port, ...] | None
    name: str = ""
    source: Source | None = None

    def matches(self, peer: Party, destination: Party, protocol: PolicyProtocol, port: int) -> bool:
        """Peers are ORed, ports are ORed, and both must match."""
        return self.matches_peer(peer) and self.matches_port(destination, protocol, port)

    def matches_peer(self, peer: Party) -> bool:
        return self.peers is None or any(each.matches(peer) for each in self.peers)

    def matches_port(self, destination: Party, protocol: PolicyProtocol, port: int) -> bool:
        return self.ports is None or any(each.matches(destination, protocol, port) for each in self.ports)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectedPolicy:
    """A policy in one direction: the pods it selects and its rules, in their order. `name` is `ns/name` for a
    NetworkPolicy."""

    kind: str
    name: str
    tier: Tier
    direction: Direction
    subjects: Keys
    rules: tuple[Rule, ...]
    priority: int = 0  # of an admin policy
    source: Source | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class DirectedPolicies:
    """By direction and pod: its policies of each tier, in the order in which they are asked."""

    all: tuple[DirectedPolicy, ...]
    of_pod: Mapping[tuple[Direction, str], Mapping[Tier, tuple[DirectedPolicy, ...]]]

    def selecting(self, direction: Direction, pod: str, tier: Tier) -> tuple[DirectedPolicy, ...]:
        return self.of_pod.get((direction, pod), {}).get(tier, ())


def read_policies(cluster: Cluster) -> DirectedPolicies:
    """Every policy of the cluster, ready for any number of judgements."""
    if not cluster.network_policies and not cluster.admin_policies:
        return DirectedPolicies((), {})
    choose = chooser(cluster)
    found: list[DirectedPolicy] = []
    for policy in cluster.network_policies:
        found += _network_policy(choose, policy)
    for tiered in tiered_policies(cluster):
        found += _tiered_policy(choose, tiered)
    return DirectedPolicies(tuple(found), _by_pod(found))


def _by_pod(found: Iterable[DirectedPolicy]) -> dict[tuple[Direction, str], dict[Tier, tuple[DirectedPolicy, ...]]]:
    index: defaultdict[tuple[Direction, str], dict[Tier, tuple[DirectedPolicy, ...]]] = defaultdict(dict)
    for policy in found:
        for pod in policy.subjects:
            mine = index[policy.direction, pod]
            mine[policy.tier] = (*mine.get(policy.tier, ()), policy)
    return dict(index)


# --- NetworkPolicy ----------------------------------------------------------------------------------------------------


def directions(policy: NetworkPolicy) -> tuple[Direction, ...]:
    """The directions in which a policy isolates. Not said: ingress, and egress too if it has rules for that, so that a
    policy of nothing but egress rules isolates ingress as well. Rules of a direction that is not listed are void."""
    spec = policy.spec
    types = spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))
    found: list[Direction] = []
    if "Ingress" in types:
        found.append("ingress")
    if "Egress" in types:
        found.append("egress")
    return tuple(found)


def _network_policy(choose: Chooser, policy: NetworkPolicy) -> Iterable[DirectedPolicy]:
    namespace = policy.metadata.namespace
    subjects = choose.in_namespace(namespace, policy.spec.pod_selector)
    written = {
        "ingress": [(rule.from_, rule.ports, rule.source) for rule in policy.spec.ingress],
        "egress": [(rule.to, rule.ports, rule.source) for rule in policy.spec.egress],
    }
    for direction in directions(policy):
        yield DirectedPolicy(
            kind="NetworkPolicy",
            name=f"{namespace}/{policy.metadata.name}",
            tier="NetworkPolicy",
            direction=direction,
            subjects=subjects,
            rules=tuple(
                Rule(
                    index=index,
                    action="Accept",
                    # An empty list is as good as none: anybody, any port.
                    peers=tuple(_policy_peer(choose, namespace, peer) for peer in peers) or None,
                    ports=tuple(_policy_port(port) for port in ports) or None,
                    source=source,
                )
                for index, (peers, ports, source) in enumerate(written[direction])
            ),
            source=policy.source,
        )


def _policy_peer(choose: Chooser, namespace: str, peer: NetworkPolicyPeer) -> Peer:
    """Selectors choose pods: of the policy's own namespace when only podSelector is given, all of the namespaces when
    only namespaceSelector is, and both must match when both are."""
    if peer.ip_block is not None:
        return Peer(
            networks=(ip_network(peer.ip_block.cidr, strict=False),),
            excepts=tuple(ip_network(text, strict=False) for text in peer.ip_block.except_),
            source=peer.source,
        )
    if peer.namespace_selector is None:
        assert peer.pod_selector is not None, "an empty peer is refused"
        return Peer(pods=choose.in_namespace(namespace, peer.pod_selector), source=peer.source)
    pods = peer.pod_selector if peer.pod_selector is not None else _EVERY
    return Peer(pods=choose.in_namespaces(peer.namespace_selector, pods), source=peer.source)


def _policy_port(port: NetworkPolicyPort) -> Port:
    """Without a number: every port of the protocol, which is TCP when it is not given."""
    if isinstance(port.port, str):
        return Port(protocol=port.protocol, name=port.port, source=port.source)
    if port.port is None:
        return Port(protocol=port.protocol, source=port.source)
    return Port(protocol=port.protocol, first=port.port, last=port.end_port or port.port, source=port.source)


# --- Admin policies ---------------------------------------------------------------------------------------------------


def _tiered_policy(choose: Chooser, policy: TieredPolicy) -> Iterable[DirectedPolicy]:
    """A policy without rules for a direction does nothing in it: unlike a NetworkPolicy it does not isolate."""
    subjects = choose.in_namespaces(policy.subject.namespaces, policy.subject.pods)
    both: tuple[tuple[Direction, tuple[TieredRule, ...]], ...] = (
        ("ingress", policy.ingress),
        ("egress", policy.egress),
    )
    for direction, rules in both:
        if rules:
            yield DirectedPolicy(
                kind=policy.kind,
                name=policy.name,
                tier=policy.tier,
                direction=direction,
                subjects=subjects,
                rules=tuple(_tiered_rule(choose, rule) for rule in rules),
                priority=policy.priority,
                source=policy.source,
            )


def _tiered_rule(choose: Chooser, rule: TieredRule) -> Rule:
    return Rule(
        index=rule.index,
        action=rule.action,
        peers=tuple(_tiered_peer(choose, peer) for peer in rule.peers),
        ports=None if rule.ports is None else tuple(_tiered_port(port) for port in rule.ports),
        name=rule.name,
        source=rule.source,
    )


def _tiered_peer(choose: Chooser, peer: TieredPeer) -> Peer:
    """Domain names fail closed: only an Accept rule may have them, and it then matches nothing."""
    if peer.pods is not None:
        return Peer(pods=choose.in_namespaces(peer.pods.namespaces, peer.pods.pods), source=peer.source)
    if peer.nodes is not None:
        nodes = frozenset(node.name for node in choose.cluster.nodes if matches(peer.nodes, node.labels))
        return Peer(nodes=nodes, source=peer.source)
    return Peer(networks=peer.networks, source=peer.source)


def _tiered_port(port: TieredPort) -> Port:
    if port.name:
        return Port(protocol=None, name=port.name, source=port.source)
    return Port(protocol=port.protocol, first=port.first, last=port.last, source=port.source)
