"""Node to node by VXLAN, as flannel's vxlan backend does it: nothing is learned, everything is written down.

For each other node: a route to its pod CIDR through its tunnel end's address (the CIDR's first, `.0`, which is no
pod's), a neighbour entry that gives that address a MAC, and a forwarding entry that says behind which node the MAC is.
IPv6 has a device of its own, as flannel has `flannel-v6.1`. Source: flannel, pkg/backend/vxlan.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.state import Address, Family, FdbEntry, KernelObject, Neighbour, Route, Vxlan

VNI: Final = 1
PORT: Final = 8472  # flannel keeps Linux' own number, not IANA's 4789
DEVICES: Final[dict[Family, tuple[str, int]]] = {4: ("flannel.1", 22), 6: ("flannel-v6.1", 23)}


def tunnels(cluster: Cluster, node: Node, mtu: int) -> Iterator[KernelObject]:
    """The node's tunnel end in each family and the way through it to every other node."""
    for family in cluster.config.families:
        device, index = DEVICES[family]
        own = of_family(node.pod_cidrs, family)
        local = of_family(node.addresses, family)
        if own is None or local is None:
            continue
        mac = names.mac_of(own[0])
        yield Vxlan(node.name, device, index, mac, mtu, VNI, local, names.UPLINK, PORT)
        yield Address(node.name, device, ip_interface(own[0]))
        for other in cluster.nodes:
            cidr = of_family(other.pod_cidrs, family)
            address = of_family(other.addresses, family)
            if other is not node and cidr is not None and address is not None:
                end_mac = names.mac_of(cidr[0])
                yield Neighbour(node.name, device, cidr[0], end_mac)
                yield FdbEntry(node.name, device, end_mac, address)
                yield Route(node.name, cidr, cidr[0], device, onlink=True)
