"""Let the pods of one bridge know each other for a while, without filling the kernel's neighbour table.

Learned neighbours of all namespaces share one table of 1,024 places; an entry that somebody else has learned
(NTF_EXT_LEARNED, as routing daemons write them) does not count there (net/core/neighbour.c, exempt_from_gc). Unlike a
permanent one it is confirmed and replaced like any other, so one that is left behind does no harm and is no drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.kernel import netlink, netns
from k8snetlab.kernel.addresses import NEIGHBOUR, RTM_DELNEIGH, RTM_NEWNEIGH, family_of
from k8snetlab.kernel.links import mac_bytes
from k8snetlab.plan.state import IPAddress, Netns

_NUD_REACHABLE: Final = 0x02
_NTF_EXT_LEARNED: Final = 0x10
_NDA_DST: Final = 1
_NDA_LLADDR: Final = 2


@dataclass(frozen=True, slots=True)
class Member:
    """A namespace on a bridge: its link's index there, its address and MAC."""

    netns: str
    index: int
    address: IPAddress
    mac: str


@contextmanager
def introduced(bridges: Sequence[Sequence[Member]]) -> Iterator[None]:
    """For the body, every member of a bridge knows every other one's MAC address."""
    _tell(bridges, delete=False)
    try:
        yield
    finally:
        _tell(bridges, delete=True)


def _tell(bridges: Sequence[Sequence[Member]], *, delete: bool) -> None:
    with netns.returning():
        for members in bridges:
            messages = [_message(member, delete=delete) for member in members]
            for place, member in enumerate(members):
                with netns.inside(member.netns), netlink.Socket(member.netns) as connection:
                    others = b"".join((*messages[:place], *messages[place + 1 :]))
                    connection.send("introduce", [(Netns(member.netns), others)], tolerate=netlink.GONE)


def _message(member: Member, *, delete: bool) -> bytes:
    """The same in every other namespace, since the link has the same index there."""
    head = NEIGHBOUR.pack(
        family_of(member.address.version), 0, member.index, _NUD_REACHABLE, _NTF_EXT_LEARNED, 0
    ) + netlink.attribute(_NDA_DST, member.address.packed)
    if delete:
        return netlink.message(RTM_DELNEIGH, 0, head)
    mac = netlink.attribute(_NDA_LLADDR, mac_bytes(member.mac))
    return netlink.message(RTM_NEWNEIGH, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, head + mac)
