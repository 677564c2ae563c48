"""What a negative answer to a connection or datagram means: the pod itself refused, a rule rejected, or no way there.

Linux keeps the ICMP error behind an errno, with who sent it, in the socket's error queue (ip(7), IP_RECVERR); a TCP
reset leaves nothing there.
"""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct
from typing import Final

from k8snetlab.flows.matrix import Sighting

# linux/in.h, linux/in6.h
RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_EXTENDED: Final = Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, info, data
_ORIGIN_LOCAL, _ORIGIN_ICMP, _ORIGIN_ICMP6 = 1, 2, 3
# What a rule's REJECT comes out as (net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c); others: no way leads there.
_REJECTIONS: Final = frozenset({errno.ECONNREFUSED, errno.EACCES, errno.EPERM, errno.ENOPROTOOPT})


def refusal(one: socket.socket, number: int, address: str, port: int, *, listening: bool) -> Sighting:
    """`number` is the errno that came back for a connection to `address` and `port`."""
    offender = _offender(one)
    if number == errno.ECONNREFUSED and offender in ("", address):
        if listening:
            return Sighting("error", f"refused: the lab's server does not listen on {port}, though it should")
        return Sighting("allowed", f"reached the pod, where nothing listens on {port}")
    if number == errno.ECONNRESET:
        return Sighting("allowed", "connected, then reset by the pod")
    if offender and number in _REJECTIONS:
        return Sighting("blocked", f"rejected by {offender} (ICMP: {os.strerror(number).lower()})")
    if number == errno.EPERM:  # netfilter's DROP in the sender's own OUTPUT
        return Sighting("blocked", "dropped by the sender's own firewall")
    return Sighting("error", f"no way to {address}: {os.strerror(number).lower()}")


def _offender(one: socket.socket) -> str:
    """Who sent the ICMP error that the socket has had; empty when there was none."""
    try:
        _, control, _, _ = one.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return ""
    for level, kind, data in control:
        if (level, kind) not in RECVERR.values() or len(data) < _EXTENDED.size + 8:
            continue
        origin, rest = _EXTENDED.unpack_from(data)[1], data[_EXTENDED.size :]
        if origin == _ORIGIN_ICMP:  # struct sockaddr_in: family, port, address
            return socket.inet_ntop(socket.AF_INET, rest[4:8])
        if origin == _ORIGIN_ICMP6 and len(rest) >= 24:  # struct sockaddr_in6: family, port, flow, address
            return socket.inet_ntop(socket.AF_INET6, rest[8:24])
    return ""
