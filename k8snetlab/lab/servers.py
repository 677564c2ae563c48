"""The lab's own programs: the pod server, one process for all pods, the DNS server (`nameserver`), the files that
programs read (`files`), and the processes of `image: host/…` containers.

Everything here runs inside the lab. Each program has a file with its pid and start time in the lab's tmpfs; one that is
dead is simply missing from what is observed, so `up` starts it again. The file is written by the program's own process
before its exec, until when that process also holds the lab's lock (an inherited descriptor, closed by exec): whoever
owns the lock next finds each program that runs, also when the starter was killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from k8snetlab.errors import KernelError
from k8snetlab.kernel import processes
from k8snetlab.kernel.identity import Identity, assume
from k8snetlab.lab import daemon, files, gateway, nameserver
from k8snetlab.lab.daemon import Daemon
from k8snetlab.lab.holder import open_process, process_start
from k8snetlab.plan import podserver
from k8snetlab.plan.gateway.objects import is_proxy
from k8snetlab.plan.podserver import Served
from k8snetlab.plan.state import Announcement, DnsName, DnsServer, HealthCheck, KernelObject, PodServer, Process

POD_SERVER = Daemon("podserver", "the pod server")
_PROCESSES = daemon.STATE / "processes"


def start_servers(planned: Iterable[KernelObject]) -> None:
    """Start the lab's own servers that the objects need, without waiting for them: they start while others work."""
    kinds = {type(item) for item in planned}
    if kinds & {PodServer, HealthCheck, Announcement}:
        start_pod_server()
    if kinds & {DnsServer, DnsName}:
        nameserver.start_dns_server()


def start_pod_server() -> None:
    daemon.start(POD_SERVER)


def observe(planned: Iterable[KernelObject] = ()) -> frozenset[KernelObject]:
    """What the pod server really listens on and answers for, and the processes that live.

    A listener's place in its list means nothing; where the plan has the same listeners, they are put in its order.
    """
    return frozenset(
        (
            *_observe_pod_servers(planned),
            *nameserver.observe(),
            *files.observe(),
            *gateway.observe(),
            *_observe_processes(),
        )
    )


def apply(
    missing: Sequence[KernelObject],
    extra: Sequence[KernelObject],
    identities: Callable[[str], Identity | None] = lambda _pod: None,
) -> None:
    """Make the programs of the lab equal to the plan; `identities` gives a pod's, by `ns/name`.

    Raises KernelError for the first listener or program that could not be started, after trying all listeners.
    """
    for item in extra:
        if isinstance(item, Process):
            _stop(item)
    _apply_pod_servers(
        [item for item in missing if isinstance(item, Served)],
        [item for item in extra if isinstance(item, Served)],
    )
    _apply_announcements(
        [item for item in missing if isinstance(item, Announcement)],
        [item for item in extra if isinstance(item, Announcement)],
    )
    nameserver.apply(missing, extra)
    if changed := files.apply(missing, extra):
        _tell(changed)
    with _proxy() as pidfd:
        gateway.apply(missing, extra, pidfd)
    for item in missing:
        if isinstance(item, Process):
            _start(item, identities(item.pod) if item.pod else None)
    if any(is_proxy(item) for item in missing):
        with _proxy() as pidfd:
            if pidfd is not None:
                gateway.wait_ready(pidfd, _proxy_words)


def _apply_pod_servers(missing: Sequence[Served], extra: Sequence[Served]) -> None:
    if not missing and not extra:
        return
    kept = {podserver.key(item) for item in missing}
    requests: list[Mapping[str, object]] = []
    if gone := [list(podserver.key(item)) for item in extra if podserver.key(item) not in kept]:
        requests.append({"remove": gone})
    if missing:
        requests.append({"set": [podserver.entry(item) for item in missing]})
    start_pod_server()
    for answer in daemon.ask(POD_SERVER, requests):
        for error in answer.get("errors", ()):
            raise KernelError(
                "listen",
                netns=error["netns"],
                subject=f"{error['protocol']} {error['port']} for {error['pod']}",
                reason=error["error"],
            )


def _apply_announcements(missing: Sequence[Announcement], extra: Sequence[Announcement]) -> None:
    """The old node falls silent before the new one speaks: an address never has two."""
    if not missing and not extra:
        return
    start_pod_server()
    requests = [{"withdraw": [_claim(item) for item in extra]}, {"announce": [_claim(item) for item in missing]}]
    for answer in daemon.ask(POD_SERVER, requests):
        for error in answer["errors"]:
            raise KernelError("announce", netns=error["netns"], subject=error["address"], reason=error["error"])


def _claim(item: Announcement) -> dict[str, object]:
    return {"netns": item.netns, "link": item.link, "address": str(item.address)}


def _observe_pod_servers(planned: Iterable[KernelObject]) -> Iterator[Served | Announcement]:
    with daemon.alive(POD_SERVER) as pidfd:
        if pidfd is None:
            return
    orders = {(item.netns, item.pod): item.listeners for item in planned if isinstance(item, PodServer)}
    answer = daemon.ask(POD_SERVER, [{"list": True}])[0]
    for entry in answer["announcements"]:
        yield Announcement(entry["netns"], entry["link"], ip_address(entry["address"]))
    for entry in answer["servers"]:
        listeners = tuple((protocol, port) for protocol, port in entry["listeners"])
        if "service" in entry:
            for _, port in listeners:
                yield HealthCheck(entry["netns"], entry["service"], port, entry["local_endpoints"])
            continue
        order = orders.get((entry["netns"], entry["pod"]), ())
        if set(order) == set(listeners):
            listeners = order
        yield PodServer(entry["netns"], entry["pod"], entry["node"], entry["hostname"], listeners)


def _start(item: Process, identity: Identity | None) -> None:
    _PROCESSES.mkdir(exist_ok=True)
    file = _process_file(item.name)
    known = {"netns": item.netns, "name": item.name, "pod": item.pod, "argv": list(item.argv)}

    def note_and_assume() -> None:
        pid = os.getpid()
        file.write_text(json.dumps({"pid": pid, "start": process_start(pid), **known}))
        if identity is not None:
            assume(identity)

    processes.start(item.argv, item.netns, log=str(file.with_suffix(".log")), setup=note_and_assume)


def _tell(folders: frozenset[str]) -> None:
    """SIGHUP, which makes servers read their files again, to those that were started with a file of these folders."""
    for file in sorted(_PROCESSES.glob("*.json")) if _PROCESSES.is_dir() else ():
        known = _read_process(file)
        if known is None or not any(word.startswith(tuple(folders)) for word in known[2].argv):
            continue
        pid, start, _ = known
        with open_process(pid, start) as pidfd:
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGHUP)


def _stop(item: Process) -> None:
    """End a program and what it started: SIGTERM, and SIGKILL when that does not do it in two seconds."""
    file = _process_file(item.name)
    known = _read_process(file)
    if known is not None:
        pid, start, _ = known
        with open_process(pid, start) as pidfd:
            if pidfd is not None:
                _end_session(pid, pidfd)
    file.unlink(missing_ok=True)


def _end_session(pid: int, pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    # The kill is for what the program has left behind, too: it leads a session, and so a process group, of its own.
    for number, milliseconds in ((signal.SIGTERM, 2000), (signal.SIGKILL, 5000)):
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        poller.poll(milliseconds)


@contextmanager
def _proxy() -> Iterator[int | None]:
    """A pidfd of the proxy of Ingresses and Gateways, or None when it does not run."""
    known = next(filter(None, map(_read_process, _proxy_files())), None)
    if known is None:
        yield None
        return
    with open_process(known[0], known[1]) as pidfd:
        yield pidfd


def _proxy_files() -> list[Path]:
    files = sorted(_PROCESSES.glob("*.json")) if _PROCESSES.is_dir() else []
    return [file for file in files if (known := _read_process(file)) and is_proxy(known[2])]


def _proxy_words() -> str:
    """The last that it wrote into its log, for who wants to know why it does not work."""
    logs = [file.with_suffix(".log") for file in _proxy_files()]
    lines = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines() if line]
    return lines[-1] if lines else ""


def _observe_processes() -> Iterator[Process]:
    for file in sorted(_PROCESSES.glob("*.json")) if _PROCESSES.is_dir() else ():
        known = _read_process(file)
        if known is None:
            continue
        pid, start, item = known
        with open_process(pid, start) as pidfd:
            if pidfd is not None:
                yield item


def _read_process(file: Path) -> tuple[int, int, Process] | None:
    try:
        words = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):  # never started, or killed while it was written down
        return None
    return words["pid"], words["start"], Process(words["netns"], words["name"], tuple(words["argv"]), words["pod"])


def _process_file(name: str) -> Path:
    return _PROCESSES / (name.replace("%", "%25").replace("/", "%2F") + ".json")
