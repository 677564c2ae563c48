"""Is this a valid address or range? Each function gives the API server's objection, or None.

Stricter than old API servers in one point, as new ones are: leading zeros in IPv4 are refused, for systems read them
differently (CVE-2021-29923).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_IP_RULE = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_CIDR_RULE = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None; zones (`fe80::1%eth0`) are no part of an address here."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def parse_cidr(text: str) -> IPv4Network | IPv6Network | None:
    """The network, or None; host bits may be set, but a length must be given, as a number."""
    address, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or "%" in address:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def ip(text: str) -> str | None:
    """An IPv4 or IPv6 address."""
    return None if parse_ip(text) else _IP_RULE


def cidr(text: str) -> str | None:
    """An IPv4 or IPv6 range."""
    return None if parse_cidr(text) else _CIDR_RULE


def special_ip(address: IPv4Address | IPv6Address) -> str | None:
    """What no endpoint and no external IP may be (ValidateNonSpecialIP)."""
    if address.is_unspecified:
        return f"may not be unspecified ({address})"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if address in _LINK_LOCAL_MULTICAST[address.version]:
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return None


_LINK_LOCAL_MULTICAST: dict[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("224.0.0.0/24"),
    6: IPv6Network("ff02::/16"),
}


def family(address: IPv4Address | IPv6Address | IPv4Network | IPv6Network) -> str:
    """The family as Kubernetes spells it."""
    return f"IPv{address.version}"
