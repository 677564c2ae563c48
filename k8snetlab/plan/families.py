"""Picking the half of a dual-stack value that belongs to one IP family."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface, ip_network
from typing import Final, TypeVar

from k8snetlab.plan.state import Family, IPAddress, IPInterface, IPNetwork

Addressed = TypeVar("Addressed", IPv4Address | IPv6Address, IPv4Network | IPv6Network)

DEFAULT_ROUTE: Final[dict[Family, IPNetwork]] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def of_family(values: Iterable[Addressed], family: Family) -> Addressed | None:
    """The first value of the family, or None when there is none."""
    return next((value for value in values if value.version == family), None)


def gateway(network: IPNetwork) -> IPAddress:
    """The first address of a network: where the bridge CNI plugin and the lab's router put the gateway."""
    return network[1]


def interface(address: IPAddress, network: IPNetwork) -> IPInterface:
    """An address with the prefix length of the network it lies in."""
    return ip_interface((address, network.prefixlen))
