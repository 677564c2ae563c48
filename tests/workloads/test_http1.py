"""HTTP/1.1 over real sockets: what a client sends, well-formed or not, and every byte that comes back."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.root

Talk = Callable[[bytes], bytes]
GET = b"GET /hostname HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET /hostname HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def read_until(sock: socket.socket, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        data = sock.recv(65536)
        assert data, f"ended after {found!r}"
        found += data
    return found


def read_all(sock: socket.socket) -> bytes:
    found = bytearray()
    while data := sock.recv(1 << 20):
        found += data
    return bytes(found)


def test_every_family_and_address(web: Any, split: Any) -> None:
    for address in ("10.1.0.1", "10.1.0.2", "127.0.0.1", "fd00::1", "fd00::2"):
        sock = web.connect("pod", address=address)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
        own = sock.getsockname()
        host = f"[{address}]" if ":" in address else address
        client = f"[{own[0]}]:{own[1]}" if ":" in address else f"{own[0]}:{own[1]}"
        [answer] = split(read_all(sock))
        assert answer.headers["content-type"] == "application/json"
        about = answer.json()
        assert (about["server"], about["client"], about["pod"]) == (f"{host}:80", client, "api")


def test_keeps_the_connection(web: Any, split: Any) -> None:
    sock = web.connect("pod")
    for _ in range(3):
        sock.sendall(GET)
        [answer] = split(read_until(sock, b"api"))
        assert "connection" not in answer.headers
    sock.sendall(CLOSE)
    [answer] = split(read_all(sock))
    assert answer.headers["connection"] == "close"


def test_http_1_0_ends_after_one(web: Any, split: Any) -> None:
    sock = web.connect("pod")
    sock.sendall(b"GET /hostname HTTP/1.0\r\n\r\n")
    assert [answer.body for answer in split(read_all(sock))] == [b"api"]


def test_pipelined_requests_are_answered_in_order(talk: Talk, split: Any) -> None:
    requests = b"".join(b"GET /echo?msg=%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(200))
    assert [answer.body for answer in split(talk(requests))] == [b"%d" % number for number in range(200)]


def test_requests_may_come_byte_by_byte(web: Any, split: Any) -> None:
    sock = web.connect("pod")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in CLOSE:
        sock.send(bytes([byte]))
    assert [answer.body for answer in split(read_all(sock))] == [b"api"]


def test_nothing_follows_an_answer_that_closes(talk: Talk, split: Any) -> None:
    assert len(split(talk(CLOSE + GET))) == 1


def test_head_is_the_header_alone(talk: Talk, split: Any) -> None:
    answers = split(talk(b"HEAD /big?bytes=100000 HTTP/1.1\r\nHost: x\r\n\r\n"), head=True)
    assert [answer.headers["content-length"] for answer in answers] == ["100000"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", id="chunked"),
        pytest.param(
            b'Transfer-Encoding: chunked\r\n\r\nA;x="y"\r\n0123456789\r\n0\r\nX: y\r\n\r\n', id="extension, trailer"
        ),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="no chunk"),
        pytest.param(b"Content-Length: 25\r\n\r\nGET /shell HTTP/1.1\r\n\r\nxx", id="a request in the body"),
        pytest.param(b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000, id="large"),
        pytest.param(b"Content-Length: 0\r\n\r\n", id="empty"),
    ],
)
def test_a_body_is_skipped_to_its_last_byte(talk: Talk, split: Any, body: bytes) -> None:
    answers = split(talk(b"POST /echo?msg=1 HTTP/1.1\r\nHost: x\r\n" + body + GET))
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"1"), (200, b"api")]


def test_a_line_end_after_a_body_is_ignored(talk: Talk, split: Any) -> None:
    """RFC 9112, 2.2: old clients send one more CRLF than the body has."""
    answers = split(talk(b"POST /echo?msg=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi\r\n" + GET))
    assert [answer.body for answer in answers] == [b"1", b"api"]


def test_100_continue(web: Any, split: Any) -> None:
    sock = web.connect("pod")
    sock.sendall(b"PUT /echo?msg=1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"hi" + CLOSE)
    assert [answer.body for answer in split(read_all(sock))] == [b"1", b"api"]


def test_big_answer_to_a_half_closed_client(talk: Talk, split: Any) -> None:
    answers = split(talk(b"GET /big?bytes=5000000 HTTP/1.1\r\nHost: x\r\n\r\n" + GET))
    assert [len(answer.body) for answer in answers] == [5_000_000, 3]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /" + b"x" * 70_000, 431, id="endless line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12_000, 431, id="endless header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12_000 + b"\r\n", 431, id="too long, but complete"),
        pytest.param(b"GET /\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 505, id="version"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, id="no header field"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="chunk size"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, 400, id="endless chunk size"
        ),
    ],
)
def test_refused_and_closed(talk: Talk, split: Any, sent: bytes, status: int) -> None:
    """The answer arrives whole although there is unread input: no RST overtakes it."""
    [answer] = split(talk(sent))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"hello\n", id="text"),
        pytest.param(b"\x16\x03\x01\x02\x00", id="TLS"),
        pytest.param(b"\x00\xff" * 5000, id="binary"),
        pytest.param(b"GE", id="less than a method"),
        pytest.param(b"GETX / HTTP/1.1\r\n\r\n", id="no method"),
    ],
)
def test_what_is_not_http_gets_the_json_line(talk: Talk, sent: bytes) -> None:
    answer = talk(sent)
    assert answer.endswith(b"}\n")
    assert json.loads(answer)["pod"] == "api"


def test_a_client_that_says_nothing_gets_nothing(talk: Talk) -> None:
    assert talk(b"") == b""


def test_a_slow_client_keeps_nobody_waiting(web: Any, split: Any) -> None:
    reader = web.connect("pod")  # asks for much and reads nothing
    reader.sendall(b"GET /big?bytes=60000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    writer = web.connect("pod")  # never comes to the end of its request
    writer.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nab")
    assert select.select([reader], [], [], 5)[0]
    for _ in range(20):
        started = time.monotonic()
        sock = web.connect("pod")
        sock.sendall(CLOSE)
        assert [answer.body for answer in split(read_all(sock))] == [b"api"]
        assert time.monotonic() - started < 1
    assert not select.select([writer], [], [], 0)[0]


def test_requests_that_are_never_read_do_not_fill_the_memory(web: Any, server: Any) -> None:
    sock = web.connect("pod")
    sock.settimeout(0.5)
    before = rss(server)
    requests = b"GET /big?bytes=1000000 HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000  # 45 MB, for 1 TB of answers
    with pytest.raises(TimeoutError):
        sock.sendall(requests)
    assert rss(server) - before < 4 << 20


def rss(server: Any) -> int:
    with open(f"/proc/{server.process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_a_reset_costs_nothing(web: Any, server: Any, split: Any) -> None:
    before = server.descriptors()
    for sent in (b"", b"GET / HT", b"GET /big?bytes=9000000 HTTP/1.1\r\nHost: x\r\n\r\n", GET * 500):
        sock = web.connect("pod")
        sock.sendall(sent)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
        sock.close()
    sock = web.connect("pod")
    sock.sendall(CLOSE)
    assert [answer.body for answer in split(read_all(sock))] == [b"api"]
    sock.close()
    assert server.descriptors() == before


WORDS = [
    b"GET ",
    b"POST ",
    b"/",
    b" HTTP/1.1",
    b"\r\n",
    b"\n",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"3\r\n",
]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=20)), max_size=12).map(b"".join))
def test_no_bytes_stop_it(web: Any, sent: bytes) -> None:
    """Whatever came, the connection ends when the client's side has, and the next client is served."""
    with web.connect("pod") as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)
    with web.connect("pod") as sock:
        sock.sendall(CLOSE)
        assert read_all(sock).endswith(b"api")
