"""The two ends of a connection as policies see them: which pod, which node, which address.

A pod with hostNetwork is its node: its packets carry the node's address, and no policy can tell it from the kubelet.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Family, IPAddress, Node, Pod
from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Place


@dataclass(frozen=True, slots=True)
class Party:
    """One end. `pod` is set for a pod of the pod network, `node` for that and for whatever is the node itself; neither
    for somebody outside."""

    address: IPAddress
    pod: Pod | None = None
    node: str = ""

    def __str__(self) -> str:
        if self.pod is not None:
            return self.pod.key
        return f"node {self.node}" if self.node else str(self.address)


def pod_party(pod: Pod, family: Family) -> Party | None:
    """A pod by its address of the family; None when it has none."""
    address = next((each for each in pod.ips if each.version == family), None)
    if address is None:
        return None
    return Party(address, None if pod.host_network else pod, pod.node)


def node_party(node: Node, family: Family) -> Party | None:
    address = next((each for each in node.addresses if each.version == family), None)
    return Party(address, None, node.name) if address else None


@dataclass(frozen=True, slots=True)
class AddressOwners:
    """Who has which address."""

    pods: dict[IPAddress, Pod]
    nodes: dict[IPAddress, str]

    def party(self, address: IPAddress) -> Party:
        """Whoever has the address; somebody outside when no pod and no node has it."""
        pod = self.pods.get(address)
        if pod is not None:
            return Party(address, pod, pod.node)
        return Party(address, None, self.nodes.get(address, ""))


def address_owners(cluster: Cluster) -> AddressOwners:
    """Every address of pods and nodes; a pod that has ended holds none (PodIPs are released in its last phase)."""
    live = (pod for pod in cluster.pods if not pod.host_network and pod.phase not in ("Failed", "Succeeded"))
    return AddressOwners(
        pods={address: pod for pod in live for address in pod.ips},
        nodes={address: node.name for node in cluster.nodes for address in _addresses(node)},
    )


def _addresses(node: Node) -> Iterator[IPAddress]:
    yield from node.addresses
    for interface in node.interfaces:
        yield from (address.ip for address in interface.addresses)


def party_of(cluster: Cluster, owners: AddressOwners, place: Place, family: Family) -> Party | None:
    """The party at a pod, node, external host or address; None for a Service or a name, and without this family."""
    if place.kind == "pod" and (pod := cluster.pod(place.name)):
        return pod_party(pod, family)
    if place.kind == "node" and (node := cluster.node(place.name)):
        return node_party(node, family)
    if place.kind == "external":
        return Party(names.outside_address(place.name, family))
    if place.kind == "ip":
        address = ip_address(place.name)
        return owners.party(address) if address.version == family else None
    return None
