"""The rules of a namespace as nf_tables holds them, those of iptables-nft included: comment, counter, handle.

Raw netlink, since `nft` shows the comments of iptables' rules without their text and takes 10 ms; this takes half of
one. Formats: linux/netfilter/nf_tables.h, linux/netfilter/xt_comment.h.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import KernelError
from k8snetlab.kernel import legacy_rules, netlink
from k8snetlab.kernel.netlink import NLM_F_ACK, attribute, attributes, message, text
from k8snetlab.kernel.netns import inside
from k8snetlab.plan.state import Family

_NETLINK_NETFILTER: Final = 12
_NFTABLES: Final = 10  # NFNL_SUBSYS_NFTABLES
_GET_RULE, _DELETE_RULE = _NFTABLES << 8 | 7, _NFTABLES << 8 | 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_TABLE, _CHAIN, _HANDLE, _EXPRESSIONS, _USERDATA = 1, 2, 3, 4, 7
_NAME, _DATA = 1, 2  # NFTA_EXPR_NAME, NFTA_EXPR_DATA
_BYTES, _PACKETS = 1, 2  # NFTA_COUNTER_*
_MATCH_NAME, _MATCH_INFO = 1, 3
_TARGET_NAME: Final = 1
_COMMENT: Final = 0  # NFTNL_UDATA_RULE_COMMENT
_NFGENMSG: Final = 4
_FAMILIES: Final[dict[int, Family]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_NUMBERS: Final[dict[Family, int]] = {4: socket.AF_INET, 6: socket.AF_INET6}
_ATTRIBUTE: Final = Struct("=HH")


@dataclass(frozen=True, slots=True)
class KernelRule:
    """One rule; `packets` is None for one without a counter (iptables' always have one), and for one that only logs:
    what it logs meets the next rule too."""

    netns: str
    family: Family
    table: str
    chain: str
    handle: int
    comment: str = ""
    packets: int | None = None


def read(netns: str) -> list[KernelRule]:
    """Every rule of the namespace the thread is in, of both families; `netns` is its name."""
    with netlink.Socket(netns, _NETLINK_NETFILTER) as connection:
        bodies = connection.dump(_GET_RULE, bytes(_NFGENMSG))
    return [_rule(netns, _FAMILIES[body[0]], body) for body in bodies if body[0] in _FAMILIES]


def packets_by_comment(namespaces: Iterable[str]) -> dict[str, int]:
    """What the rules with a comment and a counter have counted, in all these namespaces together."""
    found: defaultdict[str, int] = defaultdict(int)
    for name in namespaces:
        with inside(name):
            counted = [(rule.comment, rule.packets) for rule in read(name)]
            counted += [(rule.comment, rule.packets) for rule in legacy_rules.read(name)]
        for comment, packets in counted:
            if comment and packets is not None:
                found[comment] += packets
    return dict(found)


def delete(netns: str, rules: Iterable[KernelRule]) -> None:
    """Take rules out of the namespace the thread is in, all or none."""
    by_family: defaultdict[Family, list[KernelRule]] = defaultdict(list)
    for rule in rules:
        by_family[rule.family].append(rule)
    for family, doomed in by_family.items():
        head = bytes((_NUMBERS[family], 0, 0, 0))
        batch = _batch_mark(_BATCH_BEGIN)
        for rule in doomed:
            where = text(_TABLE, rule.table) + text(_CHAIN, rule.chain)
            batch += message(_DELETE_RULE, NLM_F_ACK, head + where + attribute(_HANDLE, rule.handle.to_bytes(8, "big")))
        batch += _batch_mark(_BATCH_END)
        with netlink.Socket(netns, _NETLINK_NETFILTER) as connection:
            answers = connection.acknowledged(batch, len(doomed))
        if answers:
            raise KernelError("delete rules", netns=netns, reason=answers[0])


def _batch_mark(kind: int) -> bytes:
    """The begin or end of a batch; its resource id is the subsystem's number."""
    return message(kind, 0, bytes((socket.AF_UNSPEC, 0)) + _NFTABLES.to_bytes(2, "big"))


def _rule(netns: str, family: Family, body: bytes) -> KernelRule:
    found = attributes(body, _NFGENMSG)
    comment, packets = _written(found.get(_USERDATA, b"")), None
    logs = decides = False
    for expression in _elements(found.get(_EXPRESSIONS, b"")):
        name, data = netlink.string(expression, _NAME), attributes(expression.get(_DATA, b""))
        if name == "counter":
            packets = int.from_bytes(data.get(_PACKETS, b""), "big")
        elif name == "match" and netlink.string(data, _MATCH_NAME) == "comment":
            comment = data.get(_MATCH_INFO, b"").partition(b"\0")[0].decode(errors="replace")
        elif name == "log" or (name == "target" and netlink.string(data, _TARGET_NAME) == "NFLOG"):
            logs = True
        elif name in ("immediate", "target"):
            decides = True
    return KernelRule(
        netns,
        family,
        netlink.string(found, _TABLE),
        netlink.string(found, _CHAIN),
        int.from_bytes(found.get(_HANDLE, b""), "big"),
        comment,
        None if logs and not decides else packets,
    )


def _elements(data: bytes) -> Iterator[dict[int, bytes]]:
    """The members of a list, which all have the same type."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length = _ATTRIBUTE.unpack_from(data, offset)[0]
        if length < _ATTRIBUTE.size:
            return
        yield attributes(data[offset + _ATTRIBUTE.size : offset + length])
        offset += (length + 3) & ~3


def _written(userdata: bytes) -> str:
    """nft's own comment: among fields of type, length and value, a byte each for the first two."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""
