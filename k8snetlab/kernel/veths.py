"""Which two ends make a veth pair.

A link dump says of a veth's peer its index (IFLA_LINK) and a number for its namespace (IFLA_LINK_NETNSID) that means
something only in the namespace that was asked. Ends are matched by the indexes, and since those repeat (every pod's
eth0 is 2) each match is confirmed: the kernel is asked for the number of the namespace that is supposed (RTM_GETNSID).
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.kernel import links, netlink
from k8snetlab.kernel.changes import End as Place
from k8snetlab.plan.state import Veth

RTM_GETNSID: Final = 90
_NETNSA_NSID: Final = 1
_NETNSA_FD: Final = 3
_RTGENMSG: Final = bytes(4)
_SAME_NAMESPACE: Final = -1


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair, as its own namespace shows it; `netnsid` is -1 when the peer is in the same one."""

    netns: str
    name: str
    index: int
    mac: str
    mtu: int
    master: str
    hairpin: bool
    up: bool
    peer_index: int
    netnsid: int


def read_end(netns: str, index: int, found: Mapping[int, bytes], link_names: Mapping[int, str], up: bool) -> End:
    """One end from the attributes of its link."""
    netnsid = int.from_bytes(found.get(links.IFLA_LINK_NETNSID, b"\xff\xff\xff\xff"), sys.byteorder, signed=True)
    return End(
        netns,
        netlink.string(found, links.IFLA_IFNAME),
        index,
        links.mac_text(found.get(links.IFLA_ADDRESS, b"")),
        netlink.number(found, links.IFLA_MTU),
        link_names.get(netlink.number(found, links.IFLA_MASTER), ""),
        links.is_hairpin(found),
        up,
        netlink.number(found, links.IFLA_LINK),
        netnsid,
    )


Asker = Callable[[str, list[bytes]], list[bytes | None]]  # send requests in a namespace, get their answers


def pairs(ends: Iterable[End], fds: dict[str, int], ask: Asker, planned: Iterable[Veth]) -> Iterator[Veth]:
    """Every pair once; an end whose peer is in none of the namespaces `fds` is a pair with an unnamed peer.

    The end first is the one that `planned` has first, else the one that is a bridge's port.
    """
    order = {((veth.netns, veth.name), (veth.peer_netns, veth.peer_name)) for veth in planned}
    by_index: defaultdict[tuple[int, int], list[End]] = defaultdict(list)
    ends = list(ends)
    for end in ends:
        by_index[end.peer_index, end.index].append(end)
    # The side with fewer suppositions asks: a pod has one peer, its node a hundred.
    taken: set[Place] = set()
    for end in sorted(ends, key=lambda end: bool(end.master)):
        if (end.netns, end.name) in taken:
            continue
        peer = _peer(end, by_index[end.index, end.peer_index], fds, ask)
        taken.add((end.netns, end.name))
        if peer is not None:
            taken.add((peer.netns, peer.name))
        yield _veth(end, peer, order)


def _peer(end: End, candidates: list[End], fds: dict[str, int], ask: Asker) -> End | None:
    """The candidate whose namespace has, where `end` lives, the number that `end` says. Likely ones are asked first."""
    if end.netnsid == _SAME_NAMESPACE:
        return next((c for c in candidates if c.netns == end.netns and c.netnsid == _SAME_NAMESPACE), None)
    others = [c for c in candidates if c.netnsid != _SAME_NAMESPACE]
    # Often the MACs of a pair differ in their first byte only (`cluster.names.port_mac`): a guess, never a proof.
    likely = [c for c in others if c.mac[2:] == end.mac[2:]]
    for guesses in (likely, [c for c in others if c not in likely] if len(likely) < len(others) else []):
        requests = [
            netlink.message(RTM_GETNSID, 0, _RTGENMSG + netlink.u32(_NETNSA_FD, fds[guess.netns])) for guess in guesses
        ]
        for guess, answer in zip(guesses, ask(end.netns, requests) if requests else [], strict=True):
            if answer is not None and netlink.number(netlink.attributes(answer, 4), _NETNSA_NSID) == end.netnsid:
                return guess
    return None


def _veth(end: End, peer: End | None, order: set[tuple[Place, Place]]) -> Veth:
    if peer is None:
        peer = End("", "", end.peer_index, "", 0, "", False, end.up, end.index, 0)
    here, there = (end.netns, end.name), (peer.netns, peer.name)
    if (here, there) not in order and ((there, here) in order or (peer.master and not end.master)):
        end, peer = peer, end
    return Veth(
        *(end.netns, end.name, end.index, end.mac, end.mtu),
        *(peer.netns, peer.name, peer.index, peer.mac, peer.mtu),
        end.master,
        end.hairpin,
        end.up and peer.up,
    )
