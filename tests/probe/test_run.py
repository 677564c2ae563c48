"""Real packets between two hosts: `api` asks, `web` has the pod server, firewall rules and programs of other kinds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from k8snetlab.errors import ProbeError
from k8snetlab.flows.model import Flow, FlowProtocol, Place, Result
from k8snetlab.kernel import netns, processes
from k8snetlab.kernel.identity import Identity
from k8snetlab.lab import holder, servers
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import locked
from k8snetlab.lab.start import start
from k8snetlab.plan.state import PodServer
from k8snetlab.probe.run import send

API = Place(kind="pod", name="shop/api", netns="api")
IDENTITY = Identity(
    "api",
    "# no DNS server\n",
    "127.0.0.1 localhost\n10.0.0.2 web.shop.test\nfd00::2 six.shop.test\n10.0.0.9 dead.test\n",
)
LISTENERS = (("TCP", 80), ("UDP", 53))
RULES = (
    "-A INPUT -p tcp --dport 82 -j REJECT --reject-with icmp-admin-prohibited",
    "-A INPUT -p tcp --dport 84 -j REJECT --reject-with tcp-reset",
    "-A INPUT -p tcp --dport 85 -j DROP",
    "-A INPUT -p udp --dport 82 -j REJECT --reject-with icmp-net-unreachable",
    "-A INPUT -p udp --dport 85 -j DROP",
)
# A server that is not ours: it says one line and hears nothing.
MUTE = """
import socket
with socket.create_server(("10.0.0.2", 83)) as server:
    while True:
        connection = server.accept()[0]
        connection.sendall(b"220 hello\\r\\n")
        connection.close()
"""
# Answers each query with its own bytes and the bits of a reply, NXDOMAIN (3) to one for `no.test`.
DNS_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.0.0.2", 5353))
while True:
    query, client = server.recvfrom(512)
    code = 3 if b"\\2no\\4test\\0" in query else 0
    server.sendto(query[:2] + bytes([0x81, 0x80 | code]) + query[4:], client)
"""


def build() -> None:
    for name in ("api", "web"):
        with netns.returning():
            os.close(netns.create(name))
    script = "link add eth0 type veth peer name eth0 netns web\nlink set lo up\nlink set eth0 up\n"
    script += "addr add 10.0.0.1/24 dev eth0\naddr add fd00::1/64 dev eth0 nodad\n"
    script += "route add 10.9.0.0/16 via 10.0.0.2\n"
    _ip("api", script)
    script = "link set lo up\nlink set eth0 up\naddr add 10.0.0.2/24 dev eth0\naddr add fd00::2/64 dev eth0 nodad\n"
    _ip("web", script)
    # As on a lab's nodes: by default the kernel sends one host an ICMP error only once a second or so.
    _run(["sysctl", "-q", "-w", "net.ipv4.icmp_ratelimit=0"], "web")
    for rule in RULES:
        _run(["iptables", "-w", *rule.split()], "web")
    _run(["iptables", "-w", "-A", "OUTPUT", "-d", "10.0.0.2", "-p", "udp", "--dport", "86", "-j", "DROP"], "api")
    servers.start_pod_server()
    servers.apply((PodServer("web", "shop/web-0", "node1", "web-0", LISTENERS),), ())
    for program in (MUTE, DNS_SERVER):
        processes.start(["python3", "-I", "-S", "-c", program], "web")
    # IPv6 goes over a new link once the kernel has told itself of its carrier, up to a second later.
    six = Flow(sender=API, destination=API, address="fd00::2", protocol="ICMP")
    mute = replace(six, address="10.0.0.2", protocol="TCP", port=83)
    deadline = time.monotonic() + 10
    dns = replace(six, address="10.0.0.2", protocol="DNS", port=5353)
    while {result.outcome for result in send([six, mute, dns], {}, 0.1)} != {"ok"}:
        assert time.monotonic() < deadline


def _ip(name: str, script: str) -> None:
    _run(["ip", "-batch", "-"], name, script.encode())


def _run(argv: list[str], name: str, stdin: bytes = b"") -> None:
    done = processes.run(argv, name, stdin=stdin)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K8SNETLAB_RUN_DIR", str(tmp_path_factory.mktemp("run")))
        name = f"probe{os.getpid()}"
        with locked(name):
            running = start(name)
        try:
            run_in(running, build)
            yield running
        finally:
            holder.stop(running)


pytestmark = pytest.mark.root


def flow(protocol: FlowProtocol, address: str = "10.0.0.2", port: int = 0, *, path: str = "/") -> Flow:
    target = Place(kind="ip", name=address)
    return Flow(sender=API, destination=target, address=address, protocol=protocol, port=port, path=path)


def once(lab: Holder, one: Flow, timeout: float = 1.0, identities: Mapping[str, Identity] | None = None) -> Result:
    (result,) = run_in(lab, send, [one], identities or {}, timeout)
    return result


@pytest.mark.parametrize(
    ("one", "server", "source"),
    [
        pytest.param(flow("ICMP"), "", "", id="ping"),
        pytest.param(flow("ICMP", "fd00::2"), "", "", id="ping-ipv6"),
        pytest.param(flow("HTTP", port=80), "shop/web-0", "10.0.0.1", id="http"),
        pytest.param(flow("HTTP", "fd00::2", 80), "shop/web-0", "fd00::1", id="http-ipv6"),
        pytest.param(flow("TCP", port=80), "shop/web-0", "10.0.0.1", id="tcp"),
        pytest.param(flow("TCP", port=83), "", "", id="tcp-to-no-http-server"),
        pytest.param(flow("UDP", port=53), "shop/web-0", "10.0.0.1", id="udp"),
        pytest.param(flow("UDP", "fd00::2", 53), "shop/web-0", "fd00::1", id="udp-ipv6"),
    ],
)
def test_answered(lab: Holder, one: Flow, server: str, source: str) -> None:
    result = once(lab, one)
    assert (result.outcome, result.server, result.source) == ("ok", server, source)
    assert result.rtt_ms is not None
    assert 0 < result.rtt_ms < 1000


@pytest.mark.parametrize(
    ("one", "outcome", "reason"),
    [
        pytest.param(flow("TCP", port=81), "refused", "connection refused", id="tcp-nobody-listens"),
        pytest.param(flow("UDP", port=81), "refused", "connection refused", id="udp-nobody-listens"),
        pytest.param(flow("UDP", "fd00::2", 81), "refused", "connection refused", id="udp-ipv6-nobody-listens"),
        pytest.param(flow("TCP", port=84), "refused", "connection refused", id="reset"),
        pytest.param(flow("TCP", port=82), "refused", "host unreachable (ICMP)", id="prohibited"),
        pytest.param(flow("UDP", port=82), "refused", "network unreachable (ICMP)", id="udp-net-unreachable"),
        pytest.param(flow("HTTP", port=80, path="/shell"), "refused", "HTTP 403", id="http-status"),
        pytest.param(flow("TCP", port=85), "timeout", "no answer within 1.5 s", id="tcp-dropped"),
        pytest.param(flow("UDP", port=85), "timeout", "no answer within 0.3 s", id="udp-dropped"),
        pytest.param(flow("ICMP", "10.0.0.9"), "timeout", "no answer within 0.3 s", id="nobody-has-the-address"),
        pytest.param(
            flow("UDP", port=86), "timeout", "dropped by the firewall of shop/api", id="dropped-where-it-is-sent"
        ),
        pytest.param(flow("TCP", "192.0.2.1", 80), "error", "no route from shop/api to 192.0.2.1", id="tcp-no-route"),
        pytest.param(flow("UDP", "192.0.2.1", 80), "error", "no route from shop/api to 192.0.2.1", id="udp-no-route"),
        pytest.param(flow("ICMP", "192.0.2.1"), "error", "no route from shop/api to 192.0.2.1", id="ping-no-route"),
        pytest.param(flow("DNS", port=53), "error", "the answer is no DNS reply", id="not-a-dns-server"),
    ],
)
def test_not_answered(lab: Holder, one: Flow, outcome: str, reason: str) -> None:
    result = once(lab, one, 0.3)
    assert (result.outcome, result.reason, result.server) == (outcome, reason, "")


@pytest.mark.parametrize(
    ("one", "outcome", "source"),
    [
        pytest.param(flow("HTTP", "web.shop.test", 80), "ok", "10.0.0.1", id="http"),
        pytest.param(flow("HTTP", "six.shop.test", 80), "ok", "fd00::1", id="http-ipv6"),
        pytest.param(flow("UDP", "web.shop.test", 53), "ok", "10.0.0.1", id="udp"),
        pytest.param(flow("ICMP", "six.shop.test"), "ok", "", id="ping"),
        pytest.param(flow("ICMP", "dead.test"), "timeout", "", id="the-name-of-a-dead-host"),
        pytest.param(flow("HTTP", "nosuch.test", 80), "error", "", id="http-unknown-name"),
        pytest.param(flow("UDP", "nosuch.test", 53), "error", "", id="udp-unknown-name"),
    ],
)
def test_names_are_looked_up_as_the_sender(lab: Holder, one: Flow, outcome: str, source: str) -> None:
    result = once(lab, one, 0.3, {"api": IDENTITY})
    assert (result.outcome, result.source) == (outcome, source)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("web.shop.svc.cluster.local.", "", id="there"),
        pytest.param("no.test", "NXDOMAIN", id="not-there"),
        pytest.param("", "", id="the-root"),
    ],
)
def test_a_dns_server_answers(lab: Holder, name: str, reason: str) -> None:
    result = once(lab, replace(flow("DNS", port=5353), host=name))
    assert (result.outcome, result.reason) == ("ok", reason)


def test_a_lookup_that_hangs_is_given_up(lab: Holder, tmp_path: Path) -> None:
    tool = tmp_path / "getent"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)

    def work() -> tuple[Result, float]:
        os.environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        begin = time.monotonic()
        (result,) = send([flow("UDP", "web.shop.test", 53)], {"api": IDENTITY}, 0.2)
        return result, time.monotonic() - begin

    result, seconds = run_in(lab, work)
    assert result == Result(outcome="error", reason="could not resolve web.shop.test")
    assert seconds < 2


def test_results_are_in_order_and_progress_reaches_the_end(lab: Holder) -> None:
    flows = [
        flow("TCP", port=85),
        flow("HTTP", "web.shop.test", 80),
        flow("HTTP", port=80),
        flow("HTTP", "nosuch.test", 80),
        flow("ICMP"),
        flow("TCP", port=81),
    ]
    seen: list[tuple[str, int, int]] = []
    results = run_in(
        lab, send, flows, {"api": IDENTITY}, 0.3, 3, progress=lambda what, done, total: seen.append((what, done, total))
    )
    assert [result.outcome for result in results] == ["timeout", "ok", "ok", "error", "ok", "refused"]
    assert seen[-1] == ("probes", 6, 6)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_one_after_the_other(lab: Holder) -> None:
    results = run_in(lab, send, [flow("HTTP", "web.shop.test", 80)] * 5, {"api": IDENTITY}, 1.0, 1)
    assert [(result.outcome, result.server) for result in results] == [("ok", "shop/web-0")] * 5


def test_a_hundred_runs_of_ping_and_curl_are_quick_and_leave_nothing(lab: Holder) -> None:
    def work() -> tuple[set[str], float, int]:
        before = _open_files()
        begin = time.monotonic()
        results = send([flow("ICMP"), flow("HTTP", port=80)] * 50, {}, 1.0, 4)
        seconds = time.monotonic() - begin
        with pytest.raises(ChildProcessError):  # not even one that has ended and is not waited for
            os.waitpid(-1, os.WNOHANG)
        return {result.outcome for result in results}, seconds, _open_files() - before

    outcomes, seconds, files_left = run_in(lab, work)
    assert outcomes == {"ok"}
    assert files_left == 0
    assert seconds < 2.5


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_missing_tools_are_errors_not_silence(lab: Holder) -> None:
    def work() -> list[Result]:
        os.environ["PATH"] = "/nonexistent"
        return send([flow("ICMP"), flow("TCP", port=80), flow("UDP", port=53)], {}, 1.0)

    results = run_in(lab, work)
    assert [result.outcome for result in results] == ["error", "error", "ok"]
    assert [result.reason for result in results][:2] == [
        "there is no program ping on this host",
        "there is no program curl on this host",
    ]


def test_a_namespace_that_is_gone_is_an_error(lab: Holder) -> None:
    gone = replace(flow("UDP", port=53), sender=Place(kind="pod", name="shop/gone", netns="gone"))
    assert once(lab, gone).outcome == "error"
    assert once(lab, replace(gone, address="web.shop.test"), identities={"gone": IDENTITY}).outcome == "error"


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(replace(flow("ICMP"), sender=Place(kind="service", name="shop/web")), id="no-namespace"),
        pytest.param(flow("HTTP", "web.shop.test", 80), id="no-identity"),
    ],
)
def test_who_cannot_send_is_an_error_of_the_caller(one: Flow) -> None:
    with pytest.raises(ProbeError):
        send([one], {})
