"""The vocabulary of kernel objects: what a network namespace contains.

Desired and observed use the same classes, so comparing them is a set difference: `plan` builds them, `lab.apply` makes
the kernel contain them, `lab.observe` reads them back. Each names the namespace it lives in (the lab's own name for it,
see `cluster.names`). Names are as `ip`, `bridge`, `sysctl` and `iptables-save` print them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.plan.state_programs import Announcement as Announcement
from k8snetlab.plan.state_programs import DnsName as DnsName
from k8snetlab.plan.state_programs import DnsServer as DnsServer
from k8snetlab.plan.state_programs import File as File
from k8snetlab.plan.state_programs import HealthCheck as HealthCheck
from k8snetlab.plan.state_programs import PodServer as PodServer
from k8snetlab.plan.state_programs import Process as Process
from k8snetlab.plan.state_programs import ProxyFile as ProxyFile
from k8snetlab.plan.state_programs import SelfSigned as SelfSigned

IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
Family = Literal[4, 6]
IptablesBackend = Literal["nft", "legacy"]
VirtualProtocol = Literal["TCP", "UDP", "SCTP"]


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace; `up` is its loopback's state."""

    name: str
    up: bool = True


@dataclass(frozen=True, slots=True)
class Bridge:
    """A Linux bridge. `index` is the interface index, fixed so that nothing has to be looked up."""

    netns: str
    name: str
    index: int
    mac: str
    mtu: int
    up: bool = True


@dataclass(frozen=True, slots=True)
class Veth:
    """A veth pair, one queue an end, `up` when both ends are; the peer is made in its own namespace, never moved there.

    `master` is the bridge this end is a port of, empty for none; `hairpin` lets the bridge send a frame back out of the
    port it came from. With `addrgenmode none` on both ends: no link-local IPv6 address unless the plan adds one.
    """

    netns: str
    name: str
    index: int
    mac: str
    mtu: int
    peer_netns: str
    peer_name: str
    peer_index: int
    peer_mac: str
    peer_mtu: int
    master: str = ""
    hairpin: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN tunnel end point. Without `learning`, where MACs live is said by `FdbEntry` alone.

    `master` is the bridge it is a port of, empty for none.
    """

    netns: str
    name: str
    index: int
    mac: str
    mtu: int
    vni: int
    local: IPAddress
    underlay: str
    port: int
    up: bool = True
    master: str = ""
    learning: bool = False


@dataclass(frozen=True, slots=True)
class Dummy:
    """A link that only holds addresses and is never up, such as kube-proxy's `kube-ipvs0`.

    Where the kernel has no links of the kind `dummy`, a bridge stands in and reads back the same.
    """

    netns: str
    name: str
    index: int
    mac: str
    mtu: int
    up: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    netns: str
    link: str
    interface: IPInterface


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table that somebody planned (the kernel's own connected routes are not listed)."""

    netns: str
    destination: IPNetwork
    via: IPAddress | None = None
    link: str = ""
    onlink: bool = False
    source: IPAddress | None = None
    kind: Literal["unicast", "blackhole", "unreachable", "local"] = "unicast"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent ARP or NDP entry; permanent ones do not count against the kernel's one limit for all namespaces."""

    netns: str
    link: str
    address: IPAddress
    mac: str


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """A permanent forwarding entry of a VXLAN device: frames for `mac` go to the tunnel end `destination`.

    Frames for nobody known go to each destination that the MAC of zeros has.
    """

    netns: str
    link: str
    mac: str
    destination: IPAddress


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """What a link sends, held to `rate` bits a second by a `tbf` queueing discipline at its root."""

    netns: str
    link: str
    rate: int


@dataclass(frozen=True, slots=True)
class Sysctl:
    """`key` in dotted form (`net.ipv4.ip_forward`; a dot inside an interface name is written as a slash)."""

    netns: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class IptablesChain:
    """One chain with all its rules, in order, in exactly the form `iptables-save` prints them (without `-A CHAIN`).

    The lab owns its namespaces whole, so built-in chains are listed too, with their policy; `policy` is empty for the
    others. `backend` is which of the kernel's two it is in: nf_tables, or the older ip_tables.
    """

    netns: str
    family: Family
    table: str
    name: str
    policy: str
    rules: tuple[str, ...]
    backend: IptablesBackend = "nft"


@dataclass(frozen=True, slots=True)
class NftTable:
    """A table of nftables, of family `ip` or `ip6`, with everything in it. `comment` may be empty, here and below."""

    netns: str
    family: Family
    name: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class NftSet:
    """A named set or, with `kind` map, a map; its elements are objects of their own (`NftElement`).

    `type` is the line that says what it holds, as `nft list` prints it: `type ipv4_addr . inet_service : verdict` or
    `typeof …`. A set with the flag `dynamic` is filled by packets: its elements are no part of any plan. `timeout` is
    in seconds, 0 for none.
    """

    netns: str
    family: Family
    table: str
    name: str
    kind: Literal["set", "map"]
    type: str
    flags: str = ""
    timeout: int = 0
    comment: str = ""


@dataclass(frozen=True, slots=True)
class NftChain:
    """A chain with all its rules, in order, each in exactly the form `nft --numeric-priority list` prints it.

    `hook` is the line `type … hook … priority …; policy …;` of a base chain, empty for a regular one.
    """

    netns: str
    family: Family
    table: str
    name: str
    rules: tuple[str, ...]
    hook: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class NftElement:
    """One element of a named set, or of a map when there is a `value`; both as nft prints them: `10.0.0.1 . tcp . 80`,
    `goto chain`."""

    netns: str
    family: Family
    table: str
    set: str
    key: str
    value: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class IpSet:
    """A set of the `ipset` command, named and typed as there: `hash:ip,port`, `bitmap:port`; `family` is None for the
    latter. Its entries are objects of their own."""

    netns: str
    name: str
    type: str
    family: Family | None


@dataclass(frozen=True, slots=True)
class IpSetEntry:
    """One entry of a set, as `ipset save` prints it: `10.96.0.10,udp:53`."""

    netns: str
    set: str
    entry: str


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """A service of IPVS; its backends are objects of their own.

    `persistence` is how long a client stays with its backend, in seconds, 0 for no such thing. `hash_port` lets the
    scheduler hash a client's port along with its address (`mh-port`, the kernel's IP_VS_SVC_F_SCHED2).
    """

    netns: str
    protocol: VirtualProtocol
    address: IPAddress
    port: int
    scheduler: str
    persistence: int = 0
    hash_port: bool = False


@dataclass(frozen=True, slots=True)
class RealServer:
    """A backend of the virtual server `virtual:virtual_port`, reached by translation (`masq`).

    One with weight 0 gets no new connections.
    """

    netns: str
    protocol: VirtualProtocol
    virtual: IPAddress
    virtual_port: int
    address: IPAddress
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class UdpDestination:
    """Where a Service takes UDP: conntrack holds no flow to it that another than `servers` answers.

    A node port is one at each address of the node. Without servers nothing is asked of its flows.
    """

    netns: str
    family: Family
    address: IPAddress
    port: int
    servers: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class LearnedRoute:
    """A route that a routing daemon brings (`proto bird`), with all its next hops, sorted; none for a blackhole.

    Nobody makes it: who wants it waits.
    """

    netns: str
    destination: IPNetwork
    gateways: tuple[IPAddress, ...]


KernelObject = (
    Netns
    | Bridge
    | Veth
    | Vxlan
    | Dummy
    | Address
    | Route
    | Neighbour
    | FdbEntry
    | TokenBucket
    | Sysctl
    | IptablesChain
    | NftTable
    | NftSet
    | NftChain
    | NftElement
    | IpSet
    | IpSetEntry
    | VirtualServer
    | RealServer
    | UdpDestination
    | PodServer
    | DnsServer
    | DnsName
    | HealthCheck
    | Announcement
    | LearnedRoute
    | File
    | ProxyFile
    | SelfSigned
    | Process
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Every kernel object of a lab, in an order in which they can be made, without duplicates."""

    objects: tuple[KernelObject, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """What the kernel lacks and what it has too much of, seen from a plan. Empty when the two are equal."""

    missing: tuple[KernelObject, ...] = ()
    extra: tuple[KernelObject, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)
