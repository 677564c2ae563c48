"""Which peers and ports may talk to a pod: NetworkPolicies and admin policies with every selector looked up.

This is what an enforcing engine needs, whatever it writes: pods under exactly the same policies are one `Combination`,
and what a policy says is written once, however many pods it selects. Peers are sets of addresses, one for each distinct
selector, so a pod that comes, goes or changes a label changes sets and no rule.

Sources: Kubernetes API, networking.k8s.io/v1 NetworkPolicySpec; network-policy-api, ClusterNetworkPolicySpec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from k8snetlab.cluster.model import Cluster, Pod
from k8snetlab.cluster.policy_peers import (
    ALL_PORTS,
    PROTOCOLS,
    Block,
    Direction,
    Peer,
    PeerIndex,
    PortSet,
    PortSpan,
    block,
    named_port,
)
from k8snetlab.cluster.tiers import TieredPeer, TieredPolicy, TieredPort, TieredRule, tiered_policies
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api import networking
from k8snetlab.manifests.api.admin_policy import Action
from k8snetlab.manifests.api.meta import LabelSelector

DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
EVERYTHING = LabelSelector()


@dataclass(frozen=True, slots=True)
class Match:
    """One peer on one port; None is any. Both hold, or the rule does not match by this."""

    peer: Peer | None = None
    port: PortSpan | PortSet | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with all the ways to match it; `name` is `ns/policy ingress[0]`, of an admin policy `cluster/policy …`."""

    name: str
    action: Action
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """What one policy says of one direction. `name` is `ns/policy`, or `cluster/policy` with `kind` before it."""

    name: str
    direction: Direction
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """The pods that are under exactly these policies in a direction, and the policies in the order they are asked.

    With any in `network` the pod is isolated: what none of them allows is dropped, and `baseline` is never asked.
    """

    direction: Direction
    admin: tuple[PolicyRules, ...]
    network: tuple[PolicyRules, ...]
    baseline: tuple[PolicyRules, ...]
    pods: tuple[Pod, ...]

    @property
    def isolated(self) -> bool:
        return bool(self.network)

    @property
    def key(self) -> str:
        """The same for the same policies, whichever pods there are."""
        parts = (" ".join(policy.name for policy in tier) for tier in (self.admin, self.network, self.baseline))
        return f"{self.direction}: {' | '.join(parts)}"


def combinations(cluster: Cluster) -> tuple[Combination, ...]:
    """Every combination of policies that some pod is under; pods without any are in none."""
    if not cluster.network_policies and not cluster.admin_policies:
        return ()
    index = PeerIndex(cluster)
    found: list[Combination] = []
    for direction in DIRECTIONS:
        policies = [*_network(index, direction), *_tiered(index, direction)]
        by_pod: dict[str, list[int]] = {}
        pods: dict[str, Pod] = {}
        for number, (_, _, selected) in enumerate(policies):
            for pod in selected:
                by_pod.setdefault(pod.key, []).append(number)
                pods[pod.key] = pod
        groups: dict[tuple[int, ...], list[Pod]] = {}
        for key in sorted(by_pod):
            groups.setdefault(tuple(by_pod[key]), []).append(pods[key])
        for numbers, members in groups.items():
            tiers: dict[str, list[PolicyRules]] = {"Admin": [], "Network": [], "Baseline": []}
            for number in numbers:
                tier, rules, _ = policies[number]
                tiers[tier].append(rules)
            admin, network, baseline = (tuple(tiers[tier]) for tier in ("Admin", "Network", "Baseline"))
            found.append(Combination(direction, admin, network, () if network else baseline, tuple(members)))
    return tuple(found)


WrittenRule = networking.NetworkPolicyIngressRule | networking.NetworkPolicyEgressRule
Selected = tuple[str, PolicyRules, tuple[Pod, ...]]  # tier, what it says, for whom


def policy_types(spec: networking.NetworkPolicySpec) -> tuple[str, ...]:
    """Ingress always when nothing is said, Egress when there are egress rules (conformance NETPOL 10)."""
    return spec.policy_types or (("Ingress", "Egress") if spec.egress else ("Ingress",))


def _network(index: PeerIndex, direction: Direction) -> Iterator[Selected]:
    for policy in index.cluster.network_policies:
        spec, namespace = policy.spec, policy.metadata.namespace
        if direction.capitalize() not in policy_types(spec):
            continue
        pods = index.pods(namespace, spec.pod_selector)
        if not pods:
            continue
        name = f"{namespace}/{policy.metadata.name}"
        written: Sequence[WrittenRule] = spec.ingress if direction == "ingress" else spec.egress
        rules = tuple(
            Rule(
                f"{name} {direction}[{number}]",
                "Accept",
                tuple(_matches(index, namespace, direction, rule, name, pods)),
            )
            for number, rule in enumerate(written)
        )
        yield "Network", PolicyRules(name, direction, rules), pods


def _matches(
    index: PeerIndex,
    namespace: str,
    direction: Direction,
    rule: WrittenRule,
    name: str,
    selected: tuple[Pod, ...],
) -> Iterator[Match]:
    """Every peer with every port. No peer is any peer, no port is any port of any protocol (NETPOL 15, 27)."""
    peers = rule.from_ if isinstance(rule, networking.NetworkPolicyIngressRule) else rule.to
    for peer in peers or (None,):
        for port in rule.ports or (None,):
            if port is not None and isinstance(port.port, str):
                target = _destinations(index, namespace, peer) if direction == "egress" else (name, selected)
                if target is not None:
                    found = named_port(port.port, (port.protocol,), *target)
                    yield Match(_peer(index, namespace, peer) if direction == "ingress" else None, found)
            else:
                yield Match(_peer(index, namespace, peer), _span(port))


def _peer(index: PeerIndex, namespace: str, peer: networking.NetworkPolicyPeer | None) -> Peer | None:
    if peer is None:
        return None
    if peer.ip_block is not None:
        return block(peer.ip_block)
    return index.addresses(*_scope(namespace, peer))


def _destinations(
    index: PeerIndex, namespace: str, peer: networking.NetworkPolicyPeer | None
) -> tuple[str, tuple[Pod, ...]] | None:
    """In which pods a named port of an egress rule is looked up. Addresses of a block have no names (NETPOL 28)."""
    if peer is None:
        return "everybody", index.everybody
    if peer.ip_block is not None:
        return None
    scope = _scope(namespace, peer)
    return index.addresses(*scope).key, index.pods(*scope)


def _scope(namespace: str, peer: networking.NetworkPolicyPeer) -> tuple[str | LabelSelector, LabelSelector]:
    """Without a namespace selector the policy's own namespace; without a pod selector all pods (NETPOL 17-20)."""
    where = namespace if peer.namespace_selector is None else peer.namespace_selector
    return where, peer.pod_selector or EVERYTHING


def _span(port: networking.NetworkPolicyPort | None) -> PortSpan | None:
    if port is None:
        return None
    if port.port is None:
        return PortSpan(port.protocol, *ALL_PORTS)
    first = int(port.port)
    return PortSpan(port.protocol, first, port.end_port or first)


def _tiered(index: PeerIndex, direction: Direction) -> Iterator[Selected]:
    for policy in tiered_policies(index.cluster):
        written = policy.ingress if direction == "ingress" else policy.egress
        pods = index.pods(policy.subject.namespaces, policy.subject.pods)
        if not written or not pods:
            continue
        name = f"cluster/{policy.name}"
        rules = tuple(
            Rule(
                f"{name} {direction}[{rule.index}]",
                rule.action,
                tuple(_tiered_matches(index, direction, rule, f"{policy.kind} {name}", pods)),
            )
            for rule in written
        )
        yield policy.tier, PolicyRules(_tiered_name(policy), direction, rules), pods


def _tiered_name(policy: TieredPolicy) -> str:
    """Policies of different kinds may have the same name."""
    return f"{policy.kind}:cluster/{policy.name}"


def _tiered_matches(
    index: PeerIndex, direction: Direction, rule: TieredRule, name: str, selected: tuple[Pod, ...]
) -> Iterator[Match]:
    for peer in rule.peers:
        for port in rule.ports if rule.ports is not None else (None,):
            if port is not None and port.name:
                yield from _tiered_named(index, direction, peer, port, name, selected)
            else:
                span = None if port is None else PortSpan(port.protocol, port.first, port.last)
                for each in _tiered_peers(index, peer):
                    yield Match(each, span)


def _tiered_named(
    index: PeerIndex, direction: Direction, peer: TieredPeer, port: TieredPort, name: str, selected: tuple[Pod, ...]
) -> Iterator[Match]:
    """A port by name, of any protocol, in the destination pods; what is no pod has no names."""
    if direction == "ingress":
        found = named_port(port.name, PROTOCOLS, name, selected)
        for each in _tiered_peers(index, peer):
            yield Match(each, found)
    elif peer.pods is not None:
        scope = peer.pods.namespaces, peer.pods.pods
        key = index.addresses(*scope).key
        yield Match(None, named_port(port.name, PROTOCOLS, key, index.pods(*scope)))


def _tiered_peers(index: PeerIndex, peer: TieredPeer) -> Iterator[Peer]:
    """Names of domains stand for no address that the lab could know: such a rule, which may only accept, matches
    nothing (conformance CNP 6)."""
    if peer.pods is not None:
        yield index.addresses(peer.pods.namespaces, peer.pods.pods)
    if peer.nodes is not None:
        yield index.nodes(peer.nodes)
    for network in peer.networks:
        yield Block(network)
