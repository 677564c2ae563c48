"""Every name and number in the kernel that is derived from a Kubernetes object.

Kubernetes names never contain `_` or upper case, so a pod's namespace `shop_api-0` cannot collide with a node's
(`node1`) or with the world outside. Interface names have at most 15 bytes, file names 255.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address

FABRIC = "fabric"  # the node network: one bridge, no addresses
ROUTER = "router"  # between the node network and the world outside
CLIENT = "client"  # external/client
INTERNET = "internet"  # external/internet
WORLD = (FABRIC, ROUTER, CLIENT, INTERNET)


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
