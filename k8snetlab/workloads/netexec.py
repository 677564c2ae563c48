"""What a stand-in says: the answers of `netexec` in Kubernetes' agnhost image, and in JSON who answered whom.

Pure: from a request's words to an answer. Nothing a client sends is ever executed. Part of the pod server, so it
imports as little as possible.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

BIG_LIMIT = 64 * 1024 * 1024
# netexec can run commands, dial, take uploads and exit on request; a stand-in for somebody's pod must not.
FORBIDDEN = {"/shell", "/dial", "/upload", "/exit"}
HEX_DIGITS = b"0123456789abcdefABCDEF"
REDIRECTS = ("301", "302", "303", "307", "308")


def endpoint(address: tuple[Any, ...]) -> str:
    """`ip:port`, an IPv6 address in brackets; a dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d."""
    host = str(address[0]).removeprefix("::ffff:").partition("%")[0]
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


def unquote(text: str) -> str:
    """Percent-decoding of a query value, as UTF-8; what is not valid is left as it is."""
    first, *parts = text.replace("+", " ").encode("latin-1").split(b"%")
    raw = bytearray(first)
    for part in parts:
        digits = part[:2]
        if len(digits) == 2 and not digits.strip(HEX_DIGITS):
            raw += bytes.fromhex(digits.decode("ascii")) + part[2:]
        else:
            raw += b"%" + part
    return raw.decode("utf-8", "replace")


class Request:
    """The head of one HTTP/1 request; raises ValueError for what is not one."""

    __slots__ = ("headers", "method", "path", "query", "version")

    def __init__(self, head: str) -> None:
        first, *lines = head.replace("\r\n", "\n").split("\n")
        self.method, target, self.version = first.split(" ")
        path, _, self.query = target.partition("?")
        self.path = path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]
        self.headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                raise ValueError(line)
            key = name.lower()
            # Joining repeated fields makes two Content-Length an invalid one (RFC 9112, 6.3).
            self.headers[key] = f"{self.headers[key]}, {value.strip()}" if key in self.headers else value.strip()

    def value(self, name: str) -> str:
        for pair in self.query.split("&"):
            key, _, value = pair.partition("=")
            if key == name:
                return unquote(value)
        return ""

    def keep_alive(self) -> bool:
        tokens = {token.strip() for token in self.headers.get("connection", "").lower().split(",")}
        return "close" not in tokens and (self.version == "HTTP/1.1" or "keep-alive" in tokens)

    def body(self) -> int | None:
        """Length of the body to skip, None for a chunked one; raises ValueError when the head contradicts itself."""
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length", "0")
        if coding is not None:
            if coding.lower() != "chunked" or "content-length" in self.headers:
                raise ValueError(coding)
            return None
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise ValueError(length)
        return int(length)


class Identity:
    """Whose stand-in answers: `pod` is `ns/name`."""

    __slots__ = ("hostname", "node", "pod")

    def __init__(self, pod: str, node: str, hostname: str) -> None:
        self.pod, self.node, self.hostname = pod, node, hostname

    def respond(self, request: Request, own: str, client: str, protocol: str) -> tuple[int, str, str, int]:
        return respond(request, self, own, client, protocol)

    def describe(self, own: str, client: str, protocol: str, method: str = "", path: str = "", host: str = "") -> str:
        """The JSON line: who answers, at which address, and the client's address as it arrived."""
        namespace, _, name = self.pod.rpartition("/")
        about = {"pod": name, "namespace": namespace, "node": self.node, "hostname": self.hostname, "server": own}
        about |= {"client": client, "protocol": protocol, "method": method, "path": path, "host": host}
        return json.dumps(about) + "\n"


def respond(request: Request, who: Identity, own: str, client: str, protocol: str) -> tuple[int, str, str, int]:
    """Status, body, extra header and how many filler bytes follow instead of a body."""
    match request.path:
        case "/hostname" | "/hostName":
            return 200, who.hostname, "", 0
        case "/clientip":
            return 200, client, "", 0
        case "/echo":
            return 200, request.value("msg"), "", 0
        case "/healthz" | "/readyz" | "/livez":
            return 200, "", "", 0
        case "/header":
            return 200, request.headers.get(request.value("key").lower(), ""), "", 0
        case "/big":
            size = request.value("bytes")
            return 200, "", "", min(int(size), BIG_LIMIT) if size.isascii() and size.isdigit() and len(size) < 19 else 0
        case "/redirect":
            code = request.value("code") or "302"
            place = (request.value("location") or "/").replace("\r", "").replace("\n", "")
            if code not in REDIRECTS:
                return 400, "no such redirect\n", "", 0
            return int(code), "", f"Location: {place}\r\n", 0
        case path if path in FORBIDDEN:
            return 403, "not in a lab\n", "", 0
        case path:
            host = request.headers.get("host", "")
            return 200, who.describe(own, client, protocol, request.method, path, host), "", 0


def answer_datagram(payload: bytes, who: Identity, own: str, client: str) -> bytes | None:
    """The answer to one datagram; None for another stand-in's own answer, which a forged source address can turn into
    a question: two servers would then answer each other for ever."""
    if payload.startswith(b'{"pod"'):
        return None
    words = payload.strip()
    if words == b"hostname":
        return who.hostname.encode()
    if words == b"clientip":
        return client.encode()
    if words[:5] == b"echo ":
        return words[5:]
    return who.describe(own, client, "UDP").encode()
