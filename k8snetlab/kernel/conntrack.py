"""UDP flows that conntrack still sends to an endpoint that is gone, found and forgotten over nfnetlink.

NAT is decided by a flow's first packet. TCP to a dead endpoint ends by itself; UDP from one socket keeps its entry
alive with every packet and so would never come to another endpoint. kube-proxy deletes such entries after each sync
(pkg/proxy/conntrack/cleanup.go, since 1.32). Formats: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import KernelError
from k8snetlab.kernel.netlink import Socket, attribute, attributes, message, nested
from k8snetlab.plan.state import Family, IPAddress, KernelObject, UdpDestination

_NETLINK_NETFILTER: Final = 12
_CTNETLINK: Final = 1 << 8
_GET, _DELETE = 1, 2
_TUPLE_ORIG, _TUPLE_REPLY, _ID = 1, 2, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SRC: Final[dict[Family, int]] = {4: 1, 6: 3}
_IP_DST: Final[dict[Family, int]] = {4: 2, 6: 4}
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_NFPROTO: Final[dict[Family, int]] = {4: 2, 6: 10}
_IS_UDP: Final = b"\x05\x00\x01\x00\x11"  # the attribute _PROTO_NUM with 17, as it stands in a message (little endian)
_IS_UDP_BIG: Final = b"\x00\x05\x00\x01\x11"
_GONE: Final = frozenset({errno.ENOENT})  # it has ended by itself, or the flow has begun anew
_HINT: Final = "a kernel built with CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink)"


@dataclass(frozen=True, slots=True)
class _Flow:
    """One entry: where it was sent, who answers, and the attributes by which the kernel finds it again."""

    family: Family
    destination: IPAddress
    port: int
    server: IPAddress
    key: bytes


def strangers(netns: str, destinations: Collection[UdpDestination]) -> dict[UdpDestination, frozenset[IPAddress]]:
    """The servers that flows of the calling thread's namespace have and that are none of their destination's."""
    found: defaultdict[UdpDestination, set[IPAddress]] = defaultdict(set)
    with Socket(netns, _NETLINK_NETFILTER) as connection:
        for destination, flow in _stale(connection, destinations):
            found[destination].add(flow.server)
    return {destination: frozenset(servers) for destination, servers in found.items()}


def forget_stale(netns: str, destinations: Collection[UdpDestination]) -> None:
    """Delete those flows, in the namespace the calling thread is in. Raises KernelError."""
    with Socket(netns, _NETLINK_NETFILTER) as connection:
        requests: list[tuple[KernelObject, bytes]] = []
        for destination, flow in _stale(connection, destinations):
            body = bytes((_NFPROTO[flow.family], 0, 0, 0)) + flow.key
            requests.append((destination, message(_CTNETLINK | _DELETE, 0, body)))
        connection.send("forget flows to", requests, tolerate=_GONE)


def _stale(connection: Socket, destinations: Collection[UdpDestination]) -> Iterator[tuple[UdpDestination, _Flow]]:
    """Each flow with the destination whose servers do not include its own.

    A destination without any server is left alone, as kube-proxy does: there is nowhere better to go.
    """
    wanted = {(item.family, item.address, item.port): item for item in destinations if item.servers}
    for family in sorted({item.family for item in wanted.values()}):
        for flow in _flows(connection, family):
            destination = wanted.get((family, flow.destination, flow.port))
            if destination is not None and flow.server not in destination.servers:
                yield destination, flow


def _flows(connection: Socket, family: Family) -> Iterator[_Flow]:
    try:
        bodies = connection.dump(_CTNETLINK | _GET, bytes((_NFPROTO[family], 0, 0, 0)))
    except KernelError as error:
        error.hint = error.hint or _HINT
        raise
    for body in bodies:
        if _IS_UDP not in body and _IS_UDP_BIG not in body:  # spares the parsing of all others
            continue
        found = attributes(body, 4)
        original, reply = attributes(found[_TUPLE_ORIG]), attributes(found[_TUPLE_REPLY])
        protocol = attributes(original[_TUPLE_PROTO])
        if body[0] != _NFPROTO[family] or protocol[_PROTO_NUM][0] != 17:
            continue
        yield _Flow(
            family,
            _address(attributes(original[_TUPLE_IP])[_IP_DST[family]]),
            int.from_bytes(protocol[_PROTO_DST_PORT][:2], "big"),
            _address(attributes(reply[_TUPLE_IP])[_IP_SRC[family]]),
            nested(_TUPLE_ORIG, found[_TUPLE_ORIG]) + attribute(_ID, found[_ID]),
        )


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
