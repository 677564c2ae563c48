"""What the output of ping and curl means: iputils 20221126, curl 7.88 and 8.5."""

from __future__ import annotations

from dataclasses import replace

import pytest

from k8snetlab.flows.model import Flow, FlowProtocol, Place, Result
from k8snetlab.kernel.processes import Completed
from k8snetlab.probe.tools import curl_argv, read_curl, read_ping

API = Place(kind="pod", name="shop/api", netns="shop_api")


def flow(protocol: FlowProtocol = "ICMP", address: str = "10.0.0.2", *, path: str = "/", host: str = "") -> Flow:
    destination = Place(kind="ip", name=address)
    port = 0 if protocol == "ICMP" else 80
    return Flow(
        sender=API, destination=destination, address=address, protocol=protocol, port=port, path=path, host=host
    )


def pinged(code: int, said: str = "", error: str = "", elapsed: float = 0.01) -> Result:
    out = f"PING 10.0.0.2 (10.0.0.2) 56(84) bytes of data.\n{said}\n\n--- 10.0.0.2 ping statistics ---\n"
    return read_ping(flow(), Completed(code, out.encode(), error.encode()), elapsed, 1.0)


def test_ping_answered() -> None:
    assert pinged(0, "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.040 ms") == Result(outcome="ok", rtt_ms=0.04)


@pytest.mark.parametrize(
    ("code", "said", "error", "elapsed", "outcome", "reason"),
    [
        pytest.param(1, "", "", 1.0, "timeout", "no answer within 1 s", id="silence"),
        pytest.param(
            1,
            "From 10.0.0.1 icmp_seq=1 Destination Net Unreachable",
            "",
            0.01,
            "refused",
            "Destination Net Unreachable (ICMP from 10.0.0.1)",
            id="net-unreachable",
        ),
        pytest.param(
            1,
            "From 10.0.0.2 icmp_seq=1 Packet filtered",
            "",
            0.01,
            "refused",
            "Packet filtered (ICMP from 10.0.0.2)",
            id="prohibited",
        ),
        pytest.param(
            1,
            "From fd00::2 icmp_seq=1 Destination unreachable: No route",
            "",
            0.01,
            "refused",
            "Destination unreachable: No route (ICMP from fd00::2)",
            id="ipv6-no-route-on-the-way",
        ),
        pytest.param(
            1,
            "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable",
            "",
            0.01,
            "refused",
            "Destination Host Unreachable (ICMP from 10.0.0.1)",
            id="host-unreachable-at-once",
        ),
        pytest.param(
            1,
            "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable",
            "",
            3.07,
            "timeout",
            "nobody answers for 10.0.0.2: its MAC address is not found",
            id="host-unreachable-by-arp",
        ),
        pytest.param(
            1,
            "From 10.0.0.1 icmp_seq=1 Redirect Host(New nexthop: 10.0.0.3)",
            "",
            1.0,
            "timeout",
            "no answer within 1 s",
            id="a-redirect-is-no-answer",
        ),
        pytest.param(
            2,
            "",
            "ping: connect: Network is unreachable\n",
            0.01,
            "error",
            "no route from shop/api to 10.0.0.2",
            id="no-route",
        ),
        pytest.param(
            1,
            "",
            "ping: sendmsg: Operation not permitted\n",
            1.0,
            "timeout",
            "dropped by the firewall of shop/api",
            id="dropped-by-its-own-firewall",
        ),
        pytest.param(
            2,
            "",
            "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\n",
            0.01,
            "error",
            "ping: socket: Operation not permitted",
            id="may-not",
        ),
        pytest.param(127, "", "", 0.01, "error", "ping ended with exit code 127", id="strange"),
        pytest.param(-9, "", "", 0.01, "error", "ping was killed by signal 9", id="killed"),
        pytest.param(0, "", "", 0.01, "error", "ping does not say how long it took", id="unparsable"),
    ],
)
def test_ping_not_answered(code: int, said: str, error: str, elapsed: float, outcome: str, reason: str) -> None:
    result = pinged(code, said, error, elapsed)
    assert (result.outcome, result.reason, result.rtt_ms) == (outcome, reason, None)


ABOUT = (
    b'{"pod": "web-0", "namespace": "shop", "node": "node1", "hostname": "web-0", "server": "10.0.0.2:80",'
    b' "client": "10.0.0.1:40000", "protocol": "TCP", "method": "GET", "path": "/", "host": "10.0.0.2"}\n'
)


def curled(
    protocol: FlowProtocol,
    code: int,
    report: str,
    *,
    body: bytes = b"",
    verbose: str = "",
    message: str = "",
    address: str = "10.0.0.2",
) -> Result:
    error = f"*   Trying {address}:80...\n{verbose}\n"
    error += f"curl: ({code}) {message}\n" if message else ""
    return read_curl(flow(protocol, address), Completed(code, body, f"{error}\n@ {report}\n".encode()), 1.0)


@pytest.mark.parametrize(
    ("protocol", "body", "result"),
    [
        pytest.param("HTTP", ABOUT, Result(outcome="ok", rtt_ms=2, server="shop/web-0", source="10.0.0.1"), id="http"),
        pytest.param("TCP", ABOUT, Result(outcome="ok", rtt_ms=1, server="shop/web-0", source="10.0.0.1"), id="tcp"),
        pytest.param(
            "HTTP",
            ABOUT.replace(b"10.0.0.1:", b"[fd00::1]:"),
            Result(outcome="ok", rtt_ms=2, server="shop/web-0", source="fd00::1"),
            id="ipv6",
        ),
        pytest.param("HTTP", b"<html>hello</html>", Result(outcome="ok", rtt_ms=2), id="somebody-elses-page"),
        pytest.param("HTTP", b'{"status": "up"}', Result(outcome="ok", rtt_ms=2), id="somebody-elses-json"),
        pytest.param("HTTP", b'{"pod": "web', Result(outcome="ok", rtt_ms=2), id="half-a-json"),
        pytest.param("HTTP", b"", Result(outcome="ok", rtt_ms=2), id="empty"),
    ],
)
def test_curl_answered(protocol: FlowProtocol, body: bytes, result: Result) -> None:
    assert curled(protocol, 0, "200 0.001000 0.002000", body=body) == replace(result, status=200)


def test_curl_says_where_a_redirect_leads() -> None:
    result = curled("HTTP", 0, "308 0.001000 0.002000 https://shop.example/")
    assert (result.outcome, result.status, result.location) == ("ok", 308, "https://shop.example/")


@pytest.mark.parametrize(
    ("protocol", "status", "outcome", "reason"),
    [
        pytest.param("HTTP", "302", "ok", "HTTP 302", id="redirect"),
        pytest.param("HTTP", "404", "refused", "HTTP 404", id="not-found"),
        pytest.param("HTTP", "503", "refused", "HTTP 503", id="no-backend"),
        pytest.param("TCP", "503", "ok", "HTTP 503", id="tcp-does-not-care"),
    ],
)
def test_status(protocol: FlowProtocol, status: str, outcome: str, reason: str) -> None:
    result = curled(protocol, 0, f"{status} 0.001000 0.002000")
    assert (result.outcome, result.reason) == (outcome, reason)


NOTHING = "000 0.000000 0.000312"
FAILED = "Failed to connect to 10.0.0.2 port 80 after 0 ms: Couldn't connect to server"


@pytest.mark.parametrize(
    ("verbose", "outcome", "reason"),
    [
        pytest.param(
            "* connect to 10.0.0.2 port 80 failed: Connection refused", "refused", "connection refused", id="rst"
        ),
        pytest.param(
            "* connect to 10.0.0.2 port 80 from 10.0.0.1 port 41234 failed: Connection refused",
            "refused",
            "connection refused",
            id="rst-curl-8",
        ),
        pytest.param(
            "* connect to fd00::2 port 80 failed: Permission denied",
            "refused",
            "administratively prohibited (ICMP)",
            id="prohibited",
        ),
        pytest.param(
            "* connect to 10.0.0.2 port 80 failed: No route to host", "refused", "host unreachable (ICMP)", id="host"
        ),
        pytest.param(
            "* connect to 10.0.0.2 port 80 failed: Network is unreachable",
            "refused",
            "network unreachable (ICMP)",
            id="net",
        ),
        pytest.param(
            "* Immediate connect fail for 10.0.0.2: Network is unreachable",
            "error",
            "no route from shop/api to 10.0.0.2",
            id="no-route",
        ),
        pytest.param(
            "* Immediate connect fail for fd00::2: Network is unreachable",
            "error",
            "no route from shop/api to 10.0.0.2",
            id="no-route-ipv6",
        ),
        pytest.param(
            "* Immediate connect fail for 10.0.0.2: Permission denied",
            "error",
            "cannot send to 10.0.0.2: Permission denied",
            id="prohibit-route",
        ),
        pytest.param("* in words of its own", "error", FAILED, id="unparsable"),
        pytest.param("< connect to fool: Connection refused", "error", FAILED, id="a-header-is-not-curls-word"),
    ],
)
def test_curl_not_connected(verbose: str, outcome: str, reason: str) -> None:
    result = curled("TCP", 7, NOTHING, verbose=verbose, message=FAILED)
    assert (result.outcome, result.reason) == (outcome, reason)


def test_a_missing_mac_address_is_silence() -> None:
    verbose = "* connect to 10.0.0.2 port 80 failed: No route to host"
    result = curled("TCP", 7, "000 0.000000 3.066121", verbose=verbose, message=FAILED)
    assert result.outcome == "timeout"


@pytest.mark.parametrize(
    ("protocol", "code", "report", "message", "outcome", "reason"),
    [
        pytest.param(
            "TCP", 28, "000 0.000000 1.001", "Connection timed out", "timeout", "no answer within 1 s", id="t"
        ),
        pytest.param(
            "HTTP",
            28,
            "000 0.000100 1.001",
            "Operation timed out",
            "timeout",
            "connected, but no answer within 1 s",
            id="connected-then-silence",
        ),
        pytest.param(
            "TCP",
            28,
            "000 0.000100 1.001",
            "Operation timed out",
            "ok",
            "connected; the server speaks no HTTP",
            id="connected-is-enough-for-tcp",
        ),
        pytest.param(
            "HTTP", 52, "000 0.000100 0.001", "Empty reply from server", "error", "Empty reply from server", id="empty"
        ),
        pytest.param(
            "HTTP",
            56,
            "000 0.000100 0.001",
            "Recv failure: Connection reset by peer",
            "refused",
            "connection reset",
            id="reset",
        ),
        pytest.param(
            "HTTP", 6, NOTHING, "Could not resolve host: x.y", "error", "Could not resolve host: x.y", id="no-name"
        ),
        pytest.param(
            "TCP",
            28,
            NOTHING,
            "Resolving timed out after 1000 milliseconds",
            "error",
            "Resolving timed out after 1000 milliseconds",
            id="no-dns-server",
        ),
    ],
)
def test_curl_failed(protocol: FlowProtocol, code: int, report: str, message: str, outcome: str, reason: str) -> None:
    result = curled(protocol, code, report, message=message)
    assert (result.outcome, result.reason) == (outcome, reason)


def test_curl_without_a_report_is_an_error() -> None:
    result = read_curl(flow("HTTP"), Completed(2, b"", b"curl: option --path-as-is: is unknown\n"), 1.0)
    assert result == Result(outcome="error", reason="curl: option --path-as-is: is unknown")


def test_curl_killed_is_an_error() -> None:
    result = read_curl(flow("HTTP"), Completed(-9, b"", b"\n@ 000 0.0 0.0\n"), 1.0)
    assert result.outcome == "error"


@pytest.mark.parametrize(
    ("one", "url", "host"),
    [
        pytest.param(flow("TCP"), "http://10.0.0.2:80/", None, id="ipv4"),
        pytest.param(flow("HTTP", "fd00::2", path="/a?b=[1]"), "http://[fd00::2]:80/a?b=[1]", None, id="ipv6"),
        pytest.param(flow("HTTP", host="shop.example"), "http://10.0.0.2:80/", "Host: shop.example", id="host"),
        pytest.param(flow("HTTP", "web.shop", host="web.shop"), "http://web.shop:80/", None, id="name"),
    ],
)
def test_curl_argv(one: Flow, url: str, host: str | None) -> None:
    argv = curl_argv(one, 0.25)
    assert argv[:2] == ["curl", "-q"]  # -q counts only as the first one
    assert argv[-1] == url
    assert argv[argv.index("-m") + 1] == "0.25"
    assert (argv[argv.index("-H") + 1] if "-H" in argv else None) == host


@pytest.mark.parametrize(
    ("one", "words"),
    [
        pytest.param(
            flow("HTTP", host="shop.example"),
            ["-k", "--resolve", "shop.example:80:10.0.0.2", "--", "https://shop.example:80/"],
            id="by name at an address",
        ),
        pytest.param(
            flow("HTTP", "fd00::2", host="shop.example"),
            ["-k", "--resolve", "shop.example:80:[fd00::2]", "--", "https://shop.example:80/"],
            id="ipv6",
        ),
        pytest.param(flow("HTTP", "x.com", host="x.com"), ["-k", "--", "https://x.com:80/"], id="by name"),
        pytest.param(flow("HTTP", "fd00::2"), ["-k", "--", "https://[fd00::2]:80/"], id="by address"),
    ],
)
def test_curl_argv_of_https(one: Flow, words: list[str]) -> None:
    argv = curl_argv(replace(one, tls=True), 1.0)
    assert argv[-len(words) :] == words
    assert not any(word.startswith("Host:") for word in argv)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param("GET", [], id="GET"),
        pytest.param("POST", ["-X", "POST"], id="POST"),
        pytest.param("HEAD", ["-I"], id="HEAD: no body is waited for"),
    ],
)
def test_curl_argv_of_a_method_and_headers(method: str, words: list[str]) -> None:
    one = replace(flow("HTTP"), method=method, headers=(("x-a", "1"), ("x-b", "2")))
    argv = curl_argv(one, 1.0)
    expected = ["-H", "x-a: 1", "-H", "x-b: 2", *words, "--", "http://10.0.0.2:80/"]
    assert argv[-len(expected) :] == expected
