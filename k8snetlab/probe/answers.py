"""What an answer, or an error in its place, means. Pure.

`refused` is a negative answer that the network gave at once; the reason says which. `error` is a packet that was never
sent, and says nothing about the network beyond the sender.
"""

from __future__ import annotations

import errno
import json
from typing import Final

from k8snetlab.flows.model import Flow, Result

# An ICMP "host unreachable" that takes longer is no answer: a host or router has asked three times, a second apart,
# for the neighbour's MAC address and nobody answered (net.ipv4.neigh.*.mcast_solicit, retrans_time_ms).
AT_ONCE: Final = 0.5

# What connect(2) and recv(2) make of a negative answer: net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c tab_unreach.
REFUSALS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "host unreachable (ICMP)",
    errno.ENETUNREACH: "network unreachable (ICMP)",
    errno.EACCES: "administratively prohibited (ICMP)",
    errno.ENOPROTOOPT: "protocol unreachable (ICMP)",
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: "connection closed",
}


def no_route(flow: Flow) -> Result:
    return Result(outcome="error", reason=f"no route from {flow.sender.name} to {flow.address}")


def silence(timeout: float) -> Result:
    return Result(outcome="timeout", reason=f"no answer within {timeout:g} s")


def not_sent(flow: Flow, number: int, text: str, protocol_reason: str = "") -> Result:
    """The sender's own kernel would not send: `number` is the errno of connect(2) or send(2)."""
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return no_route(flow)
    if number == errno.EPERM:
        # netfilter's DROP in the sender's own OUTPUT; TCP only sees that no answer comes.
        return Result(outcome="timeout", reason=f"dropped by the firewall of {flow.sender.name}")
    if number == errno.ECONNREFUSED:  # rejected in OUTPUT: the answer comes before the call returns
        return Result(outcome="refused", reason=REFUSALS[number])
    return Result(outcome="error", reason=protocol_reason or f"cannot send to {flow.address}: {text}")


def negative(flow: Flow, number: int, text: str, elapsed: float) -> Result:
    """The errno that came back some time, in seconds, after something had been sent."""
    if number == errno.ETIMEDOUT:
        return Result(outcome="timeout", reason="no answer: the kernel gave up")
    if number == errno.EHOSTUNREACH and elapsed > AT_ONCE:
        return Result(outcome="timeout", reason=f"nobody answers for {flow.address}: its MAC address is not found")
    if number in REFUSALS:
        return Result(outcome="refused", reason=REFUSALS[number])
    return Result(outcome="error", reason=text)


def answered(body: bytes, rtt_ms: float | None, reason: str = "") -> Result:
    """An answer came; one of the lab's own servers says in it who it is and whom it saw."""
    server = source = ""
    if body.startswith(b"{"):
        try:
            about = json.loads(body)
            server = f"{about['namespace']}/{about['pod']}"
            source = str(about["client"]).rpartition(":")[0].strip("[]")
        except (ValueError, KeyError):  # JSON of somebody else's
            server = source = ""
    return Result(outcome="ok", rtt_ms=rtt_ms, server=server, source=source, reason=reason)
