"""HTTP/1.1 over a connected socket: keep-alive, pipelining, bodies skipped, and no input that can stop the server."""

from __future__ import annotations

import socket

from k8snetlab.workloads.loop import Loop, Stream
from k8snetlab.workloads.netexec import HEX_DIGITS, Identity, Request, endpoint

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from k8snetlab.workloads.healthcheck import HealthCheck

HEAD_LIMIT = 64 * 1024
LINE_LIMIT = 4096
METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT ")
REASONS = {
    200: "OK", 301: "Moved Permanently", 302: "Found", 303: "See Other", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 403: "Forbidden", 431: "Request Header Fields Too Large",
    503: "Service Unavailable", 505: "HTTP Version Not Supported",
}  # fmt: skip
READ_HEAD, SKIP_BODY, READ_CHUNK, READ_TRAILER = range(4)


class Conversation(Stream):
    """HTTP/1 with one client of one pod. Bytes that are no HTTP get the JSON line, and that is all."""

    __slots__ = ("client", "left", "own", "protocol", "request", "step", "who")

    def __init__(self, loop: Loop, sock: socket.socket, who: Identity | HealthCheck, protocol: str) -> None:
        self.who, self.protocol = who, protocol
        self.step = READ_HEAD
        self.client, self.own = endpoint(sock.getpeername()), endpoint(sock.getsockname())
        self.left = 0
        self.request: Request | None = None
        super().__init__(loop, sock)
        loop.touch(self)

    def advance(self) -> bool:
        if self.step == READ_HEAD:
            return self._read_head()
        if self.step == SKIP_BODY:
            return self._skip_body()
        return self._read_line()

    def _read_head(self) -> bool:
        if self.request is not None and self.buffer.startswith((b"\r\n", b"\n")):
            # Old clients end a body with one more line end than they have counted (RFC 9112, 2.2).
            del self.buffer[: self.buffer.index(b"\n") + 1]
            return True
        start = bytes(self.buffer[:8])
        if start == b"\r" and self.request is not None:
            return False
        if not start:
            return False
        incomplete = self.eof and b"\n" not in self.buffer
        if incomplete or not any(start[: len(method)] == method[: len(start)] for method in METHODS):
            self.out += self.who.describe(self.own, self.client, self.protocol).encode()
            self.last = True
            return False
        ends = [(at, len(end)) for end in (b"\r\n\r\n", b"\n\n") if (at := self.buffer.find(end)) >= 0]
        at, size = min(ends) if ends else (len(self.buffer), 0)
        if at > HEAD_LIMIT:
            return self._refuse(431)
        if not ends:
            return False
        head = self.buffer[:at].decode("latin-1")
        del self.buffer[: at + size]
        return self._begin(head)

    def _begin(self, head: str) -> bool:
        try:
            self.request = request = Request(head)
            length = request.body()
        except ValueError:
            return self._refuse(400)
        if request.version not in ("HTTP/1.1", "HTTP/1.0"):
            return self._refuse(505)
        if request.headers.get("expect", "").lower() == "100-continue" and length != 0:
            self.out += b"HTTP/1.1 100 Continue\r\n\r\n"
        self.step, self.left = (READ_CHUNK, 0) if length is None else (SKIP_BODY, length)
        return self._skip_body() if length == 0 else True

    def _skip_body(self) -> bool:
        """A body, or one chunk of it; `left` counts the bytes still to come."""
        taken = min(self.left, len(self.buffer))
        del self.buffer[:taken]
        self.left -= taken
        if self.left:
            if taken:
                self.loop.touch(self)
            return False
        if self.request is not None and self.request.body() is None:
            self.step = READ_CHUNK
        else:
            self._answer()
        return True

    def _read_line(self) -> bool:
        """A chunk's size line, or a line of the trailer that ends a chunked body."""
        end = self.buffer.find(b"\n")
        if end < 0:
            return self._refuse(400) if len(self.buffer) > LINE_LIMIT else False
        line = bytes(self.buffer[:end]).strip()
        del self.buffer[: end + 1]
        if self.step == READ_TRAILER:
            if not line:
                self._answer()
            return True
        size = line.partition(b";")[0].strip()
        if not size or len(size) > 15 or size.strip(HEX_DIGITS):
            return self._refuse(400)
        self.left = int(size, 16) + 2  # the CRLF after the data
        self.step = READ_TRAILER if self.left == 2 else SKIP_BODY
        return True

    def _answer(self) -> None:
        request = self.request
        assert request is not None
        self.step = READ_HEAD
        found = self.who.respond(request, self.own, self.client, self.protocol)
        self._send(*found, head_only=request.method == "HEAD", close=not request.keep_alive())

    def _refuse(self, status: int) -> bool:
        self._send(status, REASONS[status] + "\n", "", 0, head_only=False, close=True)
        return False

    def _send(self, status: int, text: str, header: str, filler: int, *, head_only: bool, close: bool) -> None:
        body = text.encode("utf-8", "replace")
        kind = "application/json" if body.startswith((b'{"pod"', b'{\n\t"service"')) else "text/plain; charset=utf-8"
        ending = "Connection: close\r\n" if close else ""
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\n{header}{ending}"
        self.out += f"{head}Content-Length: {len(body) + filler}\r\n\r\n".encode("latin-1", "replace")
        if not head_only:
            self.out += body
            self.filler = filler
        self.last = close
        self.loop.touch(self)
