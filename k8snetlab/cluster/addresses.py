"""Addresses: as manifests write them, read the way Kubernetes' API reads it, and by their place in a subnet."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from k8snetlab.cluster.model import IPAddress, IPNetwork


def parse_address(text: str) -> IPAddress | None:
    """An address, or None. Leading zeros of an IPv4 octet are decimal, not octal (CVE-2021-29923)."""
    text = text.strip()
    try:
        return ip_address(_decimal(text))
    except ValueError:
        return None


def parse_network(text: str) -> IPNetwork | None:
    """A CIDR whose host bits are ignored, or None; whitespace around it is allowed (conformance LB.4)."""
    try:
        return ip_network(_decimal(text.strip()), strict=False)
    except ValueError:
        return None


def address(subnet: IPNetwork, place: int) -> IPAddress:
    """The address at this place in the subnet, counted from its network address."""
    number = int(subnet.network_address) + place
    return IPv4Address(number) if subnet.version == 4 else IPv6Address(number)


def offset(subnet: IPNetwork, ip: IPAddress) -> int:
    """The place of an address, counted from the subnet's network address; it may lie outside."""
    return int(ip) - int(subnet.network_address)


def parse_range(text: str) -> tuple[IPAddress, IPAddress]:
    """First and last of an address, a CIDR or `first-last`. Raises ValueError, saying what is wrong."""
    if "-" in text:
        first, last = (parse_address(part) for part in text.split("-", 1))
        if first is None or last is None or first.version != last.version or int(last) < int(first):
            raise ValueError(f"{text!r} is not a range such as 10.244.0.10-10.244.0.20")
        return first, last
    network = parse_network(text)
    if network is None:
        raise ValueError(f"{text!r} is not an address, a CIDR or a range such as 10.244.0.10-10.244.0.20")
    return network.network_address, network.broadcast_address


def _decimal(text: str) -> str:
    if ":" in text or ".0" not in f".{text}":
        return text
    host, slash, length = text.partition("/")
    return ".".join(octet.lstrip("0") or "0" for octet in host.split(".")) + slash + length
