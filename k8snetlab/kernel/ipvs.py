"""IPVS of a namespace, over generic netlink (linux/ip_vs.h): virtual servers and their real servers.

A change first makes what is new, then takes away what is not wanted any more, so that no virtual server is without
backends in between. A TCP backend that goes keeps its connections, as with kube-proxy's graceful termination: it gets
weight 0 and, once it has no connection left, is removed. kube-proxy looks for such once a minute; nothing of the lab
runs by itself, so here a later change in the namespace does, and until then they are no drift (`is_draining`). UDP and
SCTP backends go at once. Source: kubernetes, pkg/proxy/ipvs/graceful_termination.go.

The messages are packed by hand: pyroute2 needs 0.12 s to be imported and 1 ms a message. /proc/net/ip_vs would have it
all in one read, but skips virtual servers from its second page on when other namespaces have some too (6.12:
ip_vs_info_seq_next counts them, ip_vs_info_array does not).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel.netlink import GONE, Socket, attribute, attributes, message, nested, number, string, text, u32
from k8snetlab.plan.state import IPAddress, KernelObject, RealServer, VirtualProtocol, VirtualServer

Server = VirtualServer | RealServer
ServerKey = tuple[VirtualProtocol, IPAddress, int]
RealKey = tuple[ServerKey, IPAddress, int]

_NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 0x10, 3, 1, 2
_FAMILY_NAME: Final = "IPVS"
_NEW_SERVICE, _SET_SERVICE, _DEL_SERVICE, _GET_SERVICE, _NEW_DEST, _SET_DEST, _DEL_DEST, _GET_DEST = range(1, 9)
_ATTR_SERVICE, _ATTR_DEST = 1, 2
_SVC_AF, _SVC_PROTOCOL, _SVC_ADDR, _SVC_PORT, _SVC_FWMARK = 1, 2, 3, 4, 5
_SVC_SCHED_NAME, _SVC_FLAGS, _SVC_TIMEOUT, _SVC_NETMASK = 6, 7, 8, 9
_DEST_ADDR, _DEST_PORT, _DEST_FWD_METHOD, _DEST_WEIGHT, _DEST_U_THRESH, _DEST_L_THRESH = range(1, 7)
_DEST_ACTIVE_CONNS, _DEST_INACT_CONNS, _DEST_ADDR_FAMILY = 7, 8, 11
_PERSISTENT: Final = 0x1
_HASH_PORT: Final = 0x10  # IP_VS_SVC_F_SCHED2, which mh and sh take for "the port too"
_FORWARDING, _MASQUERADE = 0x7, 0  # IP_VS_CONN_F_FWD_MASK, IP_VS_CONN_F_MASQ
_AF_INET6: Final = int(socket.AF_INET6).to_bytes(2, sys.byteorder)
_PROTOCOLS: Final[dict[VirtualProtocol, int]] = {"TCP": 6, "UDP": 17, "SCTP": 132}
_PROTOCOL_NAMES: Final = {number: name for name, number in _PROTOCOLS.items()}
_FLAGS: Final = Struct("=II")  # the flags and a mask of those that are meant
_ALL: Final = 0xFFFFFFFF
# Above this many virtual servers in a namespace, only those that change are looked at for backends to sweep.
_SWEPT: Final = 256
_EXISTS: Final = frozenset({errno.EEXIST})

_HINT: Final = "modprobe ip_vs, on a kernel built with CONFIG_IP_VS; or choose another kubeProxyMode"


def require() -> None:
    """Raise HostError, with the fix, when this kernel has no IPVS."""
    with Socket("", _NETLINK_GENERIC) as connection:
        family_number(connection)


def change(
    netns: str,
    missing: Sequence[Server],
    extra: Sequence[Server],
    *,
    fresh: bool,
    planned: Sequence[VirtualServer] = (),
) -> None:
    """Make and remove servers of the namespace the calling thread is in; one that changed is in both.

    `fresh` says that the namespace has no servers yet; `planned` are all the virtual servers wanted in it. The loopback
    must be up: without any local address the kernel takes every backend's for a broadcast address (EINVAL). Raises
    KernelError naming the server, HostError when the scheduler is missing.
    """
    with Socket(netns, _NETLINK_GENERIC) as connection:
        family = family_number(connection)
        _make(connection, family, missing, extra, fresh=fresh)
        if not fresh:
            _remove(connection, family, missing, extra)
            touched = {real_key(item)[0] for item in (*missing, *extra) if isinstance(item, RealServer)}
            few = len(planned) <= _SWEPT
            _sweep(connection, family, [item for item in planned if few or _server_key(item) in touched])


def read(netns: str) -> Iterator[Server]:
    """All servers of the namespace the calling thread is in; backends reached otherwise than by translation, and
    virtual servers for a firewall mark, have no word in the plan and are left out."""
    with Socket(netns, _NETLINK_GENERIC) as connection:
        try:
            family = family_number(connection)
        except HostError:
            return
        for body in connection.dump(family, bytes((_GET_SERVICE, 1, 0, 0))):
            found = attributes(attributes(body, 4).get(_ATTR_SERVICE, b""))
            if _SVC_FWMARK not in found:
                server = _virtual_server(netns, found)
                yield server
                for backend, _ in _backends(connection, family, server):
                    yield backend


def is_draining(server: RealServer) -> bool:
    """Whether it looks like one that keeps its connections and gets no more."""
    return server.weight == 0 and server.protocol == "TCP"


def real_key(server: RealServer) -> RealKey:
    return (server.protocol, server.virtual, server.virtual_port), server.address, server.port


def _make(connection: Socket, family: int, missing: Iterable[Server], extra: Iterable[Server], *, fresh: bool) -> None:
    changed = {_server_key(item) for item in extra if isinstance(item, VirtualServer)}
    services: list[tuple[KernelObject, bytes]] = []
    backends: list[tuple[KernelObject, bytes]] = []
    for item in missing:
        if isinstance(item, VirtualServer):
            command = _SET_SERVICE if _server_key(item) in changed else _NEW_SERVICE
            services.append((item, _request(family, command, _service(item))))
        else:
            target = _target(item.protocol, item.virtual, item.virtual_port)
            requests = _request(family, _NEW_DEST, target, _backend(item, item.weight))
            if not fresh:  # one that is draining is there already, with weight 0
                requests += _request(family, _SET_DEST, target, _backend(item, item.weight))
            backends.append((item, requests))
    try:
        connection.send("create", services)
    except KernelError as error:
        if error.reason.startswith(os.strerror(errno.ENOENT)):
            schedulers = ", ".join(sorted({item.scheduler for item in missing if isinstance(item, VirtualServer)}))
            hint = f"modprobe ip_vs_{schedulers}, or choose another ipvsScheduler"
            raise HostError(f"this kernel has no IPVS scheduler {schedulers}", hint=hint) from error
        raise
    connection.send("create", backends, tolerate=_EXISTS)


def _remove(connection: Socket, family: int, missing: Iterable[Server], extra: Sequence[Server]) -> None:
    """With a virtual server its backends go; of one that stays, TCP backends only stop being chosen."""
    kept = {_server_key(item) if isinstance(item, VirtualServer) else real_key(item) for item in missing}
    gone = {_server_key(item) for item in extra if isinstance(item, VirtualServer)} - kept
    requests: list[tuple[KernelObject, bytes]] = []
    for item in extra:
        if isinstance(item, VirtualServer):
            if _server_key(item) in gone:
                requests.append((item, _request(family, _DEL_SERVICE, _target(item.protocol, item.address, item.port))))
        elif real_key(item) not in kept and real_key(item)[0] not in gone:
            target = _target(item.protocol, item.virtual, item.virtual_port)
            command = _SET_DEST if item.protocol == "TCP" else _DEL_DEST
            requests.append((item, _request(family, command, target, _backend(item, 0))))
    connection.send("remove", requests, tolerate=GONE)


def _sweep(connection: Socket, family: int, servers: Iterable[VirtualServer]) -> None:
    """Remove the TCP backends with weight 0 that have no connection left."""
    requests: list[tuple[KernelObject, bytes]] = []
    for server in servers:
        if server.protocol == "TCP":
            for item, connections in _backends(connection, family, server):
                if item.weight == 0 and connections == 0:
                    target = _target(item.protocol, item.virtual, item.virtual_port)
                    requests.append((item, _request(family, _DEL_DEST, target, _backend(item, 0))))
    connection.send("remove", requests, tolerate=GONE)


def _backends(connection: Socket, family: int, server: VirtualServer) -> Iterator[tuple[RealServer, int]]:
    """The backends of a virtual server, each with the number of its connections, those that are ending included.

    One that is not reached by translation is none of ours.
    """
    key = _server_key(server)
    for body in connection.dump(family, bytes((_GET_DEST, 1, 0, 0)) + _target(*key)):
        found = attributes(attributes(body, 4).get(_ATTR_DEST, b""))
        if number(found, _DEST_FWD_METHOD) & _FORWARDING == _MASQUERADE:
            v6 = found.get(_DEST_ADDR_FAMILY, b"\0\0") == _AF_INET6
            address = _address(found[_DEST_ADDR], v6=v6)
            port, weight = int.from_bytes(found[_DEST_PORT][:2], "big"), number(found, _DEST_WEIGHT)
            connections = number(found, _DEST_ACTIVE_CONNS) + number(found, _DEST_INACT_CONNS)
            yield RealServer(connection.netns, *key, address, port, weight), connections


def family_number(connection: Socket) -> int:
    """The number by which this kernel knows IPVS in generic netlink."""
    body = bytes((_CTRL_CMD_GETFAMILY, 1, 0, 0)) + text(_CTRL_ATTR_FAMILY_NAME, _FAMILY_NAME)
    answer = connection.ask([message(_GENL_ID_CTRL, 0, body)])[0]
    if answer is None:
        raise HostError("kube-proxy's ipvs mode needs IPVS, and this kernel lacks it", hint=_HINT)
    return int.from_bytes(attributes(answer, 4)[_CTRL_ATTR_FAMILY_ID][:2], sys.byteorder)


def _request(family: int, command: int, service: bytes, backend: bytes = b"") -> bytes:
    return message(family, 0, bytes((command, 1, 0, 0)) + service + backend)


@cache
def _target(protocol: VirtualProtocol, address: IPAddress, port: int) -> bytes:
    """What tells a virtual server from others."""
    return nested(_ATTR_SERVICE, _identity(protocol, address, port))


def _service(item: VirtualServer) -> bytes:
    flags = (_PERSISTENT if item.persistence else 0) | (_HASH_PORT if item.hash_port else 0)
    return nested(
        _ATTR_SERVICE,
        _identity(item.protocol, item.address, item.port),
        text(_SVC_SCHED_NAME, item.scheduler),
        attribute(_SVC_FLAGS, _FLAGS.pack(flags, _ALL)),
        u32(_SVC_TIMEOUT, item.persistence),
        u32(_SVC_NETMASK, _ALL if item.address.version == 4 else 128),  # persistence is by single address
    )


def _identity(protocol: VirtualProtocol, address: IPAddress, port: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return (
        attribute(_SVC_AF, family.to_bytes(2, sys.byteorder))
        + attribute(_SVC_PROTOCOL, _PROTOCOLS[protocol].to_bytes(2, sys.byteorder))
        + attribute(_SVC_ADDR, address.packed.ljust(16, b"\0"))
        + attribute(_SVC_PORT, port.to_bytes(2, "big"))
    )


def _backend(item: RealServer, weight: int) -> bytes:
    return nested(
        _ATTR_DEST,
        attribute(_DEST_ADDR, item.address.packed.ljust(16, b"\0")),
        attribute(_DEST_PORT, item.port.to_bytes(2, "big")),
        u32(_DEST_FWD_METHOD, _MASQUERADE),
        u32(_DEST_WEIGHT, weight),
        u32(_DEST_U_THRESH, 0),
        u32(_DEST_L_THRESH, 0),
    )


def _server_key(item: VirtualServer) -> ServerKey:
    return item.protocol, item.address, item.port


def _virtual_server(netns: str, found: dict[int, bytes]) -> VirtualServer:
    flags, _ = _FLAGS.unpack_from(found[_SVC_FLAGS])
    return VirtualServer(
        netns,
        _PROTOCOL_NAMES[int.from_bytes(found[_SVC_PROTOCOL][:2], sys.byteorder)],
        _address(found[_SVC_ADDR], v6=found[_SVC_AF][:2] == _AF_INET6),
        int.from_bytes(found[_SVC_PORT][:2], "big"),
        string(found, _SVC_SCHED_NAME),
        number(found, _SVC_TIMEOUT) if flags & _PERSISTENT else 0,
        bool(flags & _HASH_PORT),
    )


def _address(packed: bytes, *, v6: bool) -> IPAddress:
    return IPv6Address(packed[:16]) if v6 else IPv4Address(packed[:4])
