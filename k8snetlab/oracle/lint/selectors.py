"""Selectors that choose everybody or nobody, and rules and directions that are not what they look like."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.manifests.api.networking import NetworkPolicyPeer
from k8snetlab.oracle.lint.dns import is_name_server
from k8snetlab.oracle.lint.subject import EVERY, Subject, at, chosen, rules
from k8snetlab.oracle.policy_rules import directions


def selects_nobody(subject: Subject) -> Iterator[str]:
    """A policy for no pod; often its namespace is wrong, or forgotten."""
    if not subject.selected:
        elsewhere = subject.choose.in_namespaces(EVERY, subject.policy.spec.pod_selector)
        hint = f": {min(elsewhere)} would match, but is not in its namespace" if elsewhere else ""
        yield f"{subject.name} selects no pod{hint}{subject.where}"


def ignored_rules(subject: Subject) -> Iterator[str]:
    """Rules of a direction that policyTypes does not list are void."""
    spec, effective = subject.policy.spec, directions(subject.policy)
    if spec.ingress and "ingress" not in effective:
        yield f"{subject.name}: its ingress rules are ignored: policyTypes has no Ingress{at(spec.ingress[0].source)}"
    if spec.egress and "egress" not in effective:
        yield f"{subject.name}: its egress rules are ignored: policyTypes has no Egress{at(spec.egress[0].source)}"


def isolates_ingress_too(subject: Subject) -> Iterator[str]:
    """Ingress is always among the defaults of policyTypes."""
    spec = subject.policy.spec
    if spec.egress and not spec.ingress and not spec.policy_types and subject.selected:
        yield f"{subject.name} denies all ingress too: it has only egress rules but no policyTypes{subject.where}"


def matches_everybody(subject: Subject) -> Iterator[str]:
    """What is empty matches everything: all the world, or all pods of all namespaces."""
    for rule in rules(subject):
        if not rule.peers and not rule.ports:
            what = "everybody on every port, inside the cluster and outside"
            yield f"{rule} is empty: it allows {what}{at(rule.source)}"
        for index, peer in enumerate(rule.peers):
            if peer.namespace_selector == EVERY and peer.pod_selector in (None, EVERY):
                pods = len(subject.choose.in_namespaces(EVERY, EVERY))
                text = f"has an empty namespaceSelector: it matches all {pods} pods of every namespace"
                yield f"{rule.peer(index)} {text}{at(peer.source)}"


def matches_nobody(subject: Subject) -> Iterator[str]:
    """Selectors that no pod has the labels for."""
    for rule in rules(subject):
        for index, peer in enumerate(rule.peers):
            if peer.ip_block is not None or chosen(subject, peer):
                continue
            if not is_name_server(subject.cluster, subject, peer):  # which the lab has without a manifest
                yield f"{rule.peer(index)} matches no pod{_why(subject, peer)}{at(peer.source)}"


def _why(subject: Subject, peer: NetworkPolicyPeer) -> str:
    if peer.namespace_selector is not None and not subject.choose.namespaces(peer.namespace_selector):
        return ": no namespace has the labels that its namespaceSelector asks for"
    if peer.pod_selector is None:
        return ""
    elsewhere = subject.choose.in_namespaces(EVERY, peer.pod_selector)
    if not elsewhere:
        return ""
    where = "a namespace that matches" if peer.namespace_selector is not None else f"namespace {subject.namespace}"
    return f": {min(elsewhere)} has the labels, but is not in {where}"
