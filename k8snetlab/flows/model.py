"""Flows: one sender, one destination, one protocol and port; what is expected of it and what was seen."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from k8snetlab.dataclass import dataclass

IPAddress = IPv4Address | IPv6Address
FlowProtocol = Literal["TCP", "UDP", "SCTP", "ICMP", "HTTP", "DNS"]
Outcome = Literal["ok", "refused", "timeout", "error"]
SeenSource = Literal["pod", "node", "client"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something runs or is addressed: `kind` pod, node, external, service, ip, name or url.

    `name` is how the user writes it (`shop/api`, `node1`, `client`, `10.0.0.1`, `web.shop`, `http://…`); `netns` is the
    namespace it lives in, empty when it does not live in one (a Service, an address, a name).
    """

    kind: Literal["pod", "node", "external", "service", "ip", "name", "url"]
    name: str
    netns: str = ""

    def __str__(self) -> str:
        """As every output writes it: `pod/ns/name`, `svc/ns/name`, `node/name`, `external/name`, or plain."""
        prefix = {"service": "svc/", "pod": "pod/", "node": "node/", "external": "external/"}.get(self.kind, "")
        return prefix + self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One conversation to try. `address` is where packets are really sent (a name is resolved by the sender).

    `port` is 0 for ICMP. `path`, `host`, `method`, `headers` and `tls` (https, with any certificate) matter to HTTP
    only; `query` is the type of record that is looked up; `size`, to ICMP only, is the packet's in bytes, IP header
    included, not to be fragmented; 0 for the usual small one.
    """

    sender: Place
    destination: Place
    address: str
    protocol: FlowProtocol
    port: int = 0
    path: str = "/"
    host: str = ""
    query: str = ""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A flow with what must come of it. `type` is one of the types of communication of the design, section 6.

    `source` says which address the server must see, `sources` the addresses that satisfy it; `servers` are the pods
    (`ns/name`) that may answer, empty when any may. With `tries` above 1 others may answer too, and it is asked up
    to so many times until one of `servers` does: a Service picks its endpoint at random. Pods in `forbidden` may not
    answer at any of the tries, which are then all made, and those that get no answer are no failure. `because` is what
    the policies that `expected` follows from say. `records` are all that a look-up must find, in any order
    (`A 10.96.0.1`; an SRV record without priority and weight); empty when any will do. `status` is the one that HTTP
    must answer with, 0 when any will do, `location` where a redirect must lead to.
    """

    type: str
    name: str
    flow: Flow
    expected: Outcome = "ok"
    source: SeenSource | None = None
    sources: tuple[IPAddress, ...] = ()
    servers: tuple[str, ...] = ()
    tries: int = 1
    records: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    because: str = ""
    status: int = 0
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the packets did. `server` is the pod that answered, `source` the client address that it saw; `records` are
    what a look-up found, `TYPE DATA`; `status` and `location` those of an HTTP answer."""

    outcome: Outcome
    rtt_ms: float | None = None
    server: str = ""
    source: str = ""
    reason: str = ""
    records: tuple[str, ...] = ()
    status: int = 0
    location: str = ""
