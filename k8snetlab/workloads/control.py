"""The control socket of the lab's own servers: a JSON line for a request, a JSON line for its answer.

Part of every server's start, so it imports as little as possible.
"""

from __future__ import annotations

import json
import os
import socket

from k8snetlab.workloads.loop import Handler, Loop, Stream

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Answerer = Callable[[dict[str, Any]], dict[str, Any]]

REQUEST_LIMIT = 64 * 1024 * 1024


class Control(Stream):
    """One connection of the lab's own commands."""

    __slots__ = ("answer", "scanned")

    def __init__(self, loop: Loop, sock: socket.socket, answer: Answerer) -> None:
        self.answer = answer
        self.scanned = 0  # how much of the buffer is known to hold no newline
        super().__init__(loop, sock)

    def advance(self) -> bool:
        end = self.buffer.find(b"\n", self.scanned)
        if end < 0:
            self.scanned = len(self.buffer)
            self.last = self.scanned > REQUEST_LIMIT
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        self.scanned = 0
        self.out += json.dumps(self._answer(line)).encode() + b"\n"
        return True

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return self.answer(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            return {"errors": [], "refused": repr(problem)}


class ControlAcceptor(Handler):
    __slots__ = ("answer", "loop")

    def __init__(self, loop: Loop, path: str, answer: Answerer) -> None:
        self.loop, self.answer = loop, answer
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101
        self.sock.listen(64)

    def ready(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        Control(self.loop, sock, self.answer)
