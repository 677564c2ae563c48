"""Peers and ports of policies looked up: which addresses a selector stands for, which numbers a named port has.

Looked up by label, not by trying every selector on every pod: 1,000 policies over 1,000 pods stay cheap. Equal
selectors give the same set, so that an engine keeps it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_network
from typing import Literal

from k8snetlab.cluster.endpoints import find_port
from k8snetlab.cluster.model import Cluster, IPAddress, IPNetwork, Pod
from k8snetlab.cluster.selection import index_by_label
from k8snetlab.manifests.api import networking
from k8snetlab.manifests.api.meta import LabelSelector, Protocol
from k8snetlab.manifests.selectors import matches

Direction = Literal["ingress", "egress"]
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")
ALL_PORTS = (0, 65535)


@dataclass(frozen=True, slots=True)
class AddressSet:
    """The addresses, of all families, of what a selector stands for; `key` says which, in one way only."""

    key: str
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The addresses of a network but for those of some networks inside it."""

    network: IPNetwork
    excepts: tuple[IPNetwork, ...] = ()


@dataclass(frozen=True, slots=True)
class PortSpan:
    """Ports `first` to `last` of a protocol; 0 to 65535 is all it has."""

    protocol: Protocol
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PortSet:
    """Where a named port is: address, protocol and number in each pod that has a port of this name."""

    key: str
    entries: tuple[tuple[IPAddress, Protocol, int], ...]


Peer = AddressSet | Block


def selector_key(selector: LabelSelector) -> str:
    """A selector in one line, as kubectl writes it; the same for equal selectors. Empty for one that matches all."""
    labels = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    expressions = [
        f"{each.key} {each.operator} {','.join(sorted(each.values))}".rstrip() for each in selector.match_expressions
    ]
    return ";".join((*labels, *sorted(expressions)))


class PeerIndex:
    """The pods of a cluster that policies can select, found by label; each selector is looked up once.

    A pod with hostNetwork is the node to everybody who sees its packets: no selector finds it (conformance NETPOL 38).
    One that has ended has given its address back (NETPOL 35).
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._by_namespace: dict[str, list[Pod]] = {name: [] for name in cluster.namespaces}
        pods = [pod for pod in cluster.pods if not pod.host_network and pod.phase not in ("Failed", "Succeeded")]
        for pod in pods:
            self._by_namespace.setdefault(pod.namespace, []).append(pod)
        self._by_label = index_by_label(pods)
        self._found: dict[str, tuple[Pod, ...]] = {}
        self._sets: dict[str, AddressSet] = {}

    @cached_property
    def everybody(self) -> tuple[Pod, ...]:
        return tuple(pod for pods in self._by_namespace.values() for pod in pods)

    def pods(self, namespaces: str | LabelSelector, selector: LabelSelector) -> tuple[Pod, ...]:
        """Those that `selector` matches in one namespace, given by name, or in all that a selector matches."""
        key = _key(namespaces, selector)
        found = self._found.get(key)
        if found is None:
            names = (namespaces,) if isinstance(namespaces, str) else self._matching(namespaces)
            found = tuple(
                pod for name in names for pod in self._candidates(name, selector) if matches(selector, pod.labels)
            )
            self._found[key] = found
        return found

    def addresses(self, namespaces: str | LabelSelector, selector: LabelSelector) -> AddressSet:
        """The addresses of the same."""
        key = _key(namespaces, selector)
        found = self._sets.get(key)
        if found is None:
            found = AddressSet(key, tuple(ip for pod in self.pods(namespaces, selector) for ip in pod.ips))
            self._sets[key] = found
        return found

    def nodes(self, selector: LabelSelector) -> AddressSet:
        """The addresses of the nodes that a selector matches, which are also those of hostNetwork pods."""
        found = [ip for node in self.cluster.nodes if matches(selector, node.labels) for ip in node.addresses]
        return AddressSet(f"nodes {selector_key(selector)}", tuple(found))

    def _matching(self, selector: LabelSelector) -> Iterator[str]:
        return (name for name in self._by_namespace if matches(selector, self.cluster.namespaces.get(name, {})))

    def _candidates(self, namespace: str, selector: LabelSelector) -> Sequence[Pod]:
        """The pods that have the rarest of the labels asked for."""
        if not selector.match_labels:
            return self._by_namespace.get(namespace, ())
        wanted = selector.match_labels.items()
        return min((self._by_label.get((namespace, key, value), ()) for key, value in wanted), key=len)


def block(written: networking.IPBlock) -> Block:
    excepts = tuple(ip_network(text, strict=False) for text in written.except_)
    return Block(ip_network(written.cidr, strict=False), excepts)


def named_port(name: str, protocols: Iterable[Protocol], key: str, pods: Iterable[Pod]) -> PortSet:
    """The port of that name in each of the pods `key` stands for, if it has one (conformance NETPOL 28)."""
    entries: list[tuple[IPAddress, Protocol, int]] = []
    wanted = tuple(protocols)
    for pod in pods:
        for protocol in wanted:
            number = find_port(pod.spec, name, protocol)
            if number is not None:
                entries += [(ip, protocol, number) for ip in pod.ips]
    return PortSet(f"{key} port {'/'.join(wanted)} {name}", tuple(entries))


def _key(namespaces: str | LabelSelector, selector: LabelSelector) -> str:
    """A namespace's name holds no space, so the two forms are never the same."""
    where = f"in {namespaces}" if isinstance(namespaces, str) else f"where {selector_key(namespaces)}"
    return f"{where} pods {selector_key(selector)}"
