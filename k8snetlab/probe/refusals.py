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
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
# Destination unreachable by rule (RFC 1122, RFC 1812; RFC 4443); the other codes say that no way leads there. Linux
# makes EHOSTUNREACH of some of both kinds (net/ipv4/icmp.c, icmp_err_convert).
_REJECTIONS: Final = {
    (_ORIGIN_ICMP, 2): "protocol unreachable",
    (_ORIGIN_ICMP, 3): "port unreachable",
    (_ORIGIN_ICMP, 9): "network prohibited",
    (_ORIGIN_ICMP, 10): "host prohibited",
    (_ORIGIN_ICMP, 13): "administratively prohibited",
    (_ORIGIN_ICMP6, 1): "administratively prohibited",
    (_ORIGIN_ICMP6, 4): "port unreachable",
    (_ORIGIN_ICMP6, 5): "policy failed",
    (_ORIGIN_ICMP6, 6): "route rejected",
}


def refusal(one: socket.socket, number: int, address: str, port: int, *, listening: bool) -> Sighting:
    """`number` is the errno that came back for a connection to `address` and `port`."""
    offender, said = _offender(one)
    if number == errno.ECONNREFUSED and offender in ("", address):
        if listening:
            return Sighting("error", f"refused: the lab's server does not listen on {port}, though it should")
        return Sighting("allowed", f"reached the pod, where nothing listens on {port}", refused=True)
    if number == errno.ECONNRESET:
        return Sighting("allowed", "connected, then reset by the pod", refused=True)
    if said:
        return Sighting("blocked", f"rejected by {offender} (ICMP: {said})", refused=True)
    if number == errno.EPERM:  # netfilter's DROP in the sender's own OUTPUT
        return Sighting("blocked", "dropped by the sender's own firewall")
    return Sighting("error", f"no way to {address}: {os.strerror(number).lower()}")


def _offender(one: socket.socket) -> tuple[str, str]:
    """Who sent the ICMP error that the socket has had, and what it says of a rule; both empty when there was none."""
    try:
        _, control, _, _ = one.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return "", ""
    for level, kind, data in control:
        if (level, kind) not in RECVERR.values() or len(data) < _EXTENDED.size + 8:
            continue
        _, origin, _, code, _, _ = _EXTENDED.unpack_from(data)
        said, rest = _REJECTIONS.get((origin, code), ""), data[_EXTENDED.size :]
        if origin == _ORIGIN_ICMP:  # struct sockaddr_in: family, port, address
            return socket.inet_ntop(socket.AF_INET, rest[4:8]), said
        if origin == _ORIGIN_ICMP6 and len(rest) >= 24:  # struct sockaddr_in6: family, port, flow, address
            return socket.inet_ntop(socket.AF_INET6, rest[8:24]), said
    return "", ""
