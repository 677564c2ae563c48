"""A kernel object in a few words, near to what `ip` and `iptables` call it, for messages. Its namespace is not said."""

from __future__ import annotations

from k8snetlab.plan.proxy.ipvs_script import real_words, virtual_words
from k8snetlab.plan.state import (
    Address,
    Announcement,
    Bridge,
    Dummy,
    FdbEntry,
    IptablesChain,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Netns,
    RealServer,
    Route,
    Sysctl,
    TokenBucket,
    UdpDestination,
    Veth,
    VirtualServer,
    Vxlan,
)


def describe(item: KernelObject) -> str:
    """`route 10.244.1.0/24 via 172.18.0.3 dev eth0`, `bridge cni0`, `chain nat KUBE-SERVICES` and so on."""
    match item:
        case Netns(name):
            text = f"network namespace {name}"
        case Bridge() | Vxlan() | Dummy():
            text = f"{type(item).__name__.lower()} {item.name}"
        case Veth():
            text = f"veth {item.name} (peer {item.peer_name} in {item.peer_netns})"
        case Address(_, link, interface):
            text = f"address {interface} dev {link}"
        case Route():
            text = _route(item)
        case Neighbour(_, link, address, mac):
            text = f"neighbour {address} lladdr {mac} dev {link}"
        case FdbEntry(_, link, mac, destination):
            text = f"forwarding entry {mac} dst {destination} dev {link}"
        case Sysctl(_, key, value):
            text = f"sysctl {key}={value}"
        case IptablesChain():
            text = f"chain {item.table} {item.name} (IPv{item.family})"
        case _:
            text = _other(item)
    return text


def _other(item: KernelObject) -> str:
    match item:
        case TokenBucket(_, link, rate):
            return f"tbf rate {rate}bit dev {link}"
        case LearnedRoute():
            hops = f"via {', '.join(map(str, item.gateways))}" if item.gateways else "as a blackhole"
            return f"learned route {item.destination} {hops}"
        case Announcement(_, link, address):
            return f"answers for {address} on {link}"
        case VirtualServer():
            return f"virtual server {virtual_words(item)}"
        case RealServer():
            return f"real server {real_words(item)}"
        case UdpDestination():
            return f"UDP destination {item.address} port {item.port}"
        case _:
            return type(item).__name__


def _route(item: Route) -> str:
    kind = "" if item.kind == "unicast" else f" {item.kind}"
    parts = [f"route{kind} {item.destination}"]
    parts += [f"via {item.via}"] if item.via else []
    parts += [f"dev {item.link}"] if item.link else []
    parts += [f"src {item.source}"] if item.source else []
    parts += ["onlink"] if item.onlink else []
    return " ".join(parts)
