"""Talk to a server of the lab over its control socket: one JSON line for a request, one for its answer; or by HTTP."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from k8snetlab.errors import KernelError

_RETRY_SECONDS = 0.003


def ask(path: str, requests: Sequence[Mapping[str, object]], *, pidfd: int, timeout: float = 10.0) -> list[Any]:
    """Send the requests to the server that listens at `path` and return its answers, in order.

    `pidfd` is the server's. One that has only just been started is waited for. Raises KernelError when the server dies
    or does not answer within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    try:
        with _connect(path, pidfd, deadline) as connection:
            connection.settimeout(max(deadline - time.monotonic(), 0.1))
            connection.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
            with connection.makefile("rb") as lines:
                answers = [lines.readline() for _ in requests]
    except OSError as error:
        raise KernelError("ask", subject=path, reason=str(error)) from error
    if not all(answers):
        raise KernelError("ask", subject=path, reason="the server closed the connection without an answer")
    return [json.loads(answer) for answer in answers]


def wait_for_http(
    path: str,
    target: str,
    *,
    pidfd: int,
    timeout: float,
    condition: Callable[[str], bool] = lambda _body: True,
    words: Callable[[], str] = lambda: "",
) -> str:
    """The body of the answer 200 to a GET on a Unix socket, asked again until there is one that meets the condition.

    Raises KernelError when the server, whose `pidfd` is given, dies or time is up; `words` says what it had to say.
    """
    deadline = time.monotonic() + timeout
    death = select.poll()
    death.register(pidfd, select.POLLIN)
    request = f"GET {target} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n".encode()
    while True:
        try:
            with _connect(path, pidfd, deadline) as connection:
                connection.settimeout(max(deadline - time.monotonic(), 0.1))
                connection.sendall(request)
                with connection.makefile("rb") as answer:
                    head, _, body = answer.read().partition(b"\r\n\r\n")
        except (OSError, KernelError) as error:
            reason = error.reason if isinstance(error, KernelError) else str(error)
            raise KernelError("ask", subject=path, reason=reason, hint=words()) from error
        text = (
            _unchunked(body).decode(errors="replace") if b"chunked" in head.lower() else body.decode(errors="replace")
        )
        if head.startswith(b"HTTP/1.1 200") and condition(text):
            return text
        if time.monotonic() > deadline:
            raise KernelError("ask", subject=path, reason=f"{target} is not as wanted in time", hint=words())
        if death.poll(_RETRY_SECONDS * 1000):
            raise KernelError("ask", subject=path, reason="the server has died", hint=words())


def _unchunked(body: bytes) -> bytes:
    """RFC 9112, 7.1: chunks, each after a line with its length in hexadecimal digits."""
    found = bytearray()
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line.partition(b";")[0] or b"0", 16)
        found += body[:size]
        body = body[size + 2 :]
        if not size:
            break
    return bytes(found)


def _connect(path: str, pidfd: int, deadline: float) -> socket.socket:
    """A server being started has no socket yet: try again until it has, it dies, or time is up."""
    death = select.poll()
    death.register(pidfd, select.POLLIN)
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if death.poll(_RETRY_SECONDS * 1000):
                raise KernelError("ask", subject=path, reason="the server has died") from None
            if time.monotonic() > deadline:
                raise
        else:
            return connection
