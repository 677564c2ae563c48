"""The DNS server as the lab runs it, over real sockets: both transports, other servers, clients who mean no good."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from k8snetlab.kernel import control
from k8snetlab.workloads import dnsserver
from k8snetlab.workloads.dnswire import TYPES, Message, question

pytestmark = pytest.mark.root

PROGRAM = Path(dnsserver.__file__)
SOA = "5 SOA ns.dns.zone. hostmaster.zone. 1 7200 1800 86400 5"
NAMES = [
    ["cluster", "zone", [SOA]],
    ["cluster", "web.zone", ["5 A 10.0.0.1"]],
    ["cluster", "many.zone", [f"5 A 10.0.{n // 256}.{n % 256}" for n in range(2000)]],
    ["cluster", "out.zone", ["5 CNAME www.example."]],
    ["cluster", "lost.zone", ["5 CNAME nowhere.example."]],
    ["internet", "", [SOA.replace("zone", "example")]],
    ["internet", "www.example", ["300 A 198.51.100.10"]],
]


@dataclass(frozen=True)
class Dns:
    """The server, with a client's sockets to the pod that it listens for."""

    process: subprocess.Popen[bytes]
    control: Path
    namespaces: Any

    def tell(self, **request: object) -> Any:
        pidfd = os.pidfd_open(self.process.pid)
        try:
            return control.ask(str(self.control), [request], pidfd=pidfd)[0]
        finally:
            os.close(pidfd)

    def udp(self) -> socket.socket:
        sock: socket.socket = self.namespaces.socket_in("pod", socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", 53))
        return sock

    def tcp(self) -> socket.socket:
        sock: socket.socket = self.namespaces.connect("pod", 53)
        return sock

    def ask(self, name: str, kind: str = "A", size: int = 1232) -> Message:
        with self.udp() as sock:
            sock.send(question(7, name, TYPES[kind], size))
            return Message(sock.recv(65535))

    def ask_tcp(self, name: str, kind: str = "A") -> Message:
        with self.tcp() as sock:
            data = question(7, name, TYPES[kind])
            sock.sendall(len(data).to_bytes(2, "big") + data)
            return Message(receive(sock))


def receive(sock: socket.socket) -> bytes:
    """One message of a TCP connection."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        part = sock.recv(65537)
        assert part, "the server has closed the connection"
        data += part
    return data[2:]


@pytest.fixture
def dns(namespaces: Any, tmp_path: Path) -> Iterator[Dns]:
    """A server for the pod in the namespace `pod`, with NAMES; it must outlive the test."""
    path = tmp_path / "control"
    argv = [sys.executable, "-I", "-S", str(PROGRAM), "--control", str(path), "--netns-dir", str(namespaces.directory)]
    namespaces.add("pod", "10.1.0.1/32")
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            dns = Dns(process, path, namespaces)
            assert dns.tell(names=NAMES, listen=[listener()]) == {"errors": []}
            yield dns
            assert process.poll() is None, "the server has died"
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=5)
        assert errors == b""


def listener(netns: str = "pod", view: str = "cluster", upstreams: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"netns": netns, "pod": f"a/{netns}", "view": view, "upstreams": list(upstreams), "echo_pods": True}


def records(message: Message) -> list[str]:
    return [record for _, record in message.sections[0]]


def test_both_transports(dns: Dns) -> None:
    assert records(dns.ask("web.zone")) == records(dns.ask_tcp("web.zone")) == ["5 A 10.0.0.1"]
    assert dns.ask("web.zone").id == 7
    assert dns.ask("nobody.zone").code == dns.ask_tcp("nobody.zone").code == "NXDOMAIN"


def test_a_large_answer_needs_tcp(dns: Dns) -> None:
    assert dns.ask("many.zone").truncated
    whole = dns.ask_tcp("many.zone")
    assert (len(records(whole)), whole.truncated) == (2000, False)


def test_a_change_shows_in_the_next_answer(dns: Dns) -> None:
    for number in (2, 3):
        dns.tell(names=[["cluster", "web.zone", [f"5 A 10.0.0.{number}"]]])
        assert records(dns.ask("web.zone")) == [f"5 A 10.0.0.{number}"]
    dns.tell(forget=[["cluster", "web.zone"]])
    assert dns.ask("web.zone").code == "NXDOMAIN"


def test_says_what_it_knows(dns: Dns) -> None:
    told = dns.tell(list=True)
    assert told["servers"] == [listener()]
    assert sorted(told["names"]) == sorted(NAMES)


def test_what_makes_no_sense_changes_nothing(dns: Dns) -> None:
    before = dns.tell(list=True)
    assert "refused" in dns.tell(names=[["cluster", "web.zone", ["5 A here"]]])
    assert dns.tell(listen=[listener("nowhere")]) == {
        "errors": [{"netns": "nowhere", "pod": "a/nowhere", "error": "ENOENT"}]
    }
    assert dns.tell(list=True) == before


def test_stops_listening(dns: Dns) -> None:
    dns.tell(close=[["pod", "a/pod"]])
    with dns.udp() as sock:
        sock.send(question(7, "web.zone", 1))
        with pytest.raises(ConnectionRefusedError):
            sock.recv(512)


def test_without_an_upstream_the_outside_is_refused(dns: Dns) -> None:
    assert dns.ask("www.example").code == "REFUSED"


def test_a_port_is_had_once(dns: Dns) -> None:
    second = {**listener(), "pod": "a/second"}
    assert dns.tell(listen=[second]) == {"errors": [{"netns": "pod", "pod": "a/second", "error": "EADDRINUSE"}]}
    assert dns.tell(list=True)["servers"] == [listener()]


def test_an_alias_leads_outside(dns: Dns, veth: Callable[[str, str], None]) -> None:
    veth("pod", "world")
    dns.tell(listen=[listener("world", "internet"), listener("pod", "cluster", ("198.51.100.10",))])
    assert records(dns.ask("www.example")) == ["300 A 198.51.100.10"]
    assert records(dns.ask("out.zone")) == ["5 CNAME www.example.", "300 A 198.51.100.10"]
    assert records(dns.ask_tcp("out.zone")) == ["5 CNAME www.example.", "300 A 198.51.100.10"]
    lost = dns.ask("lost.zone")
    assert (lost.code, records(lost)) == ("NXDOMAIN", ["5 CNAME nowhere.example."])
    assert dns.ask("www.example", size=0).sections[2] == []


def test_a_silent_upstream_blocks_nobody(dns: Dns, veth: Callable[[str, str], None]) -> None:
    veth("pod", "world")
    dns.tell(listen=[listener("pod", "cluster", ("198.51.100.99",))])  # routed there, and answered by nobody
    with dns.udp() as sock:
        for number in range(2000):  # more than may be under way
            sock.send(question(number, f"n{number}.example", 1))
        begin = time.monotonic()
        assert records(dns.ask("web.zone")) == ["5 A 10.0.0.1"]
        assert time.monotonic() - begin < 1
        assert Message(sock.recv(512)).code == "SERVFAIL"


@pytest.fixture
def veth(namespaces: Any) -> Callable[[str, str], None]:
    """A cable from a pod to the world, where 198.51.100.10 is."""

    def lay(pod: str, world: str) -> None:
        namespaces.add(world)
        pid = (namespaces.directory / world).readlink().parts[2]
        run(namespaces, pod, f"ip link add eth0 type veth peer name eth0 netns {pid}")
        for name, address in ((pod, "198.51.100.1/24"), (world, "198.51.100.10/24")):
            run(namespaces, name, f"ip addr add {address} dev eth0 && ip link set eth0 up")

    return lay


def run(namespaces: Any, name: str, command: str) -> None:
    subprocess.run(["nsenter", f"--net={namespaces.directory}/{name}", "sh", "-euc", command], check=True)


def test_garbage_stops_nobody(dns: Dns) -> None:
    chance = random.Random(1)
    good = question(1, "web.zone", 1)
    with dns.udp() as sock:
        for _ in range(5000):
            data = bytearray(good if chance.random() < 0.7 else chance.randbytes(chance.randrange(0, 600)))
            for _ in range(chance.randrange(0, 5) if data else 0):
                data[chance.randrange(len(data))] = chance.randrange(256)
            sock.send(bytes(data))
    assert records(dns.ask("web.zone")) == ["5 A 10.0.0.1"]


def test_a_slow_client_holds_up_nobody(dns: Dns) -> None:
    slow = [dns.tcp() for _ in range(20)]
    for sock in slow:
        sock.send(b"\0\xff\0")  # of 255 bytes one
    begin = time.monotonic()
    assert records(dns.ask_tcp("web.zone")) == ["5 A 10.0.0.1"]
    assert time.monotonic() - begin < 1


def test_more_connections_than_it_keeps(dns: Dns) -> None:
    """The oldest idle ones make room."""
    many = [dns.tcp() for _ in range(600)]
    assert records(dns.ask_tcp("web.zone")) == ["5 A 10.0.0.1"]
    assert len(list(Path(f"/proc/{dns.process.pid}/fd").iterdir())) < 560
    assert len(many) == 600


def test_many_questions_on_one_connection(dns: Dns) -> None:
    data = question(7, "web.zone", 1)
    with dns.tcp() as sock:
        sock.sendall((len(data).to_bytes(2, "big") + data) * 100)
        buffer = b""
        while len(buffer) < 100 * (2 + 12 + 14 + 16 + 11):
            buffer += sock.recv(65536)
    assert buffer.count(b"\x0a\x00\x00\x01") == 100


def test_tcp_garbage_closes_only_its_connection(dns: Dns) -> None:
    with dns.tcp() as sock:
        sock.sendall(b"\0\x03abc")
        assert sock.recv(100) == b""
    assert records(dns.ask_tcp("web.zone")) == ["5 A 10.0.0.1"]


def test_ten_thousand_services_take_little_memory(dns: Dns) -> None:
    """Each with what `cluster.dns` makes of it: addresses, two SRV records, a pointer, and the names between."""
    for begin in range(0, 10_000, 1000):
        names: list[list[object]] = []
        for n in range(begin, begin + 1000):
            name = f"service-{n}.namespace-{n % 50}.svc.cluster.local"
            srv = f"5 SRV 0 100 80 {name}."
            names += [
                ["cluster", name, [f"5 A 10.96.{n // 256}.{n % 256}", srv]],
                ["cluster", f"_http._tcp.{name}", [srv]],
                ["cluster", f"_tcp.{name}", []],
                ["cluster", f"{n % 256}.{n // 256}.96.10.in-addr.arpa", [f"5 PTR {name}."]],
            ]
        assert dns.tell(names=names) == {"errors": []}
    status = Path(f"/proc/{dns.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0])
    assert peak < 40_000, f"{peak} kB"
