"""The lab's one server: it stands in for the containers of every pod, in one process with one epoll loop.

A socket stays in the network namespace it was made in, so this process enters a pod's namespace only to listen there
and then goes home. It answers like `netexec` of Kubernetes' agnhost image: HTTP on TCP (and SCTP), words on UDP; `/`
says in JSON who answered and whom the server saw.

Run by its path, `python3 -I -S podserver.py --control PATH`, or with a fixed set from `--config FILE` (`-`: standard
input). It imports nothing of the package but its neighbours and little of the standard library, since its start is part
of every `up`. On the control socket, JSON lines each way:

    {"set": [{"netns", "pod", "node", "hostname", "listeners": [["TCP", 80], …]}, …]}   adds or replaces
         or {"netns", "pod", "service": "ns/name", "local_endpoints", "listeners"} for the health check of a Service
    {"remove": [[netns, pod], …]}                           answer to both: {"errors": […]}
    {"announce": [{"netns", "link", "address"}, …]}         answers ARP or neighbour solicitations for the address
    {"withdraw": [{"netns", "link", "address"}, …]}         no more; answer to both: {"errors": […]}
    {"list": true}                          answer: {"servers": […], "announcements": […]}, the same shapes: what is now

An entry of `errors` is `{"netns", "pod", "protocol", "port", "error"}`, `error` an errno name such as EADDRINUSE.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import sys

if __name__ == "__main__":  # -I leaves the package's folder off the path
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from k8snetlab.workloads.control import ControlAcceptor
from k8snetlab.workloads.healthcheck import HealthCheck
from k8snetlab.workloads.listeners import Listener, Server, inode_of, setns
from k8snetlab.workloads.loop import Loop
from k8snetlab.workloads.netexec import Identity
from k8snetlab.workloads.speaker import Speakers

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

SPARE_FDS = 64  # kept free of listeners, so that connections can always be accepted


class Pods:
    """Every pod that is stood in for. `directory` and `prefix` say where the namespaces' files are."""

    def __init__(self, loop: Loop, directory: str, prefix: str) -> None:
        self.loop = loop
        self.where = f"{directory}/{prefix}"
        self.servers: dict[tuple[str, str], Server] = {}
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FDS

    def set(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make these pods listen on exactly what is said; a listener that is there already stays as it is.

        What is no longer wanted closes first in all of them: a port can pass from one pod of a node to another. Raises
        ValueError, before anything is changed, for an entry that makes no sense.
        """
        wanted = [[_listener(*each) for each in entry["listeners"]] for entry in entries]
        for entry, listeners in zip(entries, wanted, strict=True):
            if server := self.servers.get((_file_name(entry["netns"]), entry["pod"])):
                for gone in [each for each in server.open if each not in listeners]:
                    server.close(self.loop, gone)
        errors: list[dict[str, Any]] = []
        try:
            for entry in entries:
                errors += self._set(entry)
        finally:
            setns(self.home)
        return errors

    def _set(self, entry: dict[str, Any]) -> list[dict[str, Any]]:
        netns, pod = entry["netns"], entry["pod"]
        wanted: list[Listener] = [(protocol, port) for protocol, port in entry["listeners"]]
        try:
            fd = os.open(self.where + netns, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            return [_error(netns, pod, listener, problem) for listener in wanted]
        try:
            server = self._server(netns, pod, os.fstat(fd).st_ino, _identity(entry))
            missing = [listener for listener in wanted if listener not in server.open]
            if missing:
                setns(fd)
            return [error for listener in missing if (error := self._listen(server, pod, listener))]
        finally:
            os.close(fd)

    def _server(self, netns: str, pod: str, inode: int, identity: Identity | HealthCheck) -> Server:
        server = self.servers.get((netns, pod))
        if server is not None and server.inode != inode:  # made anew: these sockets are in the old one
            self._close(server)
            server = None
        if server is None:
            server = self.servers[netns, pod] = Server(netns, inode, identity)
        if isinstance(server.identity, HealthCheck) and isinstance(identity, HealthCheck):
            server.identity.local_endpoints = identity.local_endpoints  # a balancer may keep its connection
        else:
            server.identity = identity
        return server

    def _listen(self, server: Server, pod: str, listener: Listener) -> dict[str, Any] | None:
        try:
            if len(self.loop.handlers) >= self.most:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            server.listen(self.loop, *listener)
        except OSError as problem:
            return _error(server.netns, pod, listener, problem)
        return None

    def remove(self, keys: list[list[str]]) -> None:
        for netns, pod in keys:
            server = self.servers.pop((netns, pod), None)
            if server is not None:
                self._close(server)

    def _close(self, server: Server) -> None:
        for listener in list(server.open):
            server.close(self.loop, listener)

    def list(self) -> list[dict[str, Any]]:
        return [
            {
                "netns": server.netns,
                "pod": pod,
                **_described(server.identity),
                "listeners": [list(listener) for listener in server.open],
            }
            for (_, pod), server in self.servers.items()
            if server.open and inode_of(self.where + server.netns) == server.inode
        ]


def answer(pods: Pods, speakers: Speakers, request: dict[str, Any]) -> dict[str, Any]:
    """What a line on the control socket asks for."""
    if "list" in request:
        return {"servers": pods.list(), "announcements": speakers.list()}
    pods.remove(request.get("remove", []))
    speakers.withdraw(request.get("withdraw", []))
    errors = pods.set(request.get("set", []))
    return {"errors": errors + speakers.announce(request.get("announce", []))}


def _listener(protocol: str, port: int) -> Listener:
    if protocol not in ("TCP", "UDP", "SCTP") or type(port) is not int or not 0 < port < 65536:
        raise ValueError(f"no such listener: {protocol!r} {port!r}")
    return protocol, port


def _identity(entry: dict[str, Any]) -> Identity | HealthCheck:
    if "service" in entry:
        return HealthCheck(entry["service"], entry["local_endpoints"])
    return Identity(entry["pod"], entry["node"], entry["hostname"])


def _described(identity: Identity | HealthCheck) -> dict[str, Any]:
    if isinstance(identity, HealthCheck):
        return {"service": identity.service, "local_endpoints": identity.local_endpoints}
    return {"node": identity.node, "hostname": identity.hostname}


def _file_name(netns: str) -> str:
    if not netns or "/" in netns or "\0" in netns:
        raise ValueError(f"no name of a namespace: {netns!r}")
    return netns


def _error(netns: str, pod: str, listener: Listener, problem: OSError) -> dict[str, Any]:
    name = errno.errorcode.get(problem.errno or 0, str(problem))
    return {"netns": netns, "pod": pod, "protocol": listener[0], "port": listener[1], "error": name}


def _options(words: list[str]) -> dict[str, str]:
    """`--name value` pairs; argparse would cost 10 ms of start-up."""
    names = ("--control", "--config", "--netns-dir", "--prefix")
    found = dict(zip(words[::2], words[1::2], strict=False))
    if len(words) % 2 or not found.keys() <= set(names) or not {"--control", "--config"} & found.keys():
        sys.exit(f"usage: podserver.py (--control PATH | --config FILE) [{names[2]} DIR] [{names[3]} TEXT]")
    return found


def main() -> None:
    options = _options(sys.argv[1:])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = Loop()
    pods = Pods(loop, options.get("--netns-dir", "/run/netns"), options.get("--prefix", ""))
    speakers = Speakers(loop, pods.where, pods.home)
    if "--config" in options:
        path = options["--config"]
        with open(0 if path == "-" else path, encoding="utf-8") as file:  # noqa: PTH123
            wanted = json.load(file)
            for error in pods.set(wanted["set"]) + speakers.announce(wanted.get("announce", [])):
                print(json.dumps(error), file=sys.stderr)
    if "--control" in options:
        loop.watch(ControlAcceptor(loop, options["--control"], lambda request: answer(pods, speakers, request)))
    loop.run()


if __name__ == "__main__":
    main()
