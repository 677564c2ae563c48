"""Talk to a server of the lab over its control socket: one JSON line for a request, one for its answer."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping, Sequence
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
