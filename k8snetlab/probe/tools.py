"""The real `ping` and `curl`, run in the sender's namespace, and what their output means."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Final

from k8snetlab.flows.model import Flow, Result
from k8snetlab.kernel import processes
from k8snetlab.kernel.processes import Completed
from k8snetlab.probe.answers import answered, negative, not_sent, silence
from k8snetlab.probe.engine import Attempt, Waiting

# Both keep to their own timeout; one that has not ended so much later hangs, or the host is overloaded.
GRACE: Final = 5.0
BODY_LIMIT: Final = 1 << 20

# What `curl -v` says of connect(2): since 7.x in one form, since 8.x with "from ADDRESS port N" in it.
_CONNECT = re.compile(
    rb"^\* +(?P<local>Immediate connect fail for|connect to) .*: (?P<text>[^:\n]+?)\r?$", re.MULTILINE
)
_REPORT = re.compile(rb"^@ (?P<code>\d{3}) (?P<connect>[\d.]+) (?P<total>[\d.]+)(?: (?P<location>\S*))?$", re.MULTILINE)
_CURL_MESSAGE = re.compile(rb"^curl: \(\d+\) (.*)$", re.MULTILINE)
_RTT = re.compile(rb"time[=<]([\d.]+) ?ms")
_PING_NEGATIVE = re.compile(rb"^From (?P<who>\S+?):? icmp_seq=\d+ (?!Redirect)(?P<text>.+?)\r?$", re.MULTILINE)
_PING_LOCAL = re.compile(rb"^ping: (?:connect|sendmsg|sendto): (?P<text>.+)$", re.MULTILINE)
_NUMBERS: Final = {os.strerror(number): number for number in errno.errorcode}
# Their messages are read, so they have to be English.
_LANGUAGE: Final = {"LC_ALL": "C"}

# curl's exit codes.
_NOT_RESOLVED, _NOT_CONNECTED, _TIMED_OUT, _TOO_BIG = 6, 7, 28, 63
_RESET = (55, 56)
_SYN_SECONDS = 1.5  # TCP_TIMEOUT_INIT is 1 s


def ping(flow: Flow, netns: str, timeout: float) -> Attempt:
    """One echo request. `netns` empty: where this process is."""
    done, elapsed = yield from _run(ping_argv(flow, timeout), netns, timeout)
    return read_ping(flow, done, elapsed, timeout) if done else _stuck("ping", timeout)


def ping_argv(flow: Flow, timeout: float) -> list[str]:
    """How ping is called; a packet of a given size must get through in one piece (`-M do`)."""
    headers = 48 if ":" in flow.address else 28  # of IP and ICMP
    whole = ["-M", "do", "-s", str(flow.size - headers)] if flow.size else []
    return ["ping", "-n", "-c", "1", "-W", f"{timeout:g}", *whole, flow.address]


def curl(flow: Flow, netns: str, timeout: float) -> Attempt:
    """One GET, for TCP too: the lab's servers answer HTTP on every port, and another's still shows that it connects."""
    # An ICMP error that comes while connect(2) still holds the socket is only noted (tcp_v4_err, tcp_v6_err), as it may
    # be over veth; the one to the retransmitted SYN, a second later, ends the attempt.
    timeout = max(timeout, _SYN_SECONDS)
    done, _ = yield from _run(curl_argv(flow, timeout), netns, timeout)
    return read_curl(flow, done, timeout) if done else _stuck("curl", timeout)


def curl_argv(flow: Flow, timeout: float) -> list[str]:
    """How curl is called: its verbose output has the error of connect(2), which its own message leaves out.

    Nothing of the user's may matter: neither ~/.curlrc (-q) nor http_proxy. -g: brackets are of IPv6.
    """
    host = f"[{flow.address}]" if ":" in flow.address else flow.address
    options = ["-q", "-g", "-sS", "-v", "--noproxy", "*", "--path-as-is", "--max-filesize", str(BODY_LIMIT)]
    limits = ["-m", f"{timeout:g}", "-w", "%{stderr}\n@ %{http_code} %{time_connect} %{time_total} %{redirect_url}\n"]
    asked = [word for header in flow.headers for word in ("-H", ": ".join(header))]
    if flow.method != "GET":
        asked += ["-I"] if flow.method == "HEAD" else ["-X", flow.method]
    if flow.tls:
        # The name that is asked for in the handshake is the URL's; any certificate for it will do (-k).
        name = flow.host or flow.address
        asked += ["-k"] if name == flow.address else ["-k", "--resolve", f"{name}:{flow.port}:{host}"]
        url = host if name == flow.address else name
        return ["curl", *options, *limits, *asked, "--", f"https://{url}:{flow.port}{flow.path}"]
    if flow.host and flow.host != flow.address:
        asked += ["-H", f"Host: {flow.host}"]
    return ["curl", *options, *limits, *asked, "--", f"http://{host}:{flow.port}{flow.path}"]


def read_ping(flow: Flow, done: Completed, elapsed: float, timeout: float) -> Result:
    """Exit code 0: answered; 1: not answered, or by an ICMP error; 2: anything else."""
    if done.returncode == 0:
        rtt = _RTT.search(done.stdout)
        if rtt is None:
            return Result(outcome="error", reason="ping does not say how long it took")
        return answered(b"", float(rtt[1]))
    said = _PING_NEGATIVE.search(done.stdout)
    if done.returncode == 1 and said is not None:
        text = said["text"].decode(errors="replace")
        if text == "Destination Host Unreachable" or "Address unreachable" in text:
            return _host_unreachable(flow, text, said["who"].decode(errors="replace"), elapsed)
        return Result(outcome="refused", reason=f"{text} (ICMP from {said['who'].decode(errors='replace')})")
    local = _PING_LOCAL.search(done.stderr)
    if local is not None:
        text = local["text"].decode(errors="replace")
        return not_sent(flow, _NUMBERS.get(text, 0), text)
    if done.returncode == 1:
        return silence(timeout)
    return _failed("ping", done, done.stderr)


def _host_unreachable(flow: Flow, text: str, who: str, elapsed: float) -> Result:
    result = negative(flow, errno.EHOSTUNREACH, text, elapsed)
    return Result(outcome="refused", reason=f"{text} (ICMP from {who})") if result.outcome == "refused" else result


def read_curl(flow: Flow, done: Completed, timeout: float) -> Result:
    report = _REPORT.search(done.stderr)
    if report is None or done.returncode < 0:
        return _failed("curl", done, done.stderr)
    message = _CURL_MESSAGE.search(done.stderr)
    text = message[1].decode(errors="replace").strip() if message else f"curl exit code {done.returncode}"
    if done.returncode == _NOT_RESOLVED or (done.returncode == _TIMED_OUT and text.startswith("Resolving timed out")):
        return Result(outcome="error", reason=text)
    connected, total, status = float(report["connect"]), float(report["total"]), int(report["code"])
    if done.returncode == _NOT_CONNECTED:
        return _not_connected(flow, done, text, total)
    if done.returncode in (0, _TOO_BIG) and status:
        answer = _http_answer(flow, done.stdout, status, (connected if flow.protocol == "TCP" else total) * 1000)
        return replace(answer, status=status, location=(report["location"] or b"").decode(errors="replace"))
    if flow.protocol == "TCP" and connected > 0:
        return answered(b"", connected * 1000, "connected; the server speaks no HTTP")
    if done.returncode == _TIMED_OUT:
        if connected > 0:
            return Result(outcome="timeout", reason=f"connected, but no answer within {timeout:g} s")
        return silence(timeout)
    if done.returncode in _RESET and os.strerror(errno.ECONNRESET) in text:
        return Result(outcome="refused", reason="connection reset")
    return Result(outcome="error", reason=text)


def _not_connected(flow: Flow, done: Completed, text: str, elapsed: float) -> Result:
    """The last of them counts: with several addresses curl tries one after the other."""
    tried = list(_CONNECT.finditer(done.stderr))
    if not tried:
        return Result(outcome="error", reason=text)
    said = tried[-1]["text"].decode(errors="replace")
    number = _NUMBERS.get(said, 0)
    if tried[-1]["local"].startswith(b"Immediate"):
        return not_sent(flow, number, said)
    return negative(flow, number, said, elapsed)


def _http_answer(flow: Flow, body: bytes, status: int, rtt_ms: float) -> Result:
    """For HTTP a status from 400 on is a refusal (503: an ingress without backends); for TCP any answer will do."""
    if flow.protocol == "HTTP" and status >= 400:
        return Result(outcome="refused", rtt_ms=rtt_ms, reason=f"HTTP {status}")
    return answered(body, rtt_ms, "" if status < 300 else f"HTTP {status}")


def resolve(name: str, timeout: float) -> Generator[Waiting, bool, str]:
    """The first address of a name as the C library finds it where this process is, or "" when it finds none in time."""
    done, _ = yield from _run(["getent", "ahosts", name], "", timeout, grace=0.0)
    first = done.stdout.split(maxsplit=1) if done is not None and done.returncode == 0 else []
    return first[0].decode(errors="replace") if first else ""


def _run(
    argv: list[str], netns: str, timeout: float, grace: float = GRACE
) -> Generator[Waiting, bool, tuple[Completed | None, float]]:
    """Run a program to its end: how it ended, None when it had to be killed, and the seconds it took."""
    begin = time.monotonic()
    with processes.spawn(argv, netns, env={**os.environ, **_LANGUAGE}) as running:
        ended = yield Waiting(running.pidfd, begin + timeout + grace)
        return running.wait(0) if ended else None, time.monotonic() - begin


def _stuck(tool: str, timeout: float) -> Result:
    return Result(outcome="error", reason=f"{tool} has not ended after {timeout + GRACE:g} s")


def _failed(tool: str, done: Completed, said: bytes) -> Result:
    """It could not do its work; the last line it wrote says why."""
    if done.returncode < 0:
        return Result(outcome="error", reason=f"{tool} was killed by signal {-done.returncode}")
    lines = said.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return Result(outcome="error", reason=last or f"{tool} ended with exit code {done.returncode}")
