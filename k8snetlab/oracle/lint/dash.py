"""The dash that makes AND of OR: two selectors in one item must both match, in two items one is enough.

- namespaceSelector: {…}            - namespaceSelector: {…}
  podSelector: {…}      (AND)       - podSelector: {…}         (OR, and the pods are of the own namespace)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from k8snetlab.manifests.api.networking import NetworkPolicyPeer
from k8snetlab.oracle.choose import Keys
from k8snetlab.oracle.lint.subject import RuleOf, Subject, at, chosen, rules


def either_or_both(subject: Subject) -> Iterator[str]:
    """Where the two readings differ, with a pair of pods for which they do: the two items that would be narrower as
    one, and the one that matches nobody and would not as two."""
    for rule in rules(subject):
        for index, (one, other) in enumerate(zip(rule.peers, rule.peers[1:], strict=False)):
            yield from _two(rule, index, one, other)
        for index, peer in enumerate(rule.peers):
            yield from _one(rule, index, peer)


def _two(rule: RuleOf, index: int, one: NetworkPolicyPeer, other: NetworkPolicyPeer) -> Iterator[str]:
    by_namespace, by_pod = (one, other) if one.pod_selector is None else (other, one)
    if by_namespace.namespace_selector is None or by_namespace.pod_selector is not None:
        return
    if by_pod.pod_selector is None or by_pod.namespace_selector is not None:
        return
    both = replace(by_namespace, pod_selector=by_pod.pod_selector)
    # What another item matches anyway does not hang on this dash.
    rest = _rest(rule, (one, other))
    more = (chosen(rule.subject, one) | chosen(rule.subject, other)) - chosen(rule.subject, both) - rest
    pair = _pair(rule, more)
    if pair:
        text = f"{rule.key}[{index}] and {rule.key}[{index + 1}] match either: {pair} is allowed, and would not be if"
        yield f"{rule} {text} both selectors stood in one item, without the second dash{at(other.source)}"


def _one(rule: RuleOf, index: int, peer: NetworkPolicyPeer) -> Iterator[str]:
    if peer.namespace_selector is None or peer.pod_selector is None or chosen(rule.subject, peer):
        return
    either = chosen(rule.subject, replace(peer, pod_selector=None)) | chosen(
        rule.subject, replace(peer, namespace_selector=None)
    )
    pair = _pair(rule, either - _rest(rule, (peer,)))
    if pair:
        text = f"matches only what both selectors match: {pair} is not allowed by it, and would be if"
        yield f"{rule.peer(index)} {text} they stood in two items, each with a dash{at(peer.source)}"


def _rest(rule: RuleOf, without: tuple[NetworkPolicyPeer, ...]) -> Keys:
    others = [peer for peer in rule.peers if not any(peer is each for each in without) and peer.ip_block is None]
    return frozenset(key for peer in others for key in chosen(rule.subject, peer))


def _pair(rule: RuleOf, peers: Keys) -> str:
    """`shop/web to shop/db`: the first peer with the first other pod that the policy selects."""
    for peer in sorted(peers):
        subject = min((key for key in rule.subject.selected if key != peer), default="")
        if subject:
            return f"{peer} to {subject}" if rule.direction == "ingress" else f"{subject} to {peer}"
    return ""
