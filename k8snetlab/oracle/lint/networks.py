"""ipBlocks that match more or less than the addresses outside the cluster that they are made for."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from k8snetlab.cluster.model import IPNetwork
from k8snetlab.manifests.api.networking import IPBlock
from k8snetlab.oracle.lint.subject import Subject, at, rules


def covers_pods(subject: Subject) -> Iterator[str]:
    """A range that pods have addresses of matches them too, whatever their labels."""
    for rule in rules(subject):
        for index, peer in enumerate(rule.peers):
            for network in subject.cluster.config.pod_subnets if peer.ip_block is not None else ():
                if peer.ip_block is not None and _covers(peer.ip_block, network):
                    text = f"covers pods as well: ipBlock {peer.ip_block.cidr} and the pod network {network} overlap"
                    yield f"{rule.peer(index)} {text}{at(peer.source)}"


def never_seen(subject: Subject) -> Iterator[str]:
    """Policies are asked after a Service's address has been translated, and never see one."""
    for rule in rules(subject):
        for index, peer in enumerate(rule.peers):
            block = _parsed(peer.ip_block.cidr) if peer.ip_block is not None else None
            for network in subject.cluster.config.service_subnets if block is not None else ():
                if block is not None and block.version == network.version and _within(block, network):
                    text = (
                        f"never matches: {block} is in the Service network {network}, and policies see the pods behind"
                    )
                    yield f"{rule.peer(index)} {text}{at(peer.source)}"


def _covers(block: IPBlock, network: IPNetwork) -> bool:
    """Some address of the network is in the block and in none of its exceptions. An exception that is a part of the
    network still leaves the rest."""
    cidr = _parsed(block.cidr)
    if cidr.version != network.version or not cidr.overlaps(network):
        return False
    smaller = cidr if cidr.prefixlen > network.prefixlen else network
    return not any(_within(smaller, _parsed(text)) for text in block.except_)


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    same = inner.version == outer.version
    return same and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def _parsed(text: str) -> IPNetwork:
    return ip_network(text, strict=False)
