"""The pod server as the lab runs it: its control protocol, its sockets, what it costs and what it survives."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k8snetlab.kernel import control
from k8snetlab.workloads import podserver

pytestmark = pytest.mark.root

Entry = Callable[..., dict[str, Any]]
CLOSE = b"GET /hostname HTTP/1.1\r\nConnection: close\r\n\r\n"
NOTHING_WRONG: dict[str, Any] = {"errors": []}


def hostname(namespaces: Any, netns: str, port: int = 80) -> bytes:
    """What the pod that listens there is called."""
    found = b""
    with namespaces.connect(netns, port) as sock:
        sock.sendall(CLOSE)
        while data := sock.recv(65536):
            found += data
    return found.rpartition(b"\r\n\r\n")[2]


def test_listens_on_what_it_is_told(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    namespaces.add("b")
    wanted = [
        entry("a", [("TCP", 80), ("UDP", 53), ("TCP", 53)], pod="shop/a"),
        entry("b", [("TCP", 80)], pod="shop/b"),
    ]
    assert server.set(*wanted) == NOTHING_WRONG
    assert server.ask({"list": True})["servers"] == json.loads(json.dumps(wanted))
    assert (hostname(namespaces, "a"), hostname(namespaces, "a", 53), hostname(namespaces, "b")) == (b"a", b"a", b"b")


def test_a_set_replaces_what_the_pod_had(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80), ("TCP", 81)]))
    assert server.set(entry("a", [("TCP", 81), ("TCP", 82)])) == NOTHING_WRONG
    assert server.listening() == {("a", "shop/api"): [("TCP", 81), ("TCP", 82)]}
    with pytest.raises(ConnectionRefusedError):
        namespaces.connect("a", 80)
    assert hostname(namespaces, "a", 82) == b"api"


def test_what_stays_keeps_its_socket_and_connections(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80)], node="node1"))
    old, waiting = namespaces.connect("a"), namespaces.connect("a")
    old.sendall(b"GET /hostname HTTP/1.1\r\n\r\n")
    assert old.recv(65536).endswith(b"api")
    assert server.set(entry("a", [("TCP", 80), ("TCP", 81)], node="node2")) == NOTHING_WRONG
    for sock in (old, waiting):
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b'"pod": "api"' in sock.recv(65536)


def test_a_connection_outlives_its_listener(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80)]))
    old = namespaces.connect("a")
    assert server.set(entry("a", [])) == NOTHING_WRONG
    old.sendall(CLOSE)
    assert old.recv(65536).endswith(b"api")


def test_remove(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    before = server.descriptors()
    server.set(entry("a", [("TCP", 80), ("UDP", 80)]), entry("a", [("TCP", 81)], pod="shop/other"))
    removed = server.ask({"remove": [["a", "shop/api"], ["a", "shop/unknown"], ["nowhere", "shop/other"]]})
    assert removed == NOTHING_WRONG
    assert server.listening() == {("a", "shop/other"): [("TCP", 81)]}
    with pytest.raises(ConnectionRefusedError):
        namespaces.connect("a", 80)
    assert server.descriptors() == before + 1


def test_pods_on_a_nodes_network_share_its_namespace(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("node1")
    assert server.set(
        entry("node1", [("TCP", 80)], pod="shop/a"), entry("node1", [("TCP", 81)], pod="shop/b")
    ) == NOTHING_WRONG  # fmt: skip
    assert (hostname(namespaces, "node1", 80), hostname(namespaces, "node1", 81)) == (b"a", b"b")


def test_an_error_stops_nobody_else(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("node1")
    namespaces.add("z")
    answer = server.set(
        entry("node1", [("TCP", 80)], pod="shop/a"),
        entry("node1", [("TCP", 80), ("UDP", 80)], pod="shop/b"),
        entry("nowhere", [("TCP", 80)], pod="shop/c"),
        entry("z", [("TCP", 80)], pod="shop/d"),
    )
    assert [
        (each["netns"], each["pod"], each["protocol"], each["port"], each["error"]) for each in answer["errors"]
    ] == [
        ("node1", "shop/b", "TCP", 80, "EADDRINUSE"),
        ("nowhere", "shop/c", "TCP", 80, "ENOENT"),
    ]
    assert server.listening() == {
        ("node1", "shop/a"): [("TCP", 80)],
        ("node1", "shop/b"): [("UDP", 80)],
        ("z", "shop/d"): [("TCP", 80)],
    }


def test_sctp_where_the_kernel_has_it(namespaces: Any, server: Any, entry: Entry) -> None:
    namespaces.add("a")
    errors = server.set(entry("a", [("SCTP", 80), ("TCP", 80)]))["errors"]
    if errors:
        assert [(each["protocol"], each["error"]) for each in errors] == [("SCTP", "EPROTONOSUPPORT")]
        assert server.listening() == {("a", "shop/api"): [("TCP", 80)]}
        return
    assert server.listening() == {("a", "shop/api"): [("SCTP", 80), ("TCP", 80)]}


def test_a_namespace_made_anew(namespaces: Any, server: Any, entry: Entry) -> None:
    """A pod that was deleted and created: the same name, another namespace, and nothing listens in it yet."""
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80)]))
    before = server.descriptors()
    namespaces.add("a")
    assert server.listening() == {}
    assert server.set(entry("a", [("TCP", 80)])) == NOTHING_WRONG
    assert server.listening() == {("a", "shop/api"): [("TCP", 80)]}
    assert hostname(namespaces, "a") == b"api"
    assert server.descriptors() == before


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty line"),
        pytest.param(b"GET / HTTP/1.1", id="no JSON"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"set"', id="text"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b'{"set": 7}', id="set of a number"),
        pytest.param(b'{"set": [{"netns": "a"}]}', id="keys missing"),
        pytest.param(
            b'{"set": [{"netns": "a", "pod": "p", "node": "n", "hostname": "h", "listeners": [[]]}]}', id="pair"
        ),
        pytest.param(
            b'{"set": [{"netns": "a", "pod": "p", "node": "n", "hostname": "h", "listeners": [["TCP", "80"]]}]}',
            id="port",
        ),
        pytest.param(
            b'{"set": [{"netns": "\\u0000", "pod": "p", "node": "n", "hostname": "h", "listeners": [["TCP", 1]]}]}',
            id="NUL",
        ),
        pytest.param(b'{"remove": [["a"]]}', id="remove of less than a key"),
        pytest.param(
            b'{"set": [{"netns": "a", "pod": "p", "node": "n", "hostname": "h", "listeners": [["TCP", 70000]]}]}',
            id="70000",
        ),
        pytest.param(
            b'{"set": [{"netns": "a", "pod": "p", "node": "n", "hostname": "h", "listeners": [["ICMP", 1]]}]}',
            id="ICMP",
        ),
    ],
)
def test_a_request_that_is_none_is_refused(namespaces: Any, server: Any, entry: Entry, line: bytes) -> None:
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80)]))
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(5)
        sock.connect(str(server.control))
        sock.sendall(line + b"\n" + b'{"list": true}\n')
        answer = json.loads(answers.readline())
        assert answer["refused"]
        assert answer["errors"] == []
        assert [each["pod"] for each in json.loads(answers.readline())["servers"]] == ["shop/api"]
    assert hostname(namespaces, "a") == b"api"


def test_its_own_namespace_is_never_listened_in(namespaces: Any, server: Any, entry: Entry) -> None:
    """Whatever fails, the process comes home: /proc/PID/ns/net is the test's own, and none of its ports are there."""
    namespaces.add("a")
    server.set(entry("a", [("TCP", 80)]), entry("nowhere", [("TCP", 80)]))
    server.ask({"set": [{"netns": "a", "pod": "p", "node": "n", "hostname": "h", "listeners": [["TCP", None]]}]})
    home = os.readlink(f"/proc/{server.process.pid}/ns/net")  # noqa: PTH115
    assert home == os.readlink("/proc/self/ns/net")  # noqa: PTH115


@pytest.mark.parametrize("address", ["10.1.0.1", "10.1.0.2", "127.0.0.1", "fd00::1", "fd00::2"])
def test_a_datagram_is_answered_from_the_address_it_came_to(web: Any, address: str) -> None:
    """The client's own address is one of the namespace, so by route the answer would leave from that one."""
    six = ":" in address
    client = web.socket_in("pod", socket.SOCK_DGRAM, socket.AF_INET6 if six else socket.AF_INET)
    client.bind(("fd00::2" if six else "10.1.0.9", 0))
    own = client.getsockname()
    shown = "[{}]:{}" if six else "{}:{}"

    def ask(payload: bytes) -> bytes:
        client.sendto(payload, (address, 80))
        answer, source = client.recvfrom(65536)
        assert source[:2] == (address, 80)
        return bytes(answer)

    assert (ask(b"hostname"), ask(b"echo x")) == (b"api", b"x")
    assert ask(b"clientip").decode() == shown.format(own[0], own[1])
    about = json.loads(ask(b"who"))
    assert (about["server"], about["client"]) == (shown.format(address, 80), shown.format(own[0], own[1]))


def test_odd_datagrams_do_not_stop_it(web: Any) -> None:
    client = web.socket_in("pod", socket.SOCK_DGRAM)
    client.connect(("10.1.0.1", 80))
    for payload in (b"", b"\xff" * 60_000, b"echo " + b"x" * 60_000):
        client.send(payload)
        assert client.recv(65536)
    client.send(b'{"pod": "forged"}')
    client.send(b"hostname")
    assert client.recv(65536) == b"api"


def test_a_thousand_pods(namespaces: Any, server: Any, entry: Entry) -> None:
    """Design: one `set` of 1,000 pods in 60 ms on the development machine, in less than 25 MB."""
    for number in range(10):
        namespaces.add(f"node{number}")
    pods = [entry(f"node{i % 10}", [("TCP", 1000 + i)], pod=f"shop/pod-{i}") for i in range(1000)]
    server.ask({"list": True})
    started = time.perf_counter()
    assert server.set(*pods) == NOTHING_WRONG
    seconds = time.perf_counter() - started
    assert len(server.listening()) == 1000
    assert hostname(namespaces, "node7", 1007) == b"pod-7"
    with open(f"/proc/{server.process.pid}/statm") as file:  # noqa: PTH123
        megabytes = int(file.read().split()[1]) * resource.getpagesize() / 1e6
    print(f"1000 listeners: {1000 * seconds:.0f} ms, {megabytes:.1f} MB resident")
    assert megabytes < 25
    assert seconds < 0.5  # an order of magnitude, whatever else the machine does


def test_starts_without_the_users_python(namespaces: Any, tmp_path: Path, entry: Entry) -> None:
    """As the hand-run script starts it: no site-packages, no PYTHON* variables, from any directory, a set on stdin."""
    namespaces.add("lab.a")
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')\n")
    argv = [sys.executable, "-I", "-S", podserver.__file__, "--config", "-"]
    argv += ["--netns-dir", str(namespaces.directory), "--prefix", "lab.", "--control", str(tmp_path / "control")]
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "json.py")}
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(json.dumps({"set": [entry("a", [("TCP", 80)]), entry("b", [("TCP", 80)])]}))
            process.stdin.close()
            error = json.loads(process.stderr.readline())
            assert (error["netns"], error["error"]) == ("b", "ENOENT")
            assert hostname(namespaces, "lab.a") == b"api"
        finally:
            process.terminate()
        assert process.wait(5) == -signal.SIGTERM
        assert process.stderr.read() == ""


def test_imports_little() -> None:
    """Its start is part of every `up`: 60 ms at most, so none of the library's heavy modules."""
    show = "import sys; sys.path.insert(0, sys.argv[1]); import k8snetlab.workloads.podserver; print(*sys.modules)"
    argv = [sys.executable, "-I", "-S", "-c", show, str(Path(podserver.__file__).parents[2])]
    modules = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    heavy = {
        "typing",
        "dataclasses",
        "pathlib",
        "logging",
        "asyncio",
        "http",
        "urllib",
        "argparse",
        "subprocess",
        "inspect",
    }
    assert not modules & heavy
    assert not {name for name in modules if name.startswith("k8snetlab.") and "workloads" not in name}


def test_is_up_soon(namespaces: Any, tmp_path: Path, entry: Entry) -> None:
    times = []
    for number in range(5):
        path = tmp_path / f"control{number}"
        started = time.perf_counter()
        argv = [sys.executable, "-I", "-S", podserver.__file__, "--control", str(path)]
        with subprocess.Popen(argv) as process:
            try:
                pidfd = os.pidfd_open(process.pid)
                assert control.ask(str(path), [{"list": True}], pidfd=pidfd) == [{"servers": [], "announcements": []}]
                os.close(pidfd)
                times.append(time.perf_counter() - started)
            finally:
                process.terminate()
    print(f"start: {1000 * statistics.median(times):.0f} ms")
    assert statistics.median(times) < 0.3


@pytest.mark.parametrize("words", [[], ["--control"], ["--prefix", "x"], ["--nonsense", "x", "--control", "y"]])
def test_usage(words: list[str]) -> None:
    argv = [sys.executable, "-I", "-S", podserver.__file__, *words]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("usage: podserver.py (--control PATH | --config FILE)")


def test_running_out_of_descriptors_costs_the_idle_not_the_new(namespaces: Any, tmp_path: Path, entry: Entry) -> None:
    """Listeners leave room for connections, and the longest idle connection makes room for a new one."""
    namespaces.add("a")
    path = tmp_path / "control"
    argv = ["prlimit", "--nofile=100:100", sys.executable, "-I", "-S", podserver.__file__]
    argv += ["--control", str(path), "--netns-dir", str(namespaces.directory)]
    with subprocess.Popen(argv) as process:
        try:
            pidfd = os.pidfd_open(process.pid)
            ports = [("TCP", 1000 + number) for number in range(60)]
            [answer] = control.ask(str(path), [{"set": [entry("a", ports)]}], pidfd=pidfd)
            os.close(pidfd)
            assert {each["error"] for each in answer["errors"]} == {"EMFILE"}
            assert 0 < len(answer["errors"]) < 60
            idle = [namespaces.connect("a", 1000) for _ in range(150)]
            assert hostname(namespaces, "a", 1000) == b"api"
            assert idle[0].recv(1) == b""
            assert process.poll() is None
        finally:
            process.terminate()
