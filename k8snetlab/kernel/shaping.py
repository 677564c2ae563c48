"""Queueing disciplines of the kind `tbf`, as rtnetlink messages and back (linux/pkt_sched.h, net/sched/sch_tbf.c)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from k8snetlab.kernel.netlink import NEW, attribute, attributes, message, nested, string, text, u32
from k8snetlab.plan.shaping import burst, limit
from k8snetlab.plan.state import TokenBucket

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_TBF_PARMS: Final = 1
_TCA_TBF_RATE64: Final = 4
_TCA_TBF_BURST: Final = 6
_TC_H_ROOT: Final = 0xFFFFFFFF
_HANDLE: Final = 0x10000  # 1:
_LINKLAYER_ETHERNET: Final = 1
_LARGEST: Final = 0xFFFFFFFF

_QDISC: Final = Struct("=BxxxiIII")  # struct tcmsg: family, index, handle, parent, info
_RATE: Final = Struct("=BBHhHI")  # struct tc_ratespec: cell log, link layer, overhead, cell align, mpu, bytes a second
_PARMS: Final = Struct("=12s12sIII")  # struct tc_tbf_qopt: rate, peak rate, limit, buffer, mtu
ANY_QDISC: Final = _QDISC.pack(0, 0, 0, 0, 0)


def token_bucket(item: TokenBucket, index: int, *, delete: bool = False) -> bytes:
    """Hold a link to a rate, in place of what the kernel gave it; or let it go."""
    body = _QDISC.pack(0, index, _HANDLE, _TC_H_ROOT, 0) + text(_TCA_KIND, "tbf")
    if delete:
        return message(RTM_DELQDISC, 0, body)
    rate = item.rate // 8
    parms = _PARMS.pack(
        _RATE.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _LARGEST)),
        bytes(12),
        min(limit(item.rate), _LARGEST),
        0,
        0,
    )
    options = attribute(_TCA_TBF_PARMS, parms) + u32(_TCA_TBF_BURST, min(burst(item.rate), _LARGEST))
    if rate > _LARGEST:
        options += attribute(_TCA_TBF_RATE64, rate.to_bytes(8, "little"))
    return message(RTM_NEWQDISC, NEW, body + nested(_TCA_OPTIONS, options))


def read_token_bucket(netns: str, body: bytes, link_names: dict[int, str]) -> TokenBucket | None:
    """The `tbf` at a link's root; None for other disciplines and other places."""
    _, index, _, parent, _ = _QDISC.unpack_from(body)
    found = attributes(body, _QDISC.size)
    if parent != _TC_H_ROOT or string(found, _TCA_KIND) != "tbf":
        return None
    options = attributes(found.get(_TCA_OPTIONS, b""))
    rate_spec = _PARMS.unpack_from(options.get(_TCA_TBF_PARMS, bytes(_PARMS.size)))[0]
    rate = _RATE.unpack(rate_spec)[5]
    if _TCA_TBF_RATE64 in options:
        rate = int.from_bytes(options[_TCA_TBF_RATE64], "little")
    return TokenBucket(netns, link_names.get(index, str(index)), rate * 8)
