"""The lab's DNS server: one process that answers on port 53 of every DNS pod and of the lab's internet.

A socket stays in the network namespace it was made in, so this process enters a namespace only to listen there. What
it answers from is a *view*: names with their records; several servers may share one. Names that are in no zone of its
view a server asks its upstream for, from its own namespace.

Run by its path, `python3 -I -S dnsserver.py --control PATH`, or with a fixed set from `--config FILE` (`-`: standard
input), one request a line. It imports nothing of the package but its neighbours and little of the standard library,
since its start is part of every `up`. On the control socket, JSON lines each way:

    {"names": [[view, name, ["5 A 10.96.0.1", …]], …]}      sets the records of names
    {"forget": [[view, name], …]}                           a name is no more
    {"listen": [{"netns", "pod", "view", "upstreams", "echo_pods"}, …]}
    {"close": [[netns, pod], …]}                            answer to all: {"errors": […]}
    {"list": true}                                          answer: {"servers": […], "names": […]}, in the same shapes

An entry of `errors` is `{"netns", "pod", "error"}`, `error` an errno name such as EADDRINUSE.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import sys
from time import monotonic

if __name__ == "__main__":  # -I leaves the package's folder off the path
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from k8snetlab.workloads.control import ControlAcceptor
from k8snetlab.workloads.dnsanswer import REFUSED, TCP_SIZE, Query, View, find, read_query, reply
from k8snetlab.workloads.dnsforward import Forwarder
from k8snetlab.workloads.listeners import bound, setns
from k8snetlab.workloads.loop import Handler, Loop, Stream

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PORT = 53
BIGGEST_QUERY = 4096
MOST_CONNECTIONS = 512
MOST_CACHED = 4096  # replies; a flood of ever new questions about existing names must not fill the memory
BIGGEST_CACHED = 300  # bytes of a query
RECEIVE_BUFFER = 4 << 20  # of what arrives while Python is busy; the kernel's limit may be lower


class Server:
    """One place where it listens, with the replies given there before: all of a query but its number, to the same of
    its reply. `inode` tells its namespace from a later one of the same name."""

    __slots__ = ("cache", "echo_pods", "forwarder", "handlers", "inode", "netns", "pod", "upstreams", "view")

    def __init__(self, entry: dict[str, Any], view: View, inode: int) -> None:
        self.netns, self.pod, self.inode, self.view = entry["netns"], entry["pod"], inode, view
        self.upstreams, self.echo_pods = entry["upstreams"], entry["echo_pods"]
        self.cache: dict[bytes, bytes] = {}
        self.handlers: list[Handler] = []
        self.forwarder: Forwarder | None = None

    def answer(self, data: bytes, send: Callable[[bytes], None], size: int = 0) -> bool:
        """Answer one message: `send` is called once with the reply, now or later. False: it is never answered.

        `size` is the most that the transport carries; 0: what the query says, as over UDP.
        """
        query = read_query(data)
        if not isinstance(query, Query):
            if query is not None:
                send(query)
            return query is not None
        if size:
            query.size = size
        found = find(self.view, query.name, query.kind, echo_pods=self.echo_pods, turn=query.id)
        if found.outside:
            if self.forwarder is None:
                send(reply(query, REFUSED))
            else:
                self.forwarder.ask(query, found, send)
            return True
        soa = b"" if found.answers else self.view.zones.get(found.zone or b"", b"")
        message = reply(query, found.code, found, soa)
        # Several addresses take turns; a query with options (a cookie) is never asked again; what does not exist is
        # endless.
        if not size and not found.code and len(found.answers) < 2 and len(data) <= BIGGEST_CACHED:
            if len(self.cache) >= MOST_CACHED:
                self.cache.clear()
            self.cache[data[2:]] = message[2:]
        send(message)
        return True


class Datagrams(Handler):
    """Port 53 over UDP. The pod has one address a family, so the kernel answers from the one that was asked."""

    __slots__ = ("server",)

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sock = bound(socket.SOCK_DGRAM, 0, PORT)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def ready(self) -> None:
        receive, known = self.sock.recvfrom, self.server.cache.get
        for _ in range(64):
            try:
                data, client = receive(BIGGEST_QUERY)
            except OSError:  # nothing more, or an ICMP error about an earlier answer
                return
            tail = known(data[2:])
            if tail is not None:
                self._send(data[:2] + tail, client)
            else:
                self.server.answer(data, lambda message, client=client: self._send(message, client))  # type: ignore[misc]

    def _send(self, message: bytes, client: Any) -> None:
        try:
            self.sock.sendto(message, client)
        except OSError:  # no route, forbidden by a rule, closed meanwhile: a datagram may be lost
            return


class Connection(Stream):
    """DNS over TCP (RFC 7766): each message behind its length; one question at a time, the next when it is answered."""

    __slots__ = ("inside", "server", "waiting")

    def __init__(self, loop: Loop, sock: socket.socket, server: Server) -> None:
        self.server, self.waiting, self.inside = server, False, False
        super().__init__(loop, sock)
        loop.touch(self)

    def advance(self) -> bool:
        size = int.from_bytes(self.buffer[:2], "big")
        if self.waiting or len(self.buffer) < 2 or len(self.buffer) < 2 + size:
            self.last = len(self.buffer) > 2 * TCP_SIZE  # it sends on and on without waiting for the answer
            return False
        data = bytes(self.buffer[2 : 2 + size])
        del self.buffer[: 2 + size]
        self.waiting = self.inside = True
        self.last = not self.server.answer(data, self._send, TCP_SIZE)  # what is no query gets no second chance
        self.inside = False
        return not self.waiting

    def _send(self, message: bytes) -> None:
        self.waiting = False
        if self.sock.fileno() >= 0:  # it may have gone while another server was asked
            self.out += len(message).to_bytes(2, "big") + message
            if not self.inside:
                self.ready()


class Acceptor(Handler):
    """Port 53 over TCP."""

    __slots__ = ("loop", "server")

    def __init__(self, loop: Loop, server: Server) -> None:
        self.loop, self.server = loop, server
        self.sock = bound(socket.SOCK_STREAM, 0, PORT)
        self.sock.listen(256)

    def ready(self) -> None:
        for _ in range(64):
            try:
                sock, _address = self.sock.accept()
            except OSError as problem:
                if problem.errno in (errno.EMFILE, errno.ENFILE):
                    self.loop.drop_oldest()
                return
            if len(self.loop.handlers) > MOST_CONNECTIONS:
                self.loop.drop_oldest()
            Connection(self.loop, sock, self.server)


class Names:
    """All the views and servers. `directory` and `prefix` say where the namespaces' files are."""

    def __init__(self, loop: Loop, directory: str, prefix: str) -> None:
        self.loop = loop
        self.where = f"{directory}/{prefix}"
        self.views: dict[str, View] = {}
        self.servers: dict[tuple[str, str], Server] = {}
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def view(self, name: str) -> View:
        return self.views.setdefault(name, View())

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a line on the control socket asks for."""
        if "list" in request:
            listed = [[view, *each] for view, names in self.views.items() for each in names.list()]
            return {"servers": self._servers(), "names": listed}
        for view, name in request.get("forget", ()):
            self.view(view).remove(name)
        for view, name, records in request.get("names", ()):
            self.view(view).set(name, records)
        for server in self.servers.values():
            server.cache.clear()
        for netns, pod in request.get("close", ()):
            self._close((netns, pod))
        try:
            return {"errors": [error for entry in request.get("listen", ()) for error in self._listen(entry)]}
        finally:
            setns(self.home)

    def _listen(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        netns, pod = entry["netns"], entry["pod"]
        if not netns or "/" in netns or "\0" in netns:
            raise ValueError(f"no name of a namespace: {netns!r}")
        self._close((netns, pod))
        try:
            fd = os.open(self.where + netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            return [_error(netns, pod, problem)]
        try:
            setns(fd)
            server = self.servers[netns, pod] = Server(entry, self.view(entry["view"]), os.fstat(fd).st_ino)
            for make in (lambda: Datagrams(server), lambda: Acceptor(self.loop, server)):
                server.handlers.append(make())
            if server.upstreams:
                server.forwarder = Forwarder(server.upstreams[0])
                server.handlers.append(server.forwarder)
        except OSError as problem:
            self._close((netns, pod))
            return [_error(netns, pod, problem)]
        finally:
            os.close(fd)
        for handler in server.handlers:
            self.loop.watch(handler)
        return []

    def _close(self, key: tuple[str, str]) -> None:
        server = self.servers.pop(key, None)
        for handler in server.handlers if server else ():
            if isinstance(handler, Forwarder):
                handler.close(self.loop)
            else:
                self.loop.drop(handler)

    def _servers(self) -> list[dict[str, Any]]:
        names = {id(view): name for name, view in self.views.items()}
        return [
            {
                "netns": server.netns,
                "pod": server.pod,
                "view": names[id(server.view)],
                "upstreams": server.upstreams,
                "echo_pods": server.echo_pods,
            }
            for server in self.servers.values()
            if self._inode(server.netns) == server.inode
        ]

    def _inode(self, netns: str) -> int:
        try:
            return os.stat(self.where + netns).st_ino  # noqa: PTH116  (pathlib costs 10 ms of start-up)
        except FileNotFoundError:
            return 0

    def run(self) -> None:
        while True:
            asking = [server.forwarder for server in self.servers.values() if server.forwarder]
            waiting = any(forwarder.pending for forwarder in asking)
            self.loop.turn(0.25 if waiting else 15.0)
            for forwarder in asking if waiting else ():
                forwarder.expire(monotonic())


def _error(netns: str, pod: str, problem: OSError) -> dict[str, Any]:
    return {"netns": netns, "pod": pod, "error": errno.errorcode.get(problem.errno or 0, str(problem))}


def _options(words: list[str]) -> dict[str, str]:
    """`--name value` pairs; argparse would cost 10 ms of start-up."""
    names = ("--control", "--config", "--netns-dir", "--prefix")
    found = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or not found.keys() <= set(names) or not {"--control", "--config"} & found.keys():
        sys.exit(f"usage: dnsserver.py (--control PATH | --config FILE) [{names[2]} DIR] [{names[3]} TEXT]")
    return found


def main() -> None:
    options = _options(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = Loop()
    names = Names(loop, options.get("--netns-dir", "/run/netns"), options.get("--prefix", ""))
    if "--config" in options:
        path = options["--config"]
        with open(0 if path == "-" else path, encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                for error in names.answer(json.loads(line))["errors"]:
                    print(json.dumps(error), file=sys.stderr)
    if "--control" in options:
        loop.watch(ControlAcceptor(loop, options["--control"], names.answer))
    names.run()


if __name__ == "__main__":
    main()
