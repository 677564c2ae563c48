"""Every name and number in the kernel that is derived from a Kubernetes object.

Kubernetes names never contain `_` or upper case, so a pod's namespace `shop_api-0` cannot collide with a node's
(`node1`) or with the world outside. Interface names have at most 15 bytes, file names 255.
"""

from __future__ import annotations

from hashlib import sha1, sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

FABRIC = "fabric"  # the node network: one bridge, no addresses
ROUTER = "router"  # between the node network and the world outside
CLIENT = "client"  # external/client
INTERNET = "internet"  # external/internet
INTERNET_LISTENERS = (("TCP", 80), ("UDP", 80))  # what the server that stands for the internet listens on
WORLD = (FABRIC, ROUTER, CLIENT, INTERNET)

FABRIC_BRIDGE = "br0"
POD_BRIDGE = "cni0"
IPVS_LINK = "kube-ipvs0"  # where kube-proxy puts the addresses of Services in IPVS mode
UPLINK = "eth0"  # what a pod, a node, the router and an external host call their (first) interface

LOOPBACK: dict[Literal[4, 6], IPv4Address | IPv6Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}

# Documentation ranges (RFC 5737, RFC 3849) stand for the world outside; the host's own networks never use them.
OUTSIDE_NETWORKS: dict[str, tuple[IPv4Network, IPv6Network]] = {
    CLIENT: (IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:cb00:71::/64")),
    INTERNET: (IPv4Network("198.51.100.0/24"), IPv6Network("2001:db8:c633:64::/64")),
}


def outside_network(name: str, family: Literal[4, 6]) -> IPv4Network | IPv6Network:
    """The network of the external host `client` or `internet`; the router is its first address."""
    return OUTSIDE_NETWORKS[name][0 if family == 4 else 1]


def outside_address(name: str, family: Literal[4, 6]) -> IPv4Address | IPv6Address:
    """The address of the external host `client` or `internet`."""
    return outside_network(name, family)[0x10 if family == 6 else 10]


def fabric_port(index: int) -> str:
    """The fabric's end of the cable to the node with this index."""
    return f"n{index}"


def switch(network: str) -> str:
    """The bridge of a further network of nodes; hashed when its name does not fit."""
    plain = f"br-{network}"
    return plain if len(plain) <= 15 else f"br-{sha256(network.encode()).hexdigest()[:10]}"


def switch_port(index: int, interface: str) -> str:
    """That bridge's end of the cable to an interface of the node with this index."""
    plain = f"n{index}-{interface}"
    return plain if len(plain) <= 15 else f"n{index}-{sha256(interface.encode()).hexdigest()[:7]}"


def pod_veth(namespace: str, name: str, slot: int, prefix: str = "veth") -> str:
    """The node's end of a pod's veth pair: `veth` and eight hex digits, as the bridge CNI plugin names them.

    Half comes from the pod's name, half from its place on the node, so no two on a node are equal and none changes when
    other pods come and go.
    """
    digits = min(4, 11 - len(prefix))
    return f"{prefix}{sha256(f'{namespace}/{name}'.encode()).hexdigest()[:digits]}{slot:04x}"


def calico_link(namespace: str, name: str) -> str:
    """The node's end of a pod's veth pair with Calico (libcalico-go, VethNameForWorkload)."""
    return f"cali{sha1(f'{namespace}.{name}'.encode(), usedforsecurity=False).hexdigest()[:11]}"


def pod_netns(namespace: str, name: str) -> str:
    """The network namespace of a pod: `ns_name`, hashed when it would not fit a file name with the lab's in front."""
    plain = f"{namespace}_{name}"
    if len(plain) <= 180:
        return plain
    return f"{plain[:160]}_{sha256(plain.encode()).hexdigest()[:16]}"


def mac_of(address: IPv4Address | IPv6Address) -> str:
    """A locally administered MAC derived from the address, so that a pod made anew keeps its neighbours' ARP entries.

    The form `0a:58` + IPv4 is the one the bridge CNI plugin used; an IPv6 address is hashed into the last four bytes.
    """
    tail = address.packed if isinstance(address, IPv4Address) else sha256(address.packed).digest()[:4]
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + tail)


def tunnel_mac(mac: str) -> str:
    """The MAC of a tunnel's end that has no address of its own, from its node's: in a range of its own again."""
    return f"1e{mac[2:]}"


def link_local(mac: str) -> IPv6Address:
    """The IPv6 address that a link with this MAC has by itself (RFC 4291, appendix A)."""
    packed = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes((packed[0] ^ 2,)) + packed[1:3] + b"\xff\xfe" + packed[3:])


def mac_of_name(name: str) -> str:
    """A locally administered MAC for what has no address of its own, or several."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + sha256(name.encode()).digest()[:4])


def port_mac(mac: str) -> str:
    """The MAC of the far end of a cable whose near end has `mac`: locally administered too, in a range of its own."""
    return f"0e{mac[2:]}"
