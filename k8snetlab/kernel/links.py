"""Links: bridges, veth pairs, VXLAN tunnel ends and dummies, as rtnetlink messages.

Facts of the kernel that shape the messages (linux/if_link.h, net/core/rtnetlink.c, drivers/net/veth.c):
- a veth's peer is made in its final namespace (IFLA_NET_NS_FD inside VETH_INFO_PEER): moving a link there waits for an
  RCU grace period, 15-20 ms, against 0.2 ms;
- the end first can become a bridge port in the same message, the peer cannot be made up;
- one queue each saves a third of the time; the peer's index can be chosen only together with the link's own;
- IPv6 gives a link its address of its own accord when it comes up, unless told before, and can be told only once the
  link is there: so links are made down. (The namespace's default, a sysctl, costs 0.13 ms in a new namespace.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

from k8snetlab.kernel.netlink import NEW, attribute, attributes, message, nested, number, string, text, u8, u32
from k8snetlab.plan.state import Bridge, Dummy, Veth, Vxlan

Link = Bridge | Veth | Vxlan | Dummy

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_QDISC: Final = 6
IFLA_MASTER: Final = 10
IFLA_PROTINFO: Final = 12
IFLA_LINKINFO: Final = 18
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_NUM_TX_QUEUES: Final = 31
IFLA_NUM_RX_QUEUES: Final = 32
IFLA_LINK_NETNSID: Final = 37
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_INFO_SLAVE_DATA: Final = 5
IFLA_BRPORT_MODE: Final = 4  # hairpin
VETH_INFO_PEER: Final = 1
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_LINK: Final = 3
IFLA_VXLAN_LOCAL: Final = 4
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_LOCAL6: Final = 17
IFLA_INET6_ADDR_GEN_MODE: Final = 8
IFF_UP: Final = 1
AF_INET6: Final = 10
AF_BRIDGE: Final = 7
LOOPBACK: Final = 1

INFO: Final = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which flags to change
# The header that asks for every link, without its counters: filling them in and reading past them is 4 % of a look
# at 1,000 pods (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h).
EVERY_LINK: Final = INFO.pack(0, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, 8)
_ONE_QUEUE: Final = u32(IFLA_NUM_TX_QUEUES, 1) + u32(IFLA_NUM_RX_QUEUES, 1)
_NO_LINK_LOCAL: Final = nested(IFLA_AF_SPEC, nested(AF_INET6, u8(IFLA_INET6_ADDR_GEN_MODE, 1)))  # mode "none"
_KIND_VETH: Final = text(IFLA_INFO_KIND, "veth")
_KIND_BRIDGE: Final = text(IFLA_INFO_KIND, "bridge")
_KIND_VXLAN: Final = text(IFLA_INFO_KIND, "vxlan")
_KIND_DUMMY: Final = text(IFLA_INFO_KIND, "dummy")


def up(index: int) -> bytes:
    """Set a link up that takes no link-local address by itself. EAFNOSUPPORT: the host has no IPv6; it is up then."""
    return message(RTM_SETLINK, 0, INFO.pack(0, 0, index, 0, 0) + _NO_LINK_LOCAL) + _up(index)


def _up(index: int) -> bytes:
    return message(RTM_SETLINK, 0, INFO.pack(0, 0, index, IFF_UP, IFF_UP))


LOOPBACK_UP: Final = _up(LOOPBACK)


def bridge(link: Bridge) -> bytes:
    """Make a bridge, up."""
    info = nested(IFLA_LINKINFO, _KIND_BRIDGE)
    return message(RTM_NEWLINK, NEW, INFO.pack(0, 0, link.index, 0, 0) + _common(link) + info) + up(link.index)


def dummy(link: Dummy, *, stand_in: bool = False) -> bytes:
    """Make a dummy, down, or a bridge in its stead. EOPNOTSUPP: this kernel has no dummies."""
    info = nested(IFLA_LINKINFO, _KIND_BRIDGE if stand_in else _KIND_DUMMY)
    return message(RTM_NEWLINK, NEW, INFO.pack(0, 0, link.index, 0, 0) + _common(link) + info)


def lookup(index: int) -> bytes:
    """Ask for one link; the answer is an error when there is none."""
    return message(RTM_GETLINK, 0, INFO.pack(0, 0, index, 0, 0))


def down(index: int) -> bytes:
    return message(RTM_SETLINK, 0, INFO.pack(0, 0, index, 0, IFF_UP))


def veth(link: Veth, peer_fd: int, master: int) -> bytes:
    """Make a veth pair, this end up, the other in the namespace of `peer_fd` and still down; `master` 0 is none.

    To be sent in the link's own namespace; `up(peer_index)` follows in the peer's.
    """
    peer = (
        INFO.pack(0, 0, link.peer_index, 0, 0)
        + text(IFLA_IFNAME, link.peer_name)
        + attribute(IFLA_ADDRESS, mac_bytes(link.peer_mac))
        + u32(IFLA_MTU, link.peer_mtu)
        + u32(IFLA_NET_NS_FD, peer_fd)
        + _ONE_QUEUE
    )
    info = nested(IFLA_LINKINFO, _KIND_VETH, nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, peer)))
    enslave = u32(IFLA_MASTER, master) if master else b""
    made = message(
        RTM_NEWLINK,
        NEW,
        INFO.pack(0, 0, link.index, 0, 0) + _common(link) + enslave + _ONE_QUEUE + info,
    )
    return made + up(link.index) + (hairpin(link.index, True) if link.hairpin else b"")


def vxlan(link: Vxlan, underlay: int, master: int = 0) -> bytes:
    """Make a VXLAN tunnel end on the link with index `underlay`, up; `master` 0 is none."""
    local = IFLA_VXLAN_LOCAL if link.local.version == 4 else IFLA_VXLAN_LOCAL6
    data = (
        u32(IFLA_VXLAN_ID, link.vni)
        + u32(IFLA_VXLAN_LINK, underlay)
        + attribute(local, link.local.packed)
        + u8(IFLA_VXLAN_LEARNING, link.learning)
        + attribute(IFLA_VXLAN_PORT, link.port.to_bytes(2, "big"))
    )
    info = nested(IFLA_LINKINFO, _KIND_VXLAN, nested(IFLA_INFO_DATA, data))
    enslave = u32(IFLA_MASTER, master) if master else b""
    made = message(RTM_NEWLINK, NEW, INFO.pack(0, 0, link.index, 0, 0) + _common(link) + enslave + info)
    return made + up(link.index)


def hairpin(index: int, on: bool) -> bytes:
    """Let a bridge port send a frame back out of itself, or not."""
    port = nested(IFLA_PROTINFO, u8(IFLA_BRPORT_MODE, on))
    return message(RTM_SETLINK, 0, INFO.pack(AF_BRIDGE, 0, index, 0, 0) + port)


def change(index: int, *, mac: str = "", mtu: int = 0, master: int | None = None) -> bytes:
    """Change a link in place; `master` 0 takes it out of its bridge, None leaves it."""
    body = INFO.pack(0, 0, index, 0, 0)
    if mac:
        body += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        body += u32(IFLA_MTU, mtu)
    if master is not None:
        body += u32(IFLA_MASTER, master)
    return message(RTM_SETLINK, 0, body)


def set_group(index: int, group: int) -> bytes:
    """Put a link into a group of links."""
    return message(RTM_SETLINK, 0, INFO.pack(0, 0, index, 0, 0) + u32(IFLA_GROUP, group))


def delete_group(group: int) -> bytes:
    """Remove all links of a group, in one go."""
    return message(RTM_DELLINK, 0, INFO.pack(0, 0, 0, 0, 0) + u32(IFLA_GROUP, group))


def kind(found: Mapping[int, bytes]) -> str:
    """What kind a link is by its attributes: `veth`, `bridge`, …; empty for hardware and loopback."""
    return string(_info(found), IFLA_INFO_KIND)


def read_bridge(netns: str, index: int, found: Mapping[int, bytes], up: bool) -> Bridge:
    return Bridge(netns, *_read_common(index, found), up)


def read_dummy(netns: str, index: int, found: Mapping[int, bytes], up: bool) -> Dummy:
    return Dummy(netns, *_read_common(index, found), up)


def read_vxlan(netns: str, index: int, found: Mapping[int, bytes], link_names: Mapping[int, str], up: bool) -> Vxlan:
    data = attributes(_info(found).get(IFLA_INFO_DATA, b""))
    local = data.get(IFLA_VXLAN_LOCAL) or data.get(IFLA_VXLAN_LOCAL6) or bytes(4)
    return Vxlan(
        netns,
        *_read_common(index, found),
        number(data, IFLA_VXLAN_ID),
        IPv4Address(local) if len(local) == 4 else IPv6Address(local),
        link_names.get(number(data, IFLA_VXLAN_LINK), ""),
        int.from_bytes(data.get(IFLA_VXLAN_PORT, b""), "big"),
        up,
        link_names.get(number(found, IFLA_MASTER), ""),
        data.get(IFLA_VXLAN_LEARNING, b"\0") != b"\0",
    )


def is_hairpin(found: Mapping[int, bytes]) -> bool:
    """Whether a bridge port may send a frame back out of itself."""
    port = attributes(_info(found).get(IFLA_INFO_SLAVE_DATA, b""))
    return port.get(IFLA_BRPORT_MODE, b"\0") != b"\0"


@lru_cache(maxsize=65536)
def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def _common(link: Link) -> bytes:
    return text(IFLA_IFNAME, link.name) + attribute(IFLA_ADDRESS, mac_bytes(link.mac)) + u32(IFLA_MTU, link.mtu)


def _info(found: Mapping[int, bytes]) -> dict[int, bytes]:
    return attributes(found.get(IFLA_LINKINFO, b""))


def _read_common(index: int, found: Mapping[int, bytes]) -> tuple[str, int, str, int]:
    return string(found, IFLA_IFNAME), index, mac_text(found.get(IFLA_ADDRESS, b"")), number(found, IFLA_MTU)
