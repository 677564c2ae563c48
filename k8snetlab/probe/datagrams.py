"""UDP, SCTP and DNS by a socket of this process, made in the sender's namespace, where it stays."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Final

from k8snetlab.flows.model import Flow, Result
from k8snetlab.kernel import netns as namespaces
from k8snetlab.probe.answers import answered, negative, not_sent, silence
from k8snetlab.probe.engine import Attempt, Waiting

_PAYLOAD: Final = b"k8snetlab\n"
_SIZE: Final = 65536
_REJECT_SECONDS: Final = 0.05
_SCTP: Final = 132  # socket.IPPROTO_SCTP is missing where the C library lacks it
# linux/in.h, linux/in6.h: without them a UDP socket hears of a port unreachable only, not of other ICMP errors.
_RECVERR: Final = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_CODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")  # RFC 1035, 4.1.1


def udp(flow: Flow, netns: str, timeout: float) -> Attempt:
    """One datagram; `netns` empty: where this process is."""
    answer, rtt_ms = yield from _exchange(flow, netns, timeout, _PAYLOAD)
    return answer if isinstance(answer, Result) else answered(answer, rtt_ms)


def dns(flow: Flow, netns: str, timeout: float) -> Attempt:
    """One query for the A records of `flow.host`, or for the root's NS records; any reply to it is an answer."""
    number = os.urandom(2)
    answer, rtt_ms = yield from _exchange(flow, netns, timeout, _query(number, flow.host))
    if isinstance(answer, Result):
        return answer
    if len(answer) < 12 or answer[:2] != number or not answer[2] & 0x80:
        return Result(outcome="error", reason="the answer is no DNS reply")
    code = answer[3] & 0x0F
    return answered(b"", rtt_ms, "" if code == 0 else _CODES[code] if code < len(_CODES) else f"RCODE {code}")


def sctp(flow: Flow, netns: str, timeout: float) -> Attempt:
    """An association, a line, and the server's line about itself."""
    begin = time.monotonic()
    with _socket(flow, netns, socket.SOCK_STREAM, _SCTP) as one:
        if isinstance(one, Result):
            return one
        number = one.connect_ex((flow.address, flow.port))
        if number not in (0, errno.EINPROGRESS):
            return not_sent(flow, number, os.strerror(number))
        if not (yield Waiting(one.fileno(), begin + timeout, select.POLLOUT)):
            return silence(timeout)
        number = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        rtt_ms = (time.monotonic() - begin) * 1000
        if number:
            return negative(flow, number, os.strerror(number), rtt_ms / 1000)
        try:
            one.send(_PAYLOAD)
            if (yield Waiting(one.fileno(), begin + timeout)):
                return answered(one.recv(_SIZE), rtt_ms)
        except OSError as error:
            return negative(flow, error.errno or 0, str(error.strerror), time.monotonic() - begin)
        return answered(b"", rtt_ms, "connected; the server says nothing")


def _exchange(
    flow: Flow, netns: str, timeout: float, payload: bytes
) -> Generator[Waiting, bool, tuple[bytes | Result, float]]:
    """Send a datagram and wait for one: what came, or what its absence means, and the milliseconds it took."""
    with _socket(flow, netns, socket.SOCK_DGRAM, 0) as one:
        if isinstance(one, Result):
            return one, 0.0
        begin = time.monotonic()
        try:
            one.setsockopt(*_RECVERR[one.family], 1)
            one.connect((flow.address, flow.port))
            one.send(payload)
        except PermissionError as error:
            # netfilter in the sender's own OUTPUT says EPERM for DROP and REJECT alike; a REJECT's ICMP error follows.
            yield Waiting(one.fileno(), begin + min(timeout, _REJECT_SECONDS))
            number = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or error.errno or 0
            return not_sent(flow, number, os.strerror(number)), 0.0
        except OSError as error:
            return not_sent(flow, error.errno or 0, str(error.strerror)), 0.0
        if not (yield Waiting(one.fileno(), begin + timeout)):
            return silence(timeout), 0.0
        elapsed = time.monotonic() - begin
        try:
            return one.recv(_SIZE), elapsed * 1000
        except OSError as error:
            return negative(flow, error.errno or 0, str(error.strerror), elapsed), 0.0


@contextmanager
def _socket(flow: Flow, netns: str, kind: int, protocol: int) -> Iterator[socket.socket | Result]:
    """A socket of the address' family in the namespace; a Result when the kernel has none of that kind."""
    family = socket.AF_INET if ip_address(flow.address).version == 4 else socket.AF_INET6
    try:
        if netns:
            with namespaces.inside(netns):
                one = socket.socket(family, kind, protocol)
        else:
            one = socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno not in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise
        yield Result(
            outcome="error", reason=f"this kernel has no {flow.protocol} over IPv{ip_address(flow.address).version}"
        )
        return
    with one:
        one.setblocking(False)
        yield one


def _query(number: bytes, name: str) -> bytes:
    """A recursive query of class IN (RFC 1035, 4.1)."""
    labels = [label.encode("ascii", "replace")[:63] for label in name.strip(".").split(".") if label]
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return number + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", 1 if labels else 2, 1)
