"""What of a cluster's policies one node has to enforce, in one family."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256

from k8snetlab.cluster.model import Node
from k8snetlab.cluster.policies import Combination, PolicyRules
from k8snetlab.cluster.policy_peers import AddressSet, Block, Direction, PortSet
from k8snetlab.dataclass import dataclass
from k8snetlab.plan.state import Family, IPAddress


@dataclass(frozen=True, slots=True)
class Enforced:
    """A combination of policies, with the addresses of those of its pods that are on the node."""

    combination: Combination
    addresses: tuple[IPAddress, ...]

    @property
    def direction(self) -> Direction:
        return self.combination.direction

    @property
    def policies(self) -> tuple[PolicyRules, ...]:
        return (*self.combination.admin, *self.combination.network, *self.combination.baseline)


def enforced_on(node: Node, family: Family, combinations: tuple[Combination, ...]) -> tuple[Enforced, ...]:
    """The combinations that pods of the node are under: a pod's policies are enforced where it is, and only there."""
    found = []
    for each in combinations:
        here = (pod for pod in each.pods if pod.node == node.name)
        addresses = tuple(ip for pod in here for ip in pod.ips if ip.version == family)
        if addresses:
            found.append(Enforced(each, addresses))
    return tuple(found)


def sets_of(enforced: tuple[Enforced, ...]) -> Iterator[AddressSet | PortSet]:
    """Every set that the rules of these ask, once."""
    seen: set[str] = set()
    for policy in {(p.direction, p.name): p for each in enforced for p in each.policies}.values():
        for match in (match for rule in policy.rules for match in rule.matches):
            for part in (match.peer, match.port):
                if isinstance(part, AddressSet | PortSet) and part.key not in seen:
                    seen.add(part.key)
                    yield part


def blocks_with_exceptions(enforced: tuple[Enforced, ...]) -> Iterator[Block]:
    """Every block that leaves something out, once."""
    blocks = (
        match.peer
        for each in enforced
        for policy in each.policies
        for rule in policy.rules
        for match in rule.matches
        if isinstance(match.peer, Block) and match.peer.excepts
    )
    yield from dict.fromkeys(blocks)


@cache
def digest(text: str) -> str:
    """Sixteen characters for a name of the kernel's, made as kube-proxy and kube-router make theirs."""
    return b32encode(sha256(text.encode()).digest()[:10]).decode()
