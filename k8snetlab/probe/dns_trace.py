"""Watch a resolver at work: every DNS message that passes the interfaces of its network namespace while it looks up.

For addresses that is the C library's own (`getent ahosts`, as every program would), for other types of records a
resolver that walks the search list in the same way.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import ProbeError
from k8snetlab.flows.model import Flow, Result
from k8snetlab.flows.walk import Asked, Walk
from k8snetlab.kernel import netns as namespaces
from k8snetlab.kernel import processes, syscalls
from k8snetlab.kernel.identity import Identity, assume
from k8snetlab.probe import resolver
from k8snetlab.probe.engine import drive
from k8snetlab.workloads.dnswire import TYPE_NAMES, Message

_PORT = 53
_ETH_P_ALL = 3  # only it shows what this host sends
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h: when the kernel saw the packet, not when Python got round to it
_BUFFER = 4 << 20
_UDP, _TCP = 17, 6
_IPV6_HEADER = 40


@dataclass(frozen=True, slots=True)
class Packet:
    """One DNS message that passed: `client` is the resolver's port, `server` the other end's address."""

    when: float
    client: int
    server: str
    protocol: str
    message: Message


def trace(flow: Flow, identity: Identity, timeout: float) -> Walk:
    """Look `flow.address` up as the sender does and watch. This process takes the sender's identity, for good.

    With `flow.query` empty the C library looks for addresses of both families. Raises ProbeError when it cannot run.
    """
    syscalls.setns(namespaces.open_netns(flow.sender.netns), syscalls.CLONE_NEWNET)
    assume(identity)
    with _listening() as tap:
        begin = time.monotonic()
        result = _look_up(flow, timeout)
        seconds = time.monotonic() - begin
        packets = list(_packets(tap))
    asked = match(packets)
    return Walk(
        asked=tuple(asked),
        found=result.records,
        reason="" if result.outcome == "ok" else result.reason,
        ms=seconds * 1000,
        resolv_conf=identity.resolv_conf,
    )


def _look_up(flow: Flow, timeout: float) -> Result:
    if flow.query:
        return dict(drive([resolver.look_up(flow, timeout)], 1))[0]
    done = processes.run(["getent", "ahosts", "--", flow.address], timeout=timeout + 30)
    if done.returncode not in (0, 2):
        raise ProbeError(
            f"getent ended with exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
        )
    found = tuple(dict.fromkeys(line.split()[0] for line in done.stdout.decode(errors="replace").splitlines() if line))
    return Result(outcome="ok" if found else "refused", records=found, reason="" if found else "not found")


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        tap.setblocking(False)
        yield tap


def _packets(tap: socket.socket) -> Iterator[Packet]:
    """What has been caught. A packet that passes several interfaces of a node counts once."""
    seen: set[bytes] = set()
    while True:
        try:
            data, control, _flags, _address = tap.recvmsg(65535, 64)
        except BlockingIOError:
            return
        stamps = [content for level, kind, content in control if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
        packet = read_packet(data)
        if packet is None or not stamps or data in seen:
            continue
        seen.add(data)
        whole, fraction = struct.unpack_from("=qq", stamps[0])
        yield replace(packet, when=whole + fraction / 1e9)


def read_packet(data: bytes) -> Packet | None:
    """The DNS message in an IP packet from or to port 53; None for any other packet."""
    if data[:1] and data[0] >> 4 == 4 and len(data) >= 20:
        protocol, at, family = data[9], (data[0] & 0xF) * 4, socket.AF_INET
        ends = data[12:16], data[16:20]
    elif data[:1] and data[0] >> 4 == 6 and len(data) >= _IPV6_HEADER:
        protocol, at, family = data[6], _IPV6_HEADER, socket.AF_INET6
        ends = data[8:24], data[24:40]
    else:
        return None
    if protocol not in (_UDP, _TCP) or len(data) < at + 20:
        return None
    source, target = struct.unpack_from("!HH", data, at)
    if _PORT not in (source, target):
        return None
    body = data[at + 8 :] if protocol == _UDP else data[at + (data[at + 12] >> 4) * 4 + 2 :]
    try:
        message = Message(body)
    except ValueError:  # of TCP, an acknowledgement; or the second half of a message
        return None
    answer = source == _PORT
    server = socket.inet_ntop(family, ends[0 if answer else 1])
    return Packet(0.0, target if answer else source, server, "UDP" if protocol == _UDP else "TCP", message)


def match(packets: list[Packet]) -> list[Asked]:
    """Questions with their answers, in the order asked; a question sent again stands for itself."""
    asked: list[Asked] = []
    waiting: dict[tuple[int, int, str, str, int], int] = {}
    first = packets[0].when if packets else 0.0
    sent: list[float] = []
    for packet in packets:
        message = packet.message
        key = packet.client, message.id, packet.server, message.name.lower(), message.kind
        if not message.flags & 0x8000:
            kind = TYPE_NAMES.get(message.kind, f"TYPE{message.kind}")
            at_ms = (packet.when - first) * 1000
            waiting[key] = len(asked)
            sent.append(packet.when)
            asked.append(
                Asked(name=message.name, type=kind, server=packet.server, protocol=packet.protocol, at_ms=at_ms)
            )
        elif (place := waiting.pop(key, None)) is not None:
            asked[place] = replace(
                asked[place],
                code=message.code,
                answers=tuple(text.split(" ", 1)[1] for _, text in message.sections[0]),
                truncated=message.truncated,
                ms=(packet.when - sent[place]) * 1000,
            )
    return asked
