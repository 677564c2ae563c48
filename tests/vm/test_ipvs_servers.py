"""IPVS servers one by one: written by us, read by us and by pyroute2, changed in place, ended gracefully."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address, ip_interface
from time import monotonic
from typing import Any

import pytest
from pyroute2 import IPVS, IPVSDest, IPVSService

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import ipvs, netns, processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.observe import observe
from k8snetlab.plan.state import (
    Address,
    Dummy,
    KernelObject,
    Netns,
    RealServer,
    Sysctl,
    Veth,
    VirtualServer,
)

pytestmark = pytest.mark.vm

VIP, VIP6 = ip_address("10.96.0.1"), ip_address("fd00:10:96::1")
BACKENDS = ("10.1.0.2", "10.1.0.3")
NODE: tuple[KernelObject, ...] = (
    Netns("node1"),
    Netns("pod"),
    Sysctl("node1", "net.ipv4.vs.conntrack", "1"),
    Veth("node1", "veth0", 100, "0e:00:00:00:00:01", 1500, "pod", "eth0", 20, "0a:00:00:00:00:01", 1500),
    Dummy("node1", "kube-ipvs0", 24, "0e:58:00:00:00:06", 1500),
    Address("node1", "veth0", ip_interface("10.1.0.1/24")),
    *(Address("pod", "eth0", ip_interface(f"{backend}/24")) for backend in BACKENDS),
    Address("node1", "kube-ipvs0", ip_interface(f"{VIP}/32")),
)
TCP = VirtualServer("node1", "TCP", VIP, 80, "rr")
FIRST, SECOND = (RealServer("node1", "TCP", VIP, 80, ip_address(backend), 8080) for backend in BACKENDS)


@pytest.fixture(autouse=True)
def _node() -> Iterator[None]:
    """Two namespaces, a cable, the device with the Service's address."""
    netns_directory = "/run/netns"
    processes.run(["mkdir", "-p", netns_directory])
    apply(NODE)
    yield
    for name in netns.names():
        netns.remove(name)


def turn(old: Iterable[KernelObject], new: Iterable[KernelObject]) -> None:
    old, new = tuple(old), tuple(new)
    apply([item for item in new if item not in old], [item for item in old if item not in new], (*NODE, *new))


def seen(planned: Iterable[KernelObject] = ()) -> set[KernelObject]:
    found = observe((*NODE, *planned))
    return {item for item in found if isinstance(item, VirtualServer | RealServer)}


def test_servers_read_back_as_they_were_planned() -> None:
    plan: list[KernelObject] = [
        TCP, FIRST, SECOND,
        VirtualServer("node1", "UDP", VIP, 53, "lc", 30),
        RealServer("node1", "UDP", VIP, 53, ip_address("10.1.0.2"), 5353),
        VirtualServer("node1", "SCTP", VIP, 90, "mh", 10800, True),
        RealServer("node1", "SCTP", VIP, 90, ip_address("10.1.0.2"), 9000),
        VirtualServer("node1", "TCP", VIP6, 80, "sh"),
        RealServer("node1", "TCP", VIP6, 80, ip_address("fd00::2"), 8080),
        VirtualServer("node1", "TCP", VIP, 65535, "rr"),
    ]  # fmt: skip
    turn((), plan)
    assert seen(plan) == set(plan)


def test_pyroute2_reads_what_we_wrote() -> None:
    sticky = VirtualServer("node1", "TCP", VIP6, 443, "mh", 300, True)
    turn((), (TCP, FIRST, sticky, RealServer("node1", "TCP", VIP6, 443, ip_address("fd00::2"), 8443)))
    found: dict[str, Any] = {}
    with IPVS(netns="node1") as other:
        for answer in other.service("dump"):
            service = IPVSService.from_message(answer)
            attributes = answer.get_attr("IPVS_CMD_ATTR_SERVICE")
            flags = attributes.get_attr("IPVS_SVC_ATTR_FLAGS")["flags"]
            backends = [dict(IPVSDest.from_message(each)) for each in other.dest("dump", service=service)]
            methods = [
                each.get_attr("IPVS_CMD_ATTR_DEST").get_attr("IPVS_DEST_ATTR_FWD_METHOD")
                for each in other.dest("dump", service=service)
            ]
            found[f"{service['addr']}:{service['port']}"] = (
                service["protocol"],
                service["sched_name"],
                attributes.get_attr("IPVS_SVC_ATTR_TIMEOUT"),
                flags & 0x11,
                [(each["addr"], each["port"], each["weight"]) for each in backends],
                methods,
            )
    assert found == {
        "10.96.0.1:80": (6, "rr", 0, 0, [("10.1.0.2", 8080, 1)], [0]),
        "fd00:10:96::1:443": (6, "mh", 300, 0x11, [("fd00::2", 8443, 1)], [0]),
    }


def test_many_servers_in_two_namespaces_are_all_listed() -> None:
    """/proc/net/ip_vs forgets some of these."""
    plan: list[KernelObject] = []
    for node in ("node1", "pod"):
        for number in range(200):
            vip = ip_address(f"10.97.0.{number + 1}")
            plan.append(VirtualServer(node, "TCP", vip, 80, "rr"))
            plan += [RealServer(node, "TCP", vip, 80, ip_address(backend), 8080) for backend in BACKENDS]
    turn((), plan)
    assert seen(plan) == set(plan)


def test_the_scheduler_is_changed_in_place() -> None:
    turn((), (TCP, FIRST))
    changed = VirtualServer("node1", "TCP", VIP, 80, "lc", 60)
    turn((TCP, FIRST), (changed, FIRST))
    assert seen((changed, FIRST)) == {changed, FIRST}


def test_what_others_changed_is_drift_and_is_mended() -> None:
    plan = (TCP, FIRST, SECOND)
    turn((), plan)
    service = IPVSService(addr=str(VIP), port=80, protocol=socket.IPPROTO_TCP)
    with IPVS(netns="node1") as other:
        other.dest("set", service=service, dest=IPVSDest(addr=BACKENDS[0], port=8080, fwd_method=0, weight=0))
        other.dest("del", service=service, dest=IPVSDest(addr=BACKENDS[1], port=8080))
        other.dest("add", service=service, dest=IPVSDest(addr="10.1.0.9", port=8080, fwd_method=0, weight=1))
    drained = RealServer("node1", "TCP", VIP, 80, ip_address(BACKENDS[0]), 8080, weight=0)
    foreign = RealServer("node1", "TCP", VIP, 80, ip_address("10.1.0.9"), 8080)
    assert seen(plan) == {TCP, drained, foreign}  # planned, so it is no draining one
    turn((TCP, drained, foreign), plan)
    assert seen(plan) == set(plan)


def test_a_virtual_server_takes_its_backends_along() -> None:
    turn((), (TCP, FIRST, SECOND))
    turn((TCP, FIRST, SECOND), ())
    assert seen() == set()


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_a_backend_without_connections_to_lose_goes_at_once(protocol: Any) -> None:
    server = VirtualServer("node1", protocol, VIP, 53, "rr")
    backends = [RealServer("node1", protocol, VIP, 53, ip_address(backend), 53) for backend in BACKENDS]
    turn((), (server, *backends))
    turn((server, *backends), (server, backends[0]))
    assert backend_weights(server) == {BACKENDS[0]: 1}


def test_an_idle_tcp_backend_goes_at_once() -> None:
    turn((), (TCP, FIRST, SECOND))
    turn((TCP, FIRST, SECOND), (TCP, SECOND))
    assert backend_weights(TCP) == {BACKENDS[1]: 1}


def test_a_tcp_backend_keeps_its_connections_and_gets_no_more() -> None:
    turn((), (TCP, FIRST, SECOND))
    with closing(listen()), closing(connect()) as old:
        server = old.recv(64).decode()
        gone, stays = (FIRST, SECOND) if server == BACKENDS[0] else (SECOND, FIRST)
        turn((TCP, FIRST, SECOND), (TCP, stays))
        assert backend_weights(TCP) == {server: 0, str(stays.address): 1}
        assert seen((TCP, stays)) == {TCP, stays}  # no drift
        assert echo(old, b"still here") == b"still here"
        for _ in range(4):
            with closing(connect()) as new:
                assert new.recv(64).decode() == str(stays.address)
        # Back before the end: it is taken up again, with its connection.
        turn((TCP, stays), (TCP, FIRST, SECOND))
        assert backend_weights(TCP) == {BACKENDS[0]: 1, BACKENDS[1]: 1}
        assert echo(old, b"still here") == b"still here"
        turn((TCP, FIRST, SECOND), (TCP, stays))
        forget_after_a_second()
        assert echo(old, b"the last word") == b"the last word"
        until(lambda: swept(stays), "the backend is swept once its connection is forgotten")
        assert gone not in seen((TCP, gone))


def test_a_missing_scheduler_is_the_hosts_fault() -> None:
    with pytest.raises(HostError, match="no IPVS scheduler nosuch") as caught:
        turn((), (VirtualServer("node1", "TCP", VIP, 80, "nosuch"),))
    assert "modprobe ip_vs_nosuch" in caught.value.hint


def test_a_server_that_is_refused_is_named() -> None:
    broadcast = RealServer("node1", "TCP", VIP, 80, ip_address("255.255.255.255"), 8080)
    with pytest.raises(KernelError, match=r"real server -t 10\.96\.0\.1:80 -r 255\.255\.255\.255:8080"):
        turn((), (TCP, broadcast))


def test_the_link_is_a_real_dummy_here() -> None:
    shown = processes.run(["ip", "-d", "link", "show", "kube-ipvs0"], "node1").stdout.decode()
    assert "dummy" in shown


# --- a backend's server, its clients, and the clocks ---


def listen() -> socket.socket:
    """A server in the pod that greets with its own address and echoes; it ends when it is closed."""
    with netns.inside("pod"):
        server = socket.create_server(("0.0.0.0", 8080))
    threading.Thread(target=serve, args=(server,), daemon=True).start()
    return server


def serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket) -> None:
    with connection:
        connection.sendall(connection.getsockname()[0].encode())
        while data := connection.recv(64):
            connection.sendall(data)


def connect() -> socket.socket:
    with netns.inside("node1"):
        # Left to itself, the kernel would take the Service's address for the source: it is the node's own.
        return socket.create_connection((str(VIP), 80), timeout=10, source_address=("10.1.0.1", 0))


def echo(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(64)


def backend_weights(server: VirtualServer) -> dict[str, int]:
    with netns.inside("node1"):
        found = [item for item in ipvs.read("node1") if isinstance(item, RealServer)]
    return {str(item.address): item.weight for item in found if item.protocol == server.protocol}


def swept(stays: RealServer) -> bool:
    """Whether some later change, of anything, has removed what is over."""
    other: Sequence[KernelObject] = (VirtualServer("node1", "TCP", VIP, 81, "rr"),)
    turn((TCP, stays), (TCP, stays, *other))
    turn((TCP, stays, *other), (TCP, stays))
    return backend_weights(TCP) == {str(stays.address): 1}


def forget_after_a_second() -> None:
    """`ipvsadm --set 1 1 1`: how long IPVS remembers a connection after its next packet."""
    from k8snetlab.kernel.netlink import Socket, message, u32

    set_config, timeouts = 12, (4, 5, 6)  # IPVS_CMD_SET_CONFIG, IPVS_CMD_ATTR_TIMEOUT_TCP and the others
    with netns.inside("node1"), Socket("node1", 16) as connection:
        body = bytes((set_config, 1, 0, 0)) + b"".join(u32(kind, 1) for kind in timeouts)
        connection.send("set", [(TCP, message(ipvs.family_number(connection), 0, body))])


def until(condition: Callable[[], bool], what: str) -> None:
    end = monotonic() + 30
    while not condition():
        assert monotonic() < end, what
        threading.Event().wait(0.1)
