"""The further networks of nodes: a bridge each beside the fabric's own, and a cable from it to each node on it.

Nothing but nodes is on them, and nothing routes between them: as a storage or backup network is. A node reaches what is
in the range of its address there directly; what pods send there is masqueraded, since nobody there knows pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node, NodeInterface
from k8snetlab.cluster.mtu import ETHERNET
from k8snetlab.plan.state import Address, Bridge, KernelObject, Neighbour, Veth

FIRST_SWITCH_INDEX: Final = 30  # in the fabric's namespace, after its bridge and the router's port
FIRST_INTERFACE_INDEX: Final = 40  # in a node's namespace, after what networks and proxies make there
# In the fabric's namespace: the port of node i's interface p. Below a million are the ports of the node network.
PORTS_AN_INTERFACE: Final = 1_000_000


def switches(cluster: Cluster) -> Iterator[Bridge]:
    """One bridge a network, in order of their names."""
    networks = sorted({interface.network for node in cluster.nodes for interface in node.interfaces})
    for place, network in enumerate(networks):
        name = names.switch(network)
        yield Bridge(names.FABRIC, name, FIRST_SWITCH_INDEX + place, names.mac_of_name(name), ETHERNET)


def interfaces(cluster: Cluster, node: Node, *, meshed: bool) -> Iterator[KernelObject]:
    """A node's cables to its further networks; with `meshed`, everybody's address there is written down beforehand."""
    for place, interface in enumerate(node.interfaces):
        mac = _mac(node, interface)
        yield Veth(
            names.FABRIC, names.switch_port(node.index, interface.name),
            (place + 1) * PORTS_AN_INTERFACE + node.index, names.port_mac(mac), ETHERNET,
            node.name, interface.name, FIRST_INTERFACE_INDEX + place, mac, ETHERNET,
            master=names.switch(interface.network),
        )  # fmt: skip
        for address in interface.addresses:
            yield Address(node.name, interface.name, address)
        for other in cluster.nodes if meshed else ():
            if other is not node:
                yield from _neighbours(node, interface, other)


def _neighbours(node: Node, interface: NodeInterface, other: Node) -> Iterator[Neighbour]:
    """Those of another node's addresses on the same network that are in the range of one of ours."""
    ranges = [address.network for address in interface.addresses]
    for theirs in other.interfaces:
        for address in theirs.addresses if theirs.network == interface.network else ():
            if any(address.version == each.version and address.ip in each for each in ranges):
                yield Neighbour(node.name, interface.name, address.ip, _mac(other, theirs))


def _mac(node: Node, interface: NodeInterface) -> str:
    return names.mac_of_name(f"{node.name}/{interface.name}")
