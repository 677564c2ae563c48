"""From a request's words to an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.workloads.netexec import Identity, Request, answer_datagram, endpoint, respond, unquote

API = Identity("shop/api-0", "node1", "api")
OWN, CLIENT = "10.244.0.2:80", "10.244.1.7:40000"


def ask(target: str, *lines: str, method: str = "GET") -> tuple[int, str, str, int]:
    return respond(Request("\r\n".join([f"{method} {target} HTTP/1.1", *lines])), API, OWN, CLIENT, "TCP")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        pytest.param("/hostname", "api", id="hostname"),
        pytest.param("/hostName", "api", id="hostName as netexec spells it"),
        pytest.param("/clientip", CLIENT, id="clientip"),
        pytest.param("/echo?msg=a+b%21&x=1", "a b!", id="echo"),
        pytest.param("/echo?x=1&msg=last", "last", id="echo, second parameter"),
        pytest.param("/echo", "", id="echo of nothing"),
        pytest.param("/healthz", "", id="healthz"),
        pytest.param("/readyz", "", id="readyz"),
        pytest.param("/livez", "", id="livez"),
        pytest.param("/header?key=X-Forwarded-For", "1.2.3.4, 5.6.7.8", id="header, repeated"),
        pytest.param("/header?key=Nothing", "", id="header, absent"),
        pytest.param("http://shop.example/echo?msg=proxy", "proxy", id="absolute form"),
    ],
)
def test_answers_like_netexec(target: str, body: str) -> None:
    assert ask(target, "Host: shop", "x-forwarded-for: 1.2.3.4", "X-FORWARDED-FOR: 5.6.7.8") == (200, body, "", 0)


@pytest.mark.parametrize("path", ["/shell?cmd=id", "/dial?host=x", "/upload", "/exit?code=1"])
def test_never_does_what_a_stand_in_must_not(path: str) -> None:
    assert ask(path)[0] == 403


@pytest.mark.parametrize(
    ("query", "size"),
    [
        pytest.param("bytes=1400", 1400, id="asked"),
        pytest.param("bytes=999999999999", 64 * 1024 * 1024, id="bounded"),
        pytest.param("bytes=" + "9" * 5000, 0, id="more digits than a number may have"),
        pytest.param("bytes=-1", 0, id="negative"),
        pytest.param("bytes=%D9%A3", 0, id="digits of another script"),
        pytest.param("", 0, id="nothing"),
    ],
)
def test_big_gives_filler(query: str, size: int) -> None:
    assert ask(f"/big?{query}") == (200, "", "", size)


@pytest.mark.parametrize(
    ("query", "status", "header"),
    [
        pytest.param("", 302, "Location: /\r\n", id="default"),
        pytest.param("code=308&location=/cart", 308, "Location: /cart\r\n", id="told"),
        pytest.param("location=/%0d%0aSet-Cookie:%20x", 302, "Location: /Set-Cookie: x\r\n", id="no header of its own"),
        pytest.param("code=200", 400, "", id="no redirect"),
        pytest.param("code=x", 400, "", id="no number"),
    ],
)
def test_redirect(query: str, status: int, header: str) -> None:
    assert ask(f"/redirect?{query}")[::2] == (status, header)


@pytest.mark.parametrize("path", ["/", "/cart/7", "/Hostname", "/hostname/"])
def test_anything_else_says_who_answers_whom(path: str) -> None:
    status, body, _, _ = ask(f"{path}?q=1", "Host: shop.example:80", method="POST")
    assert status == 200
    assert json.loads(body) == {
        "pod": "api-0",
        "namespace": "shop",
        "node": "node1",
        "hostname": "api",
        "server": OWN,
        "client": CLIENT,
        "protocol": "TCP",
        "method": "POST",
        "path": path,
        "host": "shop.example:80",
    }


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        pytest.param("a%20b+c", "a b c", id="both kinds of space"),
        pytest.param("%e2%82%AC", "€", id="UTF-8"),
        pytest.param("100%", "100%", id="percent at the end"),
        pytest.param("100%2", "100%2", id="one digit"),
        pytest.param("%zz", "%zz", id="no digits"),
        pytest.param("%++x", "%  x", id="spaces are no digits"),
        pytest.param("%ff", "\ufffd", id="no UTF-8"),
        pytest.param("%25%32%35", "%25", id="decoded once"),
    ],
)
def test_unquote_leaves_what_is_not_valid(text: str, decoded: str) -> None:
    assert unquote(text) == decoded


@pytest.mark.parametrize(
    ("address", "text"),
    [
        pytest.param(("10.0.0.1", 80), "10.0.0.1:80", id="IPv4"),
        pytest.param(("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1:80", id="IPv4 on a dual-stack socket"),
        pytest.param(("fd00::1", 80, 0, 0), "[fd00::1]:80", id="IPv6"),
        pytest.param(("fe80::1%eth0", 80, 0, 2), "[fe80::1]:80", id="link-local"),
    ],
)
def test_endpoint(address: tuple[object, ...], text: str) -> None:
    assert endpoint(address) == text


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        pytest.param("GET / HTTP/1.1", True, id="1.1"),
        pytest.param("GET / HTTP/1.1\nConnection: Close", False, id="1.1 close"),
        pytest.param("GET / HTTP/1.1\nConnection: x, close", False, id="1.1 close in a list"),
        pytest.param("GET / HTTP/1.0", False, id="1.0"),
        pytest.param("GET / HTTP/1.0\nConnection: keep-alive", True, id="1.0 keep-alive"),
    ],
)
def test_keep_alive(head: str, keeps: bool) -> None:
    assert Request(head).keep_alive() is keeps


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        pytest.param("", 0, id="none"),
        pytest.param("\nContent-Length: 7", 7, id="length"),
        pytest.param("\nTransfer-Encoding: Chunked", None, id="chunked"),
    ],
)
def test_body(lines: str, length: int | None) -> None:
    assert Request(f"POST / HTTP/1.1{lines}").body() == length


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param("Content-Length: 1\nContent-Length: 2", id="two lengths"),
        pytest.param("Content-Length: 1\nTransfer-Encoding: chunked", id="length and chunked"),
        pytest.param("Content-Length: +1", id="sign"),
        pytest.param("Content-Length: 99999999999999999999", id="beyond 64 bits"),
        pytest.param("Transfer-Encoding: gzip", id="unknown coding"),
    ],
)
def test_a_body_that_contradicts_itself_is_refused(lines: str) -> None:
    """RFC 9112, 6.3: anything else lets one client's body become another's request."""
    request = Request(f"POST / HTTP/1.1\n{lines}")
    with pytest.raises(ValueError, match=r"\d|gzip|chunked"):
        request.body()


@pytest.mark.parametrize(
    "head", ["GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1\nnocolon", "GET / HTTP/1.1\nHost : x", ""]
)
def test_what_is_no_request(head: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Request(head)


@pytest.mark.parametrize(
    ("payload", "answer"),
    [
        pytest.param(b"hostname", b"api", id="hostname"),
        pytest.param(b"hostname\n", b"api", id="with a newline, as nc sends it"),
        pytest.param(b"clientip", CLIENT.encode(), id="clientip"),
        pytest.param(b"echo a b", b"a b", id="echo"),
        pytest.param(b'{"pod": "x"}', None, id="another server's answer is no question"),
    ],
)
def test_datagrams(payload: bytes, answer: bytes | None) -> None:
    assert answer_datagram(payload, API, OWN, CLIENT) == answer


@pytest.mark.parametrize("payload", [b"", b"who", b"\xff\x00", b"HOSTNAME"])
def test_any_other_datagram_gets_the_json_line(payload: bytes) -> None:
    answer = answer_datagram(payload, API, OWN, CLIENT)
    assert answer is not None
    words = json.loads(answer)
    assert (words["pod"], words["server"], words["client"], words["protocol"]) == ("api-0", OWN, CLIENT, "UDP")
    assert answer.endswith(b"\n")


@given(st.binary(max_size=60))
def test_no_answer_makes_two_servers_talk_for_ever(payload: bytes) -> None:
    """A datagram with a forged source: server to server, it must end."""
    for _ in range(80):
        reply = answer_datagram(payload, API, OWN, CLIENT)
        if reply is None:
            return
        payload = reply
    pytest.fail("still talking")


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=300))
def test_no_head_does_more_than_raise_value_error(head: str) -> None:
    try:
        request = Request(head)
        request.body()
    except ValueError:
        return
    status, body, header, filler = respond(request, API, OWN, CLIENT, "TCP")
    assert 200 <= status < 500
    assert "\n" not in header.removesuffix("\r\n")
    assert filler >= 0
    assert isinstance(body, str)
