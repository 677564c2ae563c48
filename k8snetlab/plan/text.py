"""Kernel objects for people and programs: one readable line each, or one JSON object each."""

from __future__ import annotations

from dataclasses import fields

from k8snetlab.plan.proxy.ipvs_script import create_set, real_words, virtual_words
from k8snetlab.plan.proxy.nft_script import FAMILY, address, chain_lines, element_text, set_lines
from k8snetlab.plan.state import (
    Address,
    Announcement,
    Bridge,
    DnsName,
    DnsServer,
    Dummy,
    FdbEntry,
    File,
    HealthCheck,
    IpSet,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    NftTable,
    PodServer,
    Process,
    ProxyFile,
    RealServer,
    Route,
    SelfSigned,
    Sysctl,
    TokenBucket,
    UdpDestination,
    Veth,
    VirtualServer,
    Vxlan,
)


def describe(obj: KernelObject) -> str:
    """`NAMESPACE: what it is`, in the words of `ip`, `bridge`, `sysctl`, `iptables-save`, `nft`, `ipset` and `ipvsadm`.

    One line, except for a chain with rules: its rules follow, a line each, indented.
    """
    match obj:
        case Netns():
            return f"{obj.name}: network namespace"
        case Bridge() | Veth() | Vxlan() | Dummy():
            return f"{obj.netns}: {_link(obj)}"
        case Address() | Route() | Neighbour() | FdbEntry() | TokenBucket():
            return f"{obj.netns}: {_entry(obj)}"
        case Sysctl():
            return f"{obj.netns}: sysctl {obj.key} = {obj.value}"
        case IptablesChain():
            return _chain(obj)
        case NftTable() | NftSet() | NftChain() | NftElement():
            return f"{obj.netns}: nft {_nftables(obj)}"
        case IpSet() | IpSetEntry() | VirtualServer() | RealServer():
            return f"{obj.netns}: {_ipvs(obj)}"
        case DnsName() | File() | ProxyFile() | SelfSigned():
            return _known(obj)
        case UdpDestination() | PodServer() | HealthCheck() | Announcement() | LearnedRoute() | DnsServer() | Process():
            return f"{obj.netns}: {_served(obj)}"


def _known(obj: DnsName | File | ProxyFile | SelfSigned) -> str:
    """What servers of several namespaces share. A file is not shown: it may be a key."""
    if isinstance(obj, File):
        return f"file /run/files/{obj.path} ({len(obj.content.encode())} bytes)"
    if isinstance(obj, ProxyFile):
        return f"proxy: file {obj.name} ({len(obj.content.encode())} bytes)"
    if isinstance(obj, SelfSigned):
        return f"proxy: self-signed certificate {obj.name} for {' '.join(obj.names)}"
    return f"DNS view {obj.view}: {obj.name or '.'} {'; '.join(obj.records) or '(no records)'}"


def route_words(route: Route) -> str:
    """A route as `ip route add` takes it."""
    words: list[str] = [] if route.kind == "unicast" else [route.kind]
    words.append(str(route.destination) if route.destination.prefixlen else "default")
    if route.via is not None:
        words += ["via", str(route.via)]
    if route.link:
        words += ["dev", route.link]
    if route.source is not None:
        words += ["src", str(route.source)]
    if route.onlink:
        words.append("onlink")
    return " ".join(words)


def to_json(obj: KernelObject) -> dict[str, object]:
    """The object's fields by their names, with `type`, the name of its class, first; addresses and networks as text."""
    return {"type": type(obj).__name__, **{field.name: _plain(getattr(obj, field.name)) for field in fields(obj)}}


def _link(link: Bridge | Veth | Vxlan | Dummy) -> str:
    words = f"{link.name} index {link.index} address {link.mac} mtu {link.mtu}"
    match link:
        case Bridge():
            return f"bridge {words}"
        case Dummy():
            return f"dummy {words} down"
        case Vxlan():
            port = f" master {link.master}" if link.master else ""
            learning = " learning" if link.learning else ""
            where = f"id {link.vni} local {link.local} dev {link.underlay} dstport {link.port}"
            return f"vxlan {words} {where}{learning}{port}"
        case Veth():
            port = f" master {link.master}" if link.master else ""
            hairpin = " hairpin on" if link.hairpin else ""
            return (
                f"veth {words}{port}{hairpin} peer {link.peer_name} in {link.peer_netns} index {link.peer_index}"
                f" address {link.peer_mac} mtu {link.peer_mtu}"
            )


def _entry(entry: Address | Route | Neighbour | FdbEntry | TokenBucket) -> str:
    match entry:
        case Address():
            return f"address {entry.interface} dev {entry.link}"
        case Route():
            return f"route {route_words(entry)}"
        case Neighbour():
            return f"neighbour {entry.address} lladdr {entry.mac} dev {entry.link}"
        case FdbEntry():
            return f"fdb {entry.mac} dst {entry.destination} dev {entry.link}"
        case TokenBucket():
            return f"qdisc tbf rate {entry.rate}bit dev {entry.link}"


def _chain(chain: IptablesChain) -> str:
    tool = ("iptables" if chain.family == 4 else "ip6tables") + ("-legacy" if chain.backend == "legacy" else "")
    policy = f" policy {chain.policy}" if chain.policy else ""
    head = f"{chain.netns}: {tool} {chain.table} chain {chain.name}{policy}"
    return "\n".join((head, *(f"    {rule}" for rule in chain.rules)))


def _nftables(obj: NftTable | NftSet | NftChain | NftElement) -> str:
    match obj:
        case NftTable():
            return f"table {FAMILY[obj.family]} {obj.name}"
        case NftSet():
            return f"{address(obj)} {obj.kind} {obj.name} {{ {'; '.join(set_lines(obj))} }}"
        case NftElement():
            return f"{address(obj)} element {obj.set} {{ {element_text(obj)} }}"
        case NftChain():
            return "\n".join((f"{address(obj)} chain {obj.name}", *(f"    {line}" for line in chain_lines(obj))))


def _ipvs(obj: IpSet | IpSetEntry | VirtualServer | RealServer) -> str:
    match obj:
        case IpSet():
            return f"ipset {create_set(obj)}"
        case IpSetEntry():
            return f"ipset add {obj.set} {obj.entry}"
        case VirtualServer():
            return f"ipvs -A {virtual_words(obj)}"
        case RealServer():
            return f"ipvs -a {real_words(obj)}"


def _served(
    obj: UdpDestination | PodServer | HealthCheck | Announcement | LearnedRoute | DnsServer | Process,
) -> str:
    match obj:
        case UdpDestination():
            servers = ", ".join(map(str, obj.servers)) or "anybody: no endpoint serves"
            return f"UDP flows to {obj.address} port {obj.port} are answered by {servers}"
        case PodServer():
            ports = " ".join(f"{protocol}/{port}" for protocol, port in obj.listeners)
            return f"server of {obj.pod} listens on {ports}"
        case HealthCheck():
            return f"health check of service {obj.service} on TCP/{obj.port}: {obj.local_endpoints} local endpoints"
        case Announcement():
            return f"answers for {obj.address} on {obj.link}"
        case LearnedRoute():
            hops = f"via {', '.join(map(str, obj.gateways))}" if obj.gateways else "as a blackhole"
            return f"learns route {obj.destination} {hops}"
        case DnsServer():
            upstream = f", upstream {' '.join(map(str, obj.upstreams))}" if obj.upstreams else ""
            return f"DNS server of {obj.pod} answers from view {obj.view}{upstream}"
        case Process():
            return f"process {obj.name} {' '.join(obj.argv)}"


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value)
