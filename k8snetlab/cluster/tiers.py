"""ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy read as one kind of policy, in their order.

Nothing is decided here: the three only differ in how the same thing is written. AdminNetworkPolicy became the tier
Admin and BaselineAdminNetworkPolicy the tier Baseline of ClusterNetworkPolicy (network-policy-api, NPEP-259).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Literal

from k8snetlab.cluster.model import AdminPolicy, Cluster, IPNetwork
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.manifests.api import admin_policy as api
from k8snetlab.manifests.api.meta import LabelSelector, Protocol

PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodChoice:
    """Pods without hostNetwork that both selectors match."""

    namespaces: LabelSelector
    pods: LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPeer:
    """One of: some pods; nodes by their addresses; networks; names, which the lab cannot resolve to addresses."""

    pods: PodChoice | None = None
    nodes: LabelSelector | None = None
    networks: tuple[IPNetwork, ...] = ()
    domain_names: tuple[str, ...] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPort:
    """Ports `first` to `last` of one protocol, or the port that the destination pod calls `name`, of any protocol."""

    protocol: Protocol = "TCP"
    first: int = 0
    last: int = 0
    name: str = ""
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredRule:
    """`ports` None means every port and protocol. `index` is its place among the rules of its direction."""

    index: int
    name: str
    action: api.Action
    peers: tuple[TieredPeer, ...]
    ports: tuple[TieredPort, ...] | None
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredPolicy:
    """A policy of one tier. The first rule of a direction that matches decides what this policy says."""

    kind: Literal["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"]
    name: str
    tier: api.Tier
    priority: int
    subject: PodChoice
    ingress: tuple[TieredRule, ...]
    egress: tuple[TieredRule, ...]
    source: Source | None = None


def tiered_policies(cluster: Cluster) -> tuple[TieredPolicy, ...]:
    """All of them in the order in which they are asked: tier Admin before Baseline, low priority numbers first.

    What Kubernetes leaves open (two of equal priority) is decided by name, so that it is always the same.
    """
    found = [_tiered(policy) for policy in cluster.admin_policies]
    return tuple(sorted(found, key=lambda each: (each.tier != "Admin", each.priority, each.name, each.kind)))


def _tiered(policy: AdminPolicy) -> TieredPolicy:
    if isinstance(policy, api.ClusterNetworkPolicy):
        return TieredPolicy(
            kind="ClusterNetworkPolicy",
            name=policy.metadata.name,
            tier=policy.spec.tier,
            priority=policy.spec.priority,
            subject=_chosen(policy.spec.subject),
            ingress=tuple(_rule(n, rule, rule.from_) for n, rule in enumerate(policy.spec.ingress)),
            egress=tuple(_rule(n, rule, rule.to) for n, rule in enumerate(policy.spec.egress)),
            source=policy.source,
        )
    baseline = isinstance(policy, api.BaselineAdminNetworkPolicy)
    return TieredPolicy(
        kind="BaselineAdminNetworkPolicy" if baseline else "AdminNetworkPolicy",
        name=policy.metadata.name,
        tier="Baseline" if baseline else "Admin",
        priority=0 if isinstance(policy, api.BaselineAdminNetworkPolicy) else policy.spec.priority,
        subject=_chosen(policy.spec.subject),
        ingress=tuple(_rule(n, rule, rule.from_) for n, rule in enumerate(policy.spec.ingress)),
        egress=tuple(_rule(n, rule, rule.to) for n, rule in enumerate(policy.spec.egress)),
        source=policy.source,
    )


Written = (
    api.ClusterNetworkPolicyIngressRule
    | api.ClusterNetworkPolicyEgressRule
    | api.AdminNetworkPolicyIngressRule
    | api.AdminNetworkPolicyEgressRule
)


def _rule(
    index: int, rule: Written, peers: tuple[api.AdminIngressPeer, ...] | tuple[api.AdminEgressPeer, ...]
) -> TieredRule:
    ports: list[TieredPort] | None
    if isinstance(rule, api.ClusterNetworkPolicyIngressRule | api.ClusterNetworkPolicyEgressRule):
        ports = None if rule.protocols is None else [port for each in rule.protocols for port in _protocol(each)]
    else:
        ports = None if rule.ports is None else [_port(each) for each in rule.ports]
    return TieredRule(
        index=index,
        name=rule.name,
        action="Accept" if rule.action == "Allow" else rule.action,
        peers=tuple(_peer(peer) for peer in peers),
        ports=None if ports is None else tuple(ports),
        source=rule.source,
    )


def _chosen(either: api.AdminSubject | api.AdminIngressPeer | api.AdminEgressPeer) -> PodChoice:
    if either.pods is not None:
        return PodChoice(namespaces=either.pods.namespace_selector, pods=either.pods.pod_selector)
    assert either.namespaces is not None, "exactly one is set"
    return PodChoice(namespaces=either.namespaces, pods=LabelSelector())


def _peer(peer: api.AdminIngressPeer | api.AdminEgressPeer) -> TieredPeer:
    if isinstance(peer, api.AdminIngressPeer) or peer.pods is not None or peer.namespaces is not None:
        return TieredPeer(pods=_chosen(peer), source=peer.source)
    networks = tuple(ip_network(text, strict=False) for text in peer.networks)
    return TieredPeer(nodes=peer.nodes, networks=networks, domain_names=peer.domain_names, source=peer.source)


def _protocol(written: api.ClusterNetworkPolicyProtocol) -> Iterator[TieredPort]:
    if written.destination_named_port is not None:
        yield TieredPort(name=written.destination_named_port, source=written.source)
    for protocol, ports in zip(PROTOCOLS, (written.tcp, written.udp, written.sctp), strict=True):
        if ports is None or ports.destination_port is None:
            continue
        number, span = ports.destination_port.number, ports.destination_port.range
        if number is not None:
            yield TieredPort(protocol=protocol, first=number, last=number, source=written.source)
        if span is not None:
            yield TieredPort(protocol=protocol, first=span.start, last=span.end, source=written.source)


def _port(written: api.AdminNetworkPolicyPort) -> TieredPort:
    if written.port_number is not None:
        number = written.port_number
        return TieredPort(protocol=number.protocol, first=number.port, last=number.port, source=written.source)
    if written.port_range is not None:
        span = written.port_range
        return TieredPort(protocol=span.protocol, first=span.start, last=span.end, source=written.source)
    return TieredPort(name=written.named_port or "", source=written.source)
