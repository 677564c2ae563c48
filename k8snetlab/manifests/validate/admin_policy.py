"""ClusterNetworkPolicy, AdminNetworkPolicy and BaselineAdminNetworkPolicy.

Source: the kubebuilder markers of network-policy-api's types, in the words that the API server finds for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from k8snetlab.manifests.api.admin_policy import (
    AdminEgressPeer,
    AdminIngressPeer,
    AdminNetworkPolicy,
    AdminNetworkPolicyEgressRule,
    AdminNetworkPolicyIngressRule,
    AdminNetworkPolicyPort,
    AdminNetworkPolicySpec,
    AdminPortRange,
    AdminSubject,
    BaselineAdminNetworkPolicy,
    BaselineAdminNetworkPolicySpec,
    ClusterNetworkPolicy,
    ClusterNetworkPolicyEgressRule,
    ClusterNetworkPolicyIngressRule,
    ClusterNetworkPolicyProtocol,
    NamespacedPod,
    PortRange,
    ProtocolPorts,
)
from k8snetlab.manifests.api.meta import LabelSelector
from k8snetlab.manifests.decode import Path, Wrong, dotted
from k8snetlab.manifests.validate.addresses import cidr
from k8snetlab.manifests.validate.messages import Wrongs, check, duplicate, invalid, too_many, unsupported
from k8snetlab.manifests.validate.metadata import check_selector

_SPEC: Path = ("spec",)
_CLUSTER_RULES, _ADMIN_RULES = 25, 100  # at most so many rules, peers and ports: v1alpha2, v1alpha1
_NETWORKS = 25
_RULE_NAME = 100
_DOMAIN = r"^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$"


_Peers = Sequence[AdminIngressPeer | AdminEgressPeer]
_ClusterRule = ClusterNetworkPolicyIngressRule | ClusterNetworkPolicyEgressRule
_AdminRule = AdminNetworkPolicyIngressRule | AdminNetworkPolicyEgressRule


def check_cluster_network_policy(policy: ClusterNetworkPolicy) -> Wrongs:
    """A policy of tier Admin or Baseline."""
    spec = policy.spec
    yield from _between((*_SPEC, "priority"), spec.priority, 0, 1000)
    yield from _check_subject(spec.subject)
    yield from _most((*_SPEC, "ingress"), spec.ingress, _CLUSTER_RULES)
    for index, ingress in enumerate(spec.ingress):
        yield from _check_cluster_rule(ingress, (*_SPEC, "ingress", index), "from", ingress.from_)
    yield from _most((*_SPEC, "egress"), spec.egress, _CLUSTER_RULES)
    for index, egress in enumerate(spec.egress):
        yield from _check_cluster_rule(egress, (*_SPEC, "egress", index), "to", egress.to)


def _check_cluster_rule(rule: _ClusterRule, at: Path, key: str, peers: _Peers) -> Wrongs:
    yield from _check_rule(at, rule.name, key, peers, _CLUSTER_RULES)
    yield from _some((*at, "protocols"), rule.protocols, _CLUSTER_RULES)
    for number, protocol in enumerate(rule.protocols or ()):
        yield from _check_protocol(protocol, (*at, "protocols", number))
    named = any(each.destination_named_port is not None for each in rule.protocols or ())
    yield from _no_names(at, peers, named, "networks/nodes/domainNames")
    yield from _accepts_domains(at, rule.action, "Accept", peers)


def check_admin_network_policy(policy: AdminNetworkPolicy) -> Wrongs:
    """A policy of v1alpha1 that stands before the NetworkPolicies."""
    yield from _between((*_SPEC, "priority"), policy.spec.priority, 0, 1000)
    yield from _check_admin_rules(policy.spec)


def check_baseline_admin_network_policy(policy: BaselineAdminNetworkPolicy) -> Wrongs:
    """The only one there may be of v1alpha1 behind the NetworkPolicies."""
    name, spec = policy.metadata.name, policy.spec
    if name and name != "default":
        detail = 'Only one baseline admin network policy with metadata.name="default" can be created in the cluster'
        yield invalid(("metadata", "name"), name, detail)
    yield from _check_admin_rules(spec)
    actions = {"ingress": [r.action for r in spec.ingress], "egress": [r.action for r in spec.egress]}
    for direction, written in actions.items():
        for index, action in enumerate(written):
            if action == "Pass":
                yield unsupported((*_SPEC, direction, index, "action"), action, ("Allow", "Deny"))
    for index, egress in enumerate(spec.egress):
        for number, peer in enumerate(egress.to):
            if peer.domain_names:
                yield Wrong((*_SPEC, "egress", index, "to", number, "domainNames"), "unknown field")


def _check_admin_rules(spec: AdminNetworkPolicySpec | BaselineAdminNetworkPolicySpec) -> Wrongs:
    yield from _check_subject(spec.subject)
    yield from _most((*_SPEC, "ingress"), spec.ingress, _ADMIN_RULES)
    for index, ingress in enumerate(spec.ingress):
        yield from _check_admin_rule(ingress, (*_SPEC, "ingress", index), "from", ingress.from_)
    yield from _most((*_SPEC, "egress"), spec.egress, _ADMIN_RULES)
    for index, egress in enumerate(spec.egress):
        yield from _check_admin_rule(egress, (*_SPEC, "egress", index), "to", egress.to)


def _check_admin_rule(rule: _AdminRule, at: Path, key: str, peers: _Peers) -> Wrongs:
    yield from _check_rule(at, rule.name, key, peers, _ADMIN_RULES)
    yield from _some((*at, "ports"), rule.ports, _ADMIN_RULES)
    for number, port in enumerate(rule.ports or ()):
        yield from _check_port(port, (*at, "ports", number))
    named = any(port.named_port is not None for port in rule.ports or ())
    yield from _no_names(at, peers, named, "networks/nodes")
    yield from _accepts_domains(at, rule.action, "Allow", peers)


def _check_rule(at: Path, name: str, key: str, peers: _Peers, most: int) -> Wrongs:
    if len(name) > _RULE_NAME:
        yield Wrong((*at, "name"), f"Too long: may not be more than {_RULE_NAME} bytes")
    yield from _some((*at, key), peers, most)
    for index, peer in enumerate(peers):
        yield from _check_peer(peer, (*at, key, index))


# --- Whom -------------------------------------------------------------------------------------------------------------


def _check_subject(subject: AdminSubject) -> Wrongs:
    at: Path = (*_SPEC, "subject")
    yield from _one_of(at, (subject.namespaces, subject.pods))
    yield from _check_pods(subject.namespaces, subject.pods, at)


def _check_pods(namespaces: LabelSelector | None, pods: NamespacedPod | None, at: Path) -> Wrongs:
    yield from check_selector(namespaces, (*at, "namespaces"))
    if pods is not None:
        yield from check_selector(pods.namespace_selector, (*at, "pods", "namespaceSelector"))
        yield from check_selector(pods.pod_selector, (*at, "pods", "podSelector"))


def _check_peer(peer: AdminIngressPeer | AdminEgressPeer, at: Path) -> Wrongs:
    yield from _check_pods(peer.namespaces, peer.pods, at)
    if isinstance(peer, AdminIngressPeer):
        yield from _one_of(at, (peer.namespaces, peer.pods))
        return
    networks, domains = peer.networks or None, peer.domain_names or None
    yield from _one_of(at, (peer.namespaces, peer.pods, peer.nodes, networks, domains))
    yield from check_selector(peer.nodes, (*at, "nodes"))
    yield from _check_set((*at, "networks"), peer.networks)
    for index, text in enumerate(peer.networks):
        yield from check((*at, "networks", index), text, cidr(text))
    yield from _check_set((*at, "domainNames"), peer.domain_names)
    for index, name in enumerate(peer.domain_names):
        if not re.fullmatch(_DOMAIN, name):
            yield _in_body((*at, "domainNames", index), name, f"match '{_DOMAIN}'")


def _check_set(at: Path, values: Sequence[str]) -> Wrongs:
    yield from _most(at, values, _NETWORKS)
    for index, value in enumerate(values):
        if value in values[:index]:
            yield duplicate((*at, index), value)


# --- Ports ------------------------------------------------------------------------------------------------------------


def _check_protocol(protocol: ClusterNetworkPolicyProtocol, at: Path) -> Wrongs:
    by_key = {"tcp": protocol.tcp, "udp": protocol.udp, "sctp": protocol.sctp}
    yield from _one_of(at, (*by_key.values(), protocol.destination_named_port))
    for key, ports in by_key.items():
        if ports is not None:
            yield from _check_protocol_ports(ports, (*at, key))


def _check_protocol_ports(ports: ProtocolPorts, at: Path) -> Wrongs:
    yield from _one_of(at, (ports.destination_port,))
    if ports.destination_port is None:
        return
    at = (*at, "destinationPort")
    number, span = ports.destination_port.number, ports.destination_port.range
    yield from _one_of(at, (number, span))
    if number is not None:
        yield from _between((*at, "number"), number, 1, 65535)
    if span is not None:
        yield from _check_range(span, (*at, "range"))


def _check_range(span: PortRange | AdminPortRange, at: Path) -> Wrongs:
    yield from _between((*at, "start"), span.start, 1, 65535)
    yield from _between((*at, "end"), span.end, 1, 65535)
    if span.start >= span.end:
        yield invalid(at, {"start": span.start, "end": span.end}, "Start port must be less than End port")


def _check_port(port: AdminNetworkPolicyPort, at: Path) -> Wrongs:
    yield from _one_of(at, (port.port_number, port.named_port, port.port_range))
    if port.port_number is not None:
        yield from _between((*at, "portNumber", "port"), port.port_number.port, 1, 65535)
    if port.port_range is not None:
        yield from _check_range(port.port_range, (*at, "portRange"))


def _no_names(at: Path, peers: _Peers, named: bool, kinds: str) -> Wrongs:
    """Only pods have names for ports."""
    others = (peer for peer in peers if isinstance(peer, AdminEgressPeer))
    if named and any(peer.networks or peer.nodes is not None or peer.domain_names for peer in others):
        detail = f"{kinds} peer cannot be set with namedPorts since there are no namedPorts for {kinds}"
        yield Wrong(at, f"Invalid value: {detail}")


def _accepts_domains(at: Path, action: str, accept: str, peers: _Peers) -> Wrongs:
    """What a name resolves to is not known for sure: good enough to accept, not to deny."""
    for peer in peers:
        if isinstance(peer, AdminEgressPeer) and peer.domain_names and action != accept:
            yield Wrong(at, f"Invalid value: domainNames is only supported for {accept} rules")
            return


# --- Shapes -----------------------------------------------------------------------------------------------------------


def _one_of(at: Path, values: Sequence[Any]) -> Wrongs:
    given = sum(value is not None for value in values)
    if given != 1:
        yield _in_body(at, given, f"have at {'least' if given < 1 else 'most'} 1 properties")


def _some(at: Path, values: Sequence[Any] | None, most: int) -> Wrongs:
    """A list that has at least one item where it is given."""
    if values is not None and not values:
        yield _in_body(at, 0, "have at least 1 items")
    yield from _most(at, values or (), most)


def _most(at: Path, values: Sequence[Any], most: int) -> Wrongs:
    if len(values) > most:
        yield too_many(at, len(values), most)


def _between(at: Path, value: int, least: int, most: int) -> Wrongs:
    if value < least:
        yield _in_body(at, value, f"be greater than or equal to {least}")
    if value > most:
        yield _in_body(at, value, f"be less than or equal to {most}")


def _in_body(at: Path, value: Any, rule: str) -> Wrong:
    """As go-openapi's validation of a custom resource puts it."""
    return invalid(at, value, f"{dotted(at)} in body should {rule}")
