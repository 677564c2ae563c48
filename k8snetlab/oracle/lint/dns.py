"""Pods whose egress is isolated so far that they cannot ask for a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from k8snetlab.cluster.model import Cluster
from k8snetlab.manifests.api.networking import NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort
from k8snetlab.manifests.selectors import matches
from k8snetlab.oracle.lint.subject import Subject
from k8snetlab.oracle.policy_rules import DirectedPolicies

# The name server as kubeadm installs it, whether the manifests have it or not.
NAMESPACE = "kube-system"
_NAMESPACE_LABELS = {"kubernetes.io/metadata.name": NAMESPACE}
_POD_LABELS = {"k8s-app": "kube-dns"}
_PORT = 53


def no_names(cluster: Cluster, policies: DirectedPolicies, subjects: Sequence[Subject]) -> Iterator[str]:
    """One finding for each policy that isolates a pod which no policy lets reach the name server by UDP."""
    by_name = {subject.name: subject for subject in subjects}
    reaches = {name: _reaches(cluster, subject) for name, subject in by_name.items()}
    told: set[str] = set()
    for (direction, pod), tiers in policies.of_pod.items():
        isolating = [str(policy) for policy in tiers.get("NetworkPolicy", ())]
        # An Admin policy may accept it; nobody who has one needs to be told.
        if direction != "egress" or not isolating or "Admin" in tiers or any(reaches[name] for name in isolating):
            continue
        first = min(isolating)
        if first not in told:
            told.add(first)
            text = f"isolates {pod} for egress, and nothing allows UDP {_PORT} to the name server: names do not resolve"
            yield f"{first} {text}{by_name[first].where}"


def _reaches(cluster: Cluster, subject: Subject) -> bool:
    rules = subject.policy.spec.egress
    return any(_allows(cluster, subject, rule) for rule in rules)


def _allows(cluster: Cluster, subject: Subject, rule: NetworkPolicyEgressRule) -> bool:
    if rule.ports and not any(_is_dns(port) for port in rule.ports):
        return False
    return not rule.to or any(is_name_server(cluster, subject, peer) for peer in rule.to)


def _is_dns(port: NetworkPolicyPort) -> bool:
    if port.protocol != "UDP" or port.port is None:
        return port.protocol == "UDP"
    if isinstance(port.port, str):
        return port.port == "dns"  # as CoreDNS' own manifest calls it
    return port.port <= _PORT <= (port.end_port or port.port)


def is_name_server(cluster: Cluster, subject: Subject, peer: NetworkPolicyPeer) -> bool:
    """Whether the peer matches the name server, a pod of kube-system with CoreDNS' label; an ipBlock may do so where
    it has pods in it."""
    if peer.ip_block is not None:
        pods = cluster.config.pod_subnets
        block = ip_network(peer.ip_block.cidr, strict=False)
        return any(block.version == network.version and block.overlaps(network) for network in pods)
    labels = cluster.namespaces.get(NAMESPACE, _NAMESPACE_LABELS)
    if peer.namespace_selector is None:
        if subject.namespace != NAMESPACE:
            return False
    elif not matches(peer.namespace_selector, labels):
        return False
    return peer.pod_selector is None or matches(peer.pod_selector, _POD_LABELS)
