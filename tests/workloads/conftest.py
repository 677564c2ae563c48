"""Throw-away network namespaces, and a pod server that listens in them, run as the lab runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from k8snetlab.kernel import control
from k8snetlab.kernel.netns import inside
from k8snetlab.workloads import podserver

PROGRAM = Path(podserver.__file__)


@dataclass(frozen=True)
class Namespaces:
    """A directory with a link to each namespace, which lives as long as a process that does nothing."""

    directory: Path
    stack: ExitStack

    def add(self, name: str, *addresses: str) -> None:
        """A namespace with its loopback up and these addresses on it; one of that name is replaced by it."""
        script = ["ip link set lo up", *(f"ip addr add {each} dev lo" for each in addresses), "echo; exec cat"]
        keeper = self.stack.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "sh", "-euc", "; ".join(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        assert keeper.stdin is not None
        self.stack.callback(keeper.stdin.close)  # then `cat` ends, and the namespace with it
        assert keeper.stdout is not None
        assert keeper.stdout.read(1) == b"\n"
        (self.directory / name).unlink(missing_ok=True)
        (self.directory / name).symlink_to(f"/proc/{keeper.pid}/ns/net")

    def socket_in(self, name: str, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        """A socket in the namespace, with a timeout; closed at the end of the test."""
        fd = os.open(self.directory / name, os.O_RDONLY)
        try:
            with inside(fd):
                sock = self.stack.enter_context(socket.socket(family, kind))
        finally:
            os.close(fd)
        sock.settimeout(5)
        return sock

    def connect(self, name: str, port: int = 80, address: str = "127.0.0.1") -> socket.socket:
        sock = self.socket_in(name, family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.connect((address, port))
        return sock


@dataclass(frozen=True)
class PodServer:
    process: subprocess.Popen[bytes]
    control: Path

    def ask(self, request: dict[str, object]) -> Any:
        pidfd = os.pidfd_open(self.process.pid)
        try:
            return control.ask(str(self.control), [request], pidfd=pidfd)[0]
        finally:
            os.close(pidfd)

    def set(self, *entries: dict[str, object]) -> Any:
        return self.ask({"set": list(entries)})

    def listening(self) -> dict[tuple[str, str], list[tuple[str, int]]]:
        """What it says is open now, by namespace and pod."""
        servers = self.ask({"list": True})["servers"]
        return {(each["netns"], each["pod"]): [(p, n) for p, n in each["listeners"]] for each in servers}

    def descriptors(self) -> int:
        """How many are open when the server has come to rest: it closes what has ended in its own time."""
        return min(len(self._open_files()) for _ in range(20) if self.ask({"list": True}))

    def _open_files(self) -> list[Path]:
        return list(Path(f"/proc/{self.process.pid}/fd").iterdir())


def entry(
    netns: str, listeners: Sequence[tuple[str, int]], pod: str = "shop/api", node: str = "node1"
) -> dict[str, Any]:
    return {"netns": netns, "pod": pod, "node": node, "hostname": pod.partition("/")[2], "listeners": list(listeners)}


@pytest.fixture(name="entry")
def entry_fixture() -> Callable[..., dict[str, Any]]:
    return entry


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[Namespaces]:
    directory = tmp_path / "netns"
    directory.mkdir()
    with ExitStack() as stack:
        yield Namespaces(directory, stack)


@pytest.fixture
def server(namespaces: Namespaces, tmp_path: Path) -> Iterator[PodServer]:
    """The pod server, without any listener yet; it must outlive the test."""
    path = tmp_path / "control"
    argv = [sys.executable, "-I", "-S", str(PROGRAM), "--control", str(path), "--netns-dir", str(namespaces.directory)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield PodServer(process, path)
            assert process.poll() is None, "the server has died"
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=5)
        assert errors == b""


@pytest.fixture
def web(namespaces: Namespaces, server: PodServer) -> Namespaces:
    """The namespace `pod`, with the pod shop/api listening on TCP and UDP 80."""
    namespaces.add("pod", "10.1.0.1/32", "10.1.0.2/32", "10.1.0.9/32", "fd00::1/128 nodad", "fd00::2/128 nodad")
    assert server.set(entry("pod", [("TCP", 80), ("UDP", 80)])) == {"errors": []}
    return namespaces


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server's FIN."""
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


@pytest.fixture(name="talk")
def talk_fixture(web: Namespaces) -> Callable[[bytes], bytes]:
    """Send bytes to the web pod, then FIN; returns everything that came back."""

    def talk(sent: bytes) -> bytes:
        sock = web.connect("pod")
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    return talk


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def split(stream: bytes, *, head: bool = False) -> list[Answer]:
    """The HTTP answers in a stream of bytes, none of them cut short."""
    answers = []
    while stream:
        top, end, stream = stream.partition(b"\r\n\r\n")
        assert end, f"no end of the header: {top!r}"
        first, *lines = top.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = 0 if head or status == "100" else int(headers["content-length"])
        assert len(stream) >= size, "the body is cut short"
        answers.append(Answer(int(status), headers, stream[:size]))
        stream = stream[size:]
    return answers


@pytest.fixture(name="split")
def split_fixture() -> Callable[..., list[Answer]]:
    return split
