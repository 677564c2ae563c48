"""Addresses, routes, neighbours and forwarding entries, as rtnetlink messages and back.

Formats: linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from struct import Struct
from typing import Final, Literal

from k8snetlab.kernel.links import AF_BRIDGE, mac_bytes, mac_text
from k8snetlab.kernel.netlink import (
    NEW,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    attribute,
    attributes,
    message,
    number,
    u32,
)
from k8snetlab.plan.state import Address, FdbEntry, IPAddress, IPInterface, IPNetwork, LearnedRoute, Neighbour, Route

AF_INET: Final = 2
AF_INET6: Final = 10
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_PROTO: Final = 11
_IFA_F_NODAD: Final = 0x02
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PREFSRC: Final = 7
_RTA_MULTIPATH: Final = 9
_RTA_TABLE: Final = 15
_RTNH_F_ONLINK: Final = 4
_TABLE_MAIN: Final = 254
_TABLE_LOCAL: Final = 255
_PROTOCOL_KERNEL: Final = 2
_PROTOCOL_BOOT: Final = 3  # what `ip route add` writes
_PROTOCOL_BIRD: Final = 12
_SCOPE_UNIVERSE: Final = 0
_SCOPE_LINK: Final = 253
_SCOPE_HOST: Final = 254
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2
_NUD_PERMANENT: Final = 0x80
_NTF_SELF: Final = 2
_NTF_PROXY: Final = 8

RouteKind = Literal["unicast", "blackhole", "unreachable", "local"]
_KINDS: Final[dict[RouteKind, int]] = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7}
_KIND_NAMES: Final[dict[int, RouteKind]] = {number: name for name, number in _KINDS.items()}

ADDRESS: Final = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ROUTE: Final = Struct("=BBBBBBBBI")  # struct rtmsg: family, dst length, src length, tos, table, protocol, scope, type
NEXT_HOP: Final = Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index
NEIGHBOUR: Final = Struct("=BxHiHBB")  # struct ndmsg: family, index, state, flags, type


def family_of(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6


def address(item: Address, index: int, *, delete: bool = False) -> bytes:
    """Add an address to the link with this index, usable at once (IPv6: without duplicate detection); or take it."""
    interface = item.interface
    packed = interface.packed
    version = interface.version
    flags = _IFA_F_NODAD if version == 6 else 0
    body = (
        ADDRESS.pack(family_of(version), _prefix_length(interface), flags, 0, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
    )
    return message(RTM_DELADDR, 0, body) if delete else message(RTM_NEWADDR, NEW, body)


def route(item: Route, index: int, *, delete: bool = False) -> bytes:
    """Add a route, or take it; `index` 0: the kernel finds the link by the gateway."""
    destination = item.destination
    version = destination.version
    table, scope = _TABLE_MAIN, _SCOPE_UNIVERSE
    if item.kind == "local":  # where `ip route add local` puts it: that table is looked up first
        table, scope = _TABLE_LOCAL, _SCOPE_HOST
    elif item.kind == "unicast" and item.via is None:
        scope = _SCOPE_LINK
    body = ROUTE.pack(
        family_of(version),
        destination.prefixlen,
        0,
        0,
        table,
        _PROTOCOL_BOOT,
        scope if version == 4 else 0,  # IPv6 knows no scopes
        _KINDS[item.kind],
        _RTNH_F_ONLINK if item.onlink else 0,
    )
    if destination.prefixlen:
        body += attribute(_RTA_DST, destination.network_address.packed)
    if item.via is not None:
        body += attribute(_RTA_GATEWAY, item.via.packed)
    if index:
        body += u32(_RTA_OIF, index)
    if item.source is not None:
        body += attribute(_RTA_PREFSRC, item.source.packed)
    return message(RTM_DELROUTE, 0, body) if delete else message(RTM_NEWROUTE, NEW, body)


def neighbour(item: Neighbour, index: int, *, delete: bool = False) -> bytes:
    """Write down a permanent neighbour, in place of one learned; or forget it."""
    body = NEIGHBOUR.pack(family_of(item.address.version), 0, index, _NUD_PERMANENT, 0, 0) + attribute(
        _NDA_DST, item.address.packed
    )
    if delete:
        return message(RTM_DELNEIGH, 0, body)
    return message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body + attribute(_NDA_LLADDR, mac_bytes(item.mac)))


def forwarding(item: FdbEntry, index: int, *, delete: bool = False) -> bytes:
    """Tell a VXLAN device (NTF_SELF: not its bridge) behind which tunnel end a MAC lives; or take that back."""
    body = (
        NEIGHBOUR.pack(AF_BRIDGE, 0, index, _NUD_PERMANENT, _NTF_SELF, 0)
        + attribute(_NDA_LLADDR, mac_bytes(item.mac))
        + attribute(_NDA_DST, item.destination.packed)
    )
    if delete:
        return message(RTM_DELNEIGH, 0, body)
    return message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, body)


def entries_of(index: int) -> bytes:
    """The header that asks for the forwarding entries of one device."""
    return NEIGHBOUR.pack(AF_BRIDGE, 0, index, 0, 0, 0)


def read_address(netns: str, body: bytes, link_names: dict[int, str]) -> Address | None:
    """An address somebody gave a link; None for those the kernel makes: 127.0.0.1, ::1 and automatic link-local."""
    _, prefix_length, _, _, index = ADDRESS.unpack_from(body)
    found = attributes(body, ADDRESS.size)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    if index == 1 and packed in _LOOPBACK:
        return None
    if _IFA_PROTO in found and found[_IFA_PROTO] != b"\0":  # Linux 5.18: made by the kernel (lo, RA, link-local)
        return None
    return Address(netns, link_names.get(index, str(index)), _interface(packed, prefix_length))


def read_learned(netns: str, body: bytes) -> LearnedRoute | None:
    """A route that BIRD has brought, with all its next hops; None for any other."""
    _, length, _, _, _, protocol, _, _, _ = ROUTE.unpack_from(body)
    if protocol != _PROTOCOL_BIRD:
        return None
    found = attributes(body, ROUTE.size)
    gateways = [found[_RTA_GATEWAY]] if _RTA_GATEWAY in found else []
    hops, offset = found.get(_RTA_MULTIPATH, b""), 0
    while offset + NEXT_HOP.size <= len(hops):
        size = NEXT_HOP.unpack_from(hops, offset)[0]
        if gateway := attributes(hops[offset + NEXT_HOP.size : offset + size]).get(_RTA_GATEWAY):
            gateways.append(gateway)
        offset += (max(size, NEXT_HOP.size) + 3) & ~3
    destination = _network(found.get(_RTA_DST, bytes(4 if body[0] == AF_INET else 16)), length)
    return LearnedRoute(netns, destination, tuple(ip_address(packed) for packed in sorted(gateways)))


def read_route(netns: str, body: bytes, link_names: dict[int, str]) -> Route | LearnedRoute | None:
    """A route of the main table, or a local one, that somebody made; None for the kernel's own."""
    _, length, _, _, table, protocol, _, kind, flags = ROUTE.unpack_from(body)
    if protocol == _PROTOCOL_BIRD:
        return read_learned(netns, body)
    name = _KIND_NAMES.get(kind)
    if protocol == _PROTOCOL_KERNEL or name is None:
        return None
    found = attributes(body, ROUTE.size)
    if number(found, _RTA_TABLE, table) not in (_TABLE_MAIN, _TABLE_LOCAL):
        return None
    version = 4 if body[0] == AF_INET else 6
    gateway = found.get(_RTA_GATEWAY)
    index = number(found, _RTA_OIF)
    # IPv6 hangs blackholes on lo; IPv4 on nothing.
    link = link_names.get(index, str(index)) if index and name in ("unicast", "local") else ""
    source = found.get(_RTA_PREFSRC)
    return Route(
        netns,
        _network(found.get(_RTA_DST, bytes(4 if version == 4 else 16)), length),
        ip_address(gateway) if gateway else None,
        link,
        bool(flags & _RTNH_F_ONLINK),
        ip_address(source) if source else None,
        name,
    )


def read_neighbour(netns: str, body: bytes, link_names: dict[int, str]) -> Neighbour | None:
    """A permanent neighbour; None for what was learned and for proxy entries."""
    family, _, index, state, flags, _ = NEIGHBOUR.unpack_from(body)
    if not state & _NUD_PERMANENT or flags & _NTF_PROXY or family not in (AF_INET, AF_INET6):
        return None
    found = attributes(body, NEIGHBOUR.size)
    mac = mac_text(found.get(_NDA_LLADDR, b""))
    return Neighbour(netns, link_names.get(index, str(index)), ip_address(found[_NDA_DST]), mac)


def read_forwarding(netns: str, body: bytes, link_names: dict[int, str]) -> FdbEntry | None:
    """A permanent entry of a VXLAN device that names a tunnel end."""
    _, _, index, state, _, _ = NEIGHBOUR.unpack_from(body)
    found = attributes(body, NEIGHBOUR.size)
    if not state & _NUD_PERMANENT or _NDA_DST not in found:
        return None
    mac = mac_text(found.get(_NDA_LLADDR, b""))
    return FdbEntry(netns, link_names.get(index, str(index)), mac, ip_address(found[_NDA_DST]))


def ip_address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _prefix_length(interface: IPInterface) -> int:
    return interface.network.prefixlen


@lru_cache(maxsize=4096)
def _network(packed: bytes, length: int) -> IPNetwork:
    return IPv4Network((packed, length)) if len(packed) == 4 else IPv6Network((packed, length))


def _interface(packed: bytes, length: int) -> IPInterface:
    return IPv4Interface((packed, length)) if len(packed) == 4 else IPv6Interface((packed, length))


_LOOPBACK: Final = (b"\x7f\0\0\x01", bytes(15) + b"\x01")
