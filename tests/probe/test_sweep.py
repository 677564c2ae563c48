"""The sweep against hand-made hosts: `a` and `b` with a router `node1` between them, whose rules drop and reject."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.flows.evidence import DROP_GROUP
from k8snetlab.flows.matrix import Pair, Sighting
from k8snetlab.kernel import netns
from k8snetlab.lab import holder, servers
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked
from k8snetlab.lab.start import start
from k8snetlab.plan.state import PodServer
from k8snetlab.probe.matrix import observe
from k8snetlab.probe.nflog import DropLog
from k8snetlab.probe.sweep import Manner, sweep

pytestmark = pytest.mark.root

NODES = ("node1",)
LISTENERS = (("TCP", 80), ("TCP", 81), ("TCP", 82), ("TCP", 83), ("TCP", 84), ("UDP", 80), ("UDP", 81), ("UDP", 82))
RULES = f"""
table inet enforcement {{
  chain forward {{
    type filter hook forward priority 0;
    ct state established accept
    meta l4proto {{ tcp, udp }} th dport 81 log prefix "drop ingress" group {DROP_GROUP} drop
    meta l4proto {{ tcp, udp }} th dport 82 drop
    tcp dport 83 reject with icmpx type admin-prohibited
    udp dport 83 reject with icmpx type admin-prohibited
    ip dscp 0x2b accept
    tcp dport 84 log prefix "drop egress" group {DROP_GROUP} drop
  }}
}}
table ip nat {{
  chain pre {{
    type nat hook prerouting priority -100;
    ip daddr 10.96.0.1 tcp dport 8080 dnat to 10.0.2.2:80
    ip daddr 10.96.0.1 tcp dport 8081 dnat to 10.0.2.2:81
  }}
}}
"""
FULL = 90  # its queue has one place, and nobody reads it


def build() -> None:
    for name in ("a", "b", "node1"):
        with netns.returning():
            os.close(netns.create(name))
    run("node1", "ip", "-batch", "-", script="\n".join((
        "link add name a type veth peer name eth0 netns a", "link add name b type veth peer name eth0 netns b",
        "link set lo up", "link set dev a up", "link set dev b up",
        "addr add 10.0.1.1/24 dev a", "addr add 10.0.2.1/24 dev b",
        "addr add fd01::1/64 dev a nodad", "addr add fd02::1/64 dev b nodad",
    )))  # fmt: skip
    for name, number in (("a", 1), ("b", 2)):
        run(name, "ip", "-batch", "-", script="\n".join((
            "link set lo up", "link set eth0 up", f"addr add 10.0.{number}.2/24 dev eth0",
            f"addr add fd0{number}::2/64 dev eth0 nodad", f"route add default via 10.0.{number}.1",
            f"route add ::/0 via fd0{number}::1",
        )))  # fmt: skip
    # The router asks three times for a MAC address that nobody has.
    for key in (
        "net.ipv4.neigh.b.retrans_time_ms=50",
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.icmp_ratelimit=0",
    ):
        run("node1", "sysctl", "-q", "-w", key)
    run("node1", "nft", "-f", "-", script=RULES)
    servers.start_pod_server()
    servers.apply((PodServer("b", "shop/b", "node1", "b", LISTENERS),), ())
    # IPv6 goes over a new link once the kernel has told itself of its carrier, up to a second later.
    deadline = time.monotonic() + 10
    while sweep([pair(80, "fd02::2")], (), Manner(timeout=0.1)) != [Sighting("allowed")]:
        assert time.monotonic() < deadline


def run(name: str, *argv: str, script: str = "") -> None:
    done = subprocess.run(["ip", "netns", "exec", name, *argv], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(name="hosts", scope="module")
def hosts_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K8SNETLAB_RUN_DIR", str(tmp_path_factory.mktemp("run")))
        name = f"t{os.getpid()}-sweep"
        with locked(name):
            lab = start(name)
            try:
                run_in(lab, build)
                yield lab
            finally:
                holder.stop(lab)


def pair(port: int, address: str = "10.0.2.2", endpoint: str = "", listening: bool = True) -> Pair:
    return Pair(
        sender="shop/a",
        receiver="shop/b",
        netns="a",
        address=address,
        port=port,
        endpoint=endpoint or address,
        target_port=port,
        listening=listening,
    )


TCP, UDP = Manner(timeout=0.3), Manner(protocol="UDP", timeout=0.3)
SILENT = "no answer within 0.3 s, and no rule told of a drop"
ADMIN = Sighting("blocked", "rejected by 10.0.1.1 (ICMP: administratively prohibited)", refused=True)
ADMIN_6 = replace(ADMIN, reason=ADMIN.reason.replace("10.0.1.1", "fd01::1"))
CLOSED = Sighting("allowed", "reached the pod, where nothing listens on 85", refused=True)


@pytest.mark.parametrize(
    ("manner", "asked", "seen"),
    [
        pytest.param(TCP, pair(80), Sighting("allowed"), id="TCP connects"),
        pytest.param(TCP, pair(80, "fd02::2"), Sighting("allowed"), id="TCP over IPv6 connects"),
        pytest.param(
            replace(TCP, ask=True), pair(80), Sighting("allowed", reached="shop/b"), id="the server says who it is"
        ),
        pytest.param(
            TCP, pair(81), Sighting("blocked", "node1: drop ingress", "10.0.2.2"), id="a drop that was logged"
        ),
        pytest.param(
            TCP, pair(81, "fd02::2"), Sighting("blocked", "node1: drop ingress", "fd02::2"), id="a drop over IPv6"
        ),
        pytest.param(TCP, pair(82), Sighting("blocked", SILENT, silent=True), id="a drop that nobody tells of"),
        pytest.param(TCP, pair(83), ADMIN, id="a rejection"),
        pytest.param(TCP, pair(83, "fd02::2"), ADMIN_6, id="a rejection over IPv6"),
        pytest.param(
            TCP, pair(85), Sighting("error", "refused: the lab's server does not listen on 85, though it should"),
            id="the server has gone",
        ),
        pytest.param(
            TCP, pair(85, listening=False), CLOSED,
            id="nothing listens, nothing should",
        ),
        pytest.param(
            TCP, pair(80, "10.0.2.9"), Sighting("error", "no way to 10.0.2.9: no route to host"), id="nobody there",
            marks=pytest.mark.filterwarnings("ignore"),
        ),
        pytest.param(TCP, pair(84), Sighting("blocked", "node1: drop egress", "10.0.2.2"), id="without the mark"),
        pytest.param(replace(TCP, dscp=0x2B), pair(84), Sighting("allowed"), id="marked, it is exempt"),
        pytest.param(TCP, pair(8080, "10.96.0.1", "10.0.2.2"), Sighting("allowed"), id="through a translation"),
        pytest.param(
            TCP, pair(8081, "10.96.0.1", "10.0.2.2"), Sighting("blocked", "node1: drop ingress", "10.0.2.2"),
            id="dropped after a translation",
        ),
        pytest.param(UDP, pair(80), Sighting("allowed", reached="shop/b"), id="UDP is answered"),
        pytest.param(UDP, pair(81), Sighting("blocked", "node1: drop ingress", "10.0.2.2"), id="UDP is dropped"),
        pytest.param(UDP, pair(82), Sighting("blocked", SILENT, silent=True), id="UDP, and silence"),
        pytest.param(UDP, pair(83), ADMIN, id="UDP is rejected"),
        pytest.param(
            UDP, pair(85, listening=False), CLOSED,
            id="UDP to a closed port",
        ),
    ],
)  # fmt: skip
def test_outcomes(hosts: Holder, manner: Manner, asked: Pair, seen: Sighting) -> None:
    if asked.address == "10.0.2.9":
        manner = replace(manner, timeout=4.0)
    assert run_in(hosts, sweep, [asked], NODES, manner) == [seen]


def test_a_kernel_without_the_protocol(hosts: Holder) -> None:
    found = run_in(hosts, sweep, [pair(80)], NODES, Manner(protocol="SCTP"))[0]
    if Path("/proc/sys/net/sctp").exists():
        assert found.outcome in ("allowed", "error")
    else:
        assert found == Sighting("error", "this kernel has no SCTP")


def test_many_at_once_keep_apart(hosts: Holder) -> None:
    """More than fit into one window; each answer and each drop goes to the connection it is about."""
    ports = [80, 81, 84, 81, 80] * 1200
    found = run_in(hosts, sweep, [pair(port) for port in ports], NODES, Manner(timeout=5.0))
    outcomes = {80: "allowed", 81: "blocked", 84: "blocked"}
    assert [sighting.outcome for sighting in found] == [outcomes[port] for port in ports]
    assert not any(sighting.silent for sighting in found)


def test_a_full_queue_is_no_block(hosts: Holder) -> None:
    def try_the_full() -> list[Sighting]:
        with netns.inside("b"):
            server = socket.create_server(("10.0.2.2", FULL), backlog=0)
        with closing(server):
            with netns.inside("a"):
                first = socket.create_connection(("10.0.2.2", FULL))
            with closing(first):
                return observe([pair(FULL)], NODES, TCP, {"shop/b": "b"})

    found = run_in(hosts, try_the_full)
    assert found == [Sighting("error", "the receiver has no room: its queue is full and nobody reads it")]


def test_silence_is_tried_again(hosts: Holder) -> None:
    found = run_in(hosts, observe, [pair(82), pair(80)], NODES, TCP, {"shop/b": "b"})
    assert found == [Sighting("blocked", SILENT, silent=True), Sighting("allowed")]


def test_where_another_listens_silence_must_do(hosts: Holder) -> None:
    def with_another() -> tuple[str, list[Sighting]]:
        with netns.inside("node1"):
            first = DropLog("node1")
        with first:
            with netns.inside("node1"):
                try:
                    DropLog("node1")
                except KernelError as error:
                    refusal = error.reason
                else:
                    refusal = ""
            return refusal, sweep([pair(81)], NODES, TCP)

    refusal, found = run_in(hosts, with_another)
    assert refusal == "another process listens there"
    assert found == [Sighting("blocked", f"{SILENT} (not all drops of node1 could be heard)", silent=True)]


def test_a_namespace_that_is_not_there(hosts: Holder) -> None:
    with pytest.raises(KernelError, match="nowhere"):
        run_in(hosts, sweep, [replace(pair(80), netns="nowhere")], NODES, TCP)


def test_no_socket_stays_open(hosts: Holder) -> None:
    def count() -> tuple[int, int]:
        before = len(list(Path("/proc/self/fd").iterdir()))
        sweep([pair(port) for port in (80, 81, 82, 83)], NODES, TCP)
        return before, len(list(Path("/proc/self/fd").iterdir()))

    before, after = run_in(hosts, count)
    assert before == after
