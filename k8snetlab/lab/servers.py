"""The lab's own programs: the pod server, one process for all pods, and the processes of `image: host/…` containers.

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
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from k8snetlab.errors import KernelError
from k8snetlab.kernel import control, processes
from k8snetlab.kernel.identity import Identity, assume
from k8snetlab.lab import files
from k8snetlab.lab.holder import open_process, process_start
from k8snetlab.plan import podserver
from k8snetlab.plan.podserver import Served
from k8snetlab.plan.state import Announcement, HealthCheck, KernelObject, PodServer, Process

STATE = Path("/run/k8snetlab")
SOCKET = STATE / "podserver.sock"
_SERVER_FILE = STATE / "podserver.pid"
_SERVER_LOG = STATE / "podserver.log"
_PROCESSES = STATE / "processes"
_PROGRAM = Path(__file__).parents[1] / "workloads" / "podserver.py"


def start_pod_server() -> None:
    """Start the pod server unless it lives; it is not waited for, so that its start overlaps with other work."""
    with _pod_server() as pidfd:
        if pidfd is not None:
            return
    SOCKET.unlink(missing_ok=True)
    # -I and -S: nothing of the user's environment, and no site-packages, which would double the start-up time.
    argv = [sys.executable, "-I", "-S", str(_PROGRAM), "--control", str(SOCKET)]

    def note() -> None:
        _SERVER_FILE.write_text(f"{os.getpid()} {process_start(os.getpid())}\n")

    processes.start(argv, log=str(_SERVER_LOG), setup=note)


def observe(planned: Iterable[KernelObject] = ()) -> frozenset[KernelObject]:
    """What the pod server really listens on and answers for, and the processes that live.

    A listener's place in its list means nothing; where the plan has the same listeners, they are put in its order.
    """
    return frozenset((*_observe_pod_servers(planned), *files.observe(), *_observe_processes()))


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
    if changed := files.apply(missing, extra):
        _tell(changed)
    for item in missing:
        if isinstance(item, Process):
            _start(item, identities(item.pod) if item.pod else None)


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
    for answer in _ask(requests):
        if "refused" in answer:
            raise KernelError("listen", subject="the pod server", reason=str(answer["refused"]))
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
    for answer in _ask(requests):
        if "refused" in answer:
            raise KernelError("announce", subject="the pod server", reason=str(answer["refused"]))
        for error in answer["errors"]:
            raise KernelError("announce", netns=error["netns"], subject=error["address"], reason=error["error"])


def _claim(item: Announcement) -> dict[str, object]:
    return {"netns": item.netns, "link": item.link, "address": str(item.address)}


def _observe_pod_servers(planned: Iterable[KernelObject]) -> Iterator[Served | Announcement]:
    with _pod_server() as pidfd:
        if pidfd is None:
            return
    orders = {(item.netns, item.pod): item.listeners for item in planned if isinstance(item, PodServer)}
    answer = _ask([{"list": True}])[0]
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


def _ask(requests: Sequence[Mapping[str, object]]) -> list[Any]:
    with _pod_server() as pidfd:
        if pidfd is None:
            raise KernelError("ask", subject="the pod server", reason="it has died", hint=_log_hint())
        try:
            return control.ask(str(SOCKET), requests, pidfd=pidfd)
        except KernelError as error:
            error.hint = _log_hint()
            raise


def _log_hint() -> str:
    lines = _SERVER_LOG.read_text(errors="replace").splitlines() if _SERVER_LOG.exists() else []
    return lines[-1] if lines else ""


@contextmanager
def _pod_server() -> Iterator[int | None]:
    """A pidfd of the living pod server, or None."""
    try:
        pid, start = (int(word) for word in _SERVER_FILE.read_text().split())
    except (FileNotFoundError, ValueError):  # never started, or killed while it was written down
        yield None
        return
    with open_process(pid, start) as pidfd:
        yield pidfd


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
