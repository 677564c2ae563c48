"""The files of the lab's proxy, and how it gets from one set of them to another without a failed request.

Envoy watches each file by itself, so there is an order: a cluster must be there before a route leads to it, and go
after the last route has gone. Between the steps Envoy is asked how many versions it has taken; one that it refuses is
an error with Envoy's own words, and what it had before is still served.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from k8snetlab.cluster.gateway_addon import FOLDER
from k8snetlab.errors import KernelError
from k8snetlab.kernel import control, processes
from k8snetlab.plan.gateway.envoy import CLUSTERS, LISTENERS, ROUTES, merged, missing_resources
from k8snetlab.plan.gateway.objects import ADMIN
from k8snetlab.plan.state import KernelObject, ProxyFile, SelfSigned

_ROOT: Final = Path(FOLDER)
_SECONDS: Final = 20.0
_DAYS: Final = 3650
_NAMES: Final = "names"  # the suffix of the file that says what a self-signed certificate was made for
Stats = Mapping[str, int]


def observe() -> Iterator[ProxyFile | SelfSigned]:
    """The files as they are, and of a pair that the lab has made what it was made for."""
    files = {file.name: file for file in sorted(_ROOT.iterdir())} if _ROOT.is_dir() else {}
    made = {name.removesuffix(f".{_NAMES}") for name in files if name.endswith(f".{_NAMES}")}
    for name, file in files.items():
        stem, _, suffix = name.rpartition(".")
        if stem in made and suffix == _NAMES and {f"{stem}.crt", f"{stem}.key"} <= files.keys():
            yield SelfSigned(stem, tuple(file.read_text().split()))
        elif stem not in made and file.is_file():
            yield ProxyFile(name, file.read_text())


def apply(missing: Sequence[KernelObject], extra: Sequence[KernelObject], proxy: int | None) -> None:
    """Write what is missing, remove what is extra. `proxy` is a pidfd of the proxy, None when it does not run.

    Raises KernelError when it refuses a file or does not take it in time.
    """
    certificates = [item for item in missing if isinstance(item, SelfSigned)]
    files = {item.name: item.content for item in missing if isinstance(item, ProxyFile)}
    gone = [item for item in extra if isinstance(item, ProxyFile) and item.name not in files]
    dropped = [item for item in extra if isinstance(item, SelfSigned) and item not in certificates]
    if not (certificates or files or gone or dropped):
        return
    _ROOT.mkdir(mode=0o700, exist_ok=True)
    for certificate in certificates:
        _make(certificate)
    if proxy is None:
        for name, content in files.items():
            _write(name, content)
    else:
        _swap(files, proxy)
    for file in gone:
        (_ROOT / file.name).unlink(missing_ok=True)
    for certificate in dropped:
        for suffix in (_NAMES, "crt", "key"):
            (_ROOT / f"{certificate.name}.{suffix}").unlink(missing_ok=True)


def wait_ready(proxy: int, log: Callable[[], str]) -> None:
    """Wait until a proxy that has just been started listens on all its ports. KernelError if it dies or refuses."""
    control.wait_for_http(ADMIN, "/ready", pidfd=proxy, timeout=_SECONDS, words=log)
    _until(proxy, lambda stats: stats.get("listener_manager.workers_started", 0) == 1 and not _warming(stats))
    refused = [name for name, number in _stats(proxy).items() if name.endswith("update_rejected") and number]
    if refused:
        raise KernelError("configure", subject="the proxy", reason=f"it refuses {refused[0]}", hint=log())


def _swap(files: Mapping[str, str], proxy: int) -> None:
    """Make before break: the new clusters beside the old, then routes and listeners, then the clusters as planned."""
    clusters = files.get(CLUSTERS)
    both = None
    if clusters is not None:
        old = _read(CLUSTERS)
        both = merged(clusters, old) if missing_resources(clusters, old) else None
        _write_and_wait({CLUSTERS: both or clusters}, proxy)
    routes = {name: content for name, content in files.items() if name.startswith(ROUTES)}
    known = {name for name in routes if (_ROOT / name).exists()}
    for name in routes.keys() - known:
        _write(name, routes[name])
    _write_and_wait({name: routes[name] for name in sorted(known)}, proxy)
    for name, content in files.items():
        if name not in (CLUSTERS, LISTENERS) and name not in routes:
            _write(name, content)
    if LISTENERS in files:
        _write_and_wait({LISTENERS: files[LISTENERS]}, proxy)
        _until(proxy, lambda stats: not _warming(stats))
    if both is not None and clusters is not None:
        _write_and_wait({CLUSTERS: clusters}, proxy)


def _write_and_wait(files: Mapping[str, str], proxy: int) -> None:
    if not files:
        return
    before = _stats(proxy)
    keys = {name: _subscription(name) for name in files}
    for name, content in files.items():
        _write(name, content)
    after = _until(proxy, lambda stats: all(_taken(stats, key) > _taken(before, key) for key in keys.values()))
    for name, key in keys.items():
        if after.get(f"{key}.update_success", 0) == before.get(f"{key}.update_success", 0):
            raise KernelError("configure", subject="the proxy", reason=f"it refuses {name}", hint="see its log")


def _taken(stats: Stats, key: str) -> int:
    return sum(stats.get(f"{key}.{what}", 0) for what in ("update_success", "update_rejected", "update_failure"))


def _subscription(name: str) -> str:
    """What Envoy's statistics call the watch of a file."""
    if name == CLUSTERS:
        return "cluster_manager.cds"
    if name == LISTENERS:
        return "listener_manager.lds"
    route = name.removeprefix(ROUTES).removesuffix(".json")
    return f"http.{route}.rds.{route}"


def _warming(stats: Stats) -> bool:
    warming = ("listener_manager.total_listeners_warming", "cluster_manager.warming_clusters")
    return any(stats.get(name, 0) for name in warming)


def _until(proxy: int, condition: Callable[[Stats], bool]) -> Stats:
    def met(body: str) -> bool:
        return condition(_parsed(body))

    body = control.wait_for_http(ADMIN, "/stats", pidfd=proxy, timeout=_SECONDS, condition=met)
    return _parsed(body)


def _stats(proxy: int) -> Stats:
    return _parsed(control.wait_for_http(ADMIN, "/stats", pidfd=proxy, timeout=_SECONDS))


def _parsed(body: str) -> Stats:
    found = {}
    for line in body.splitlines():
        name, _, value = line.partition(": ")
        if value.isdigit():
            found[name] = int(value)
    return found


def _read(name: str) -> str:
    try:
        return (_ROOT / name).read_text()
    except FileNotFoundError:
        return ""


def _write(name: str, content: str) -> None:
    """By a rename: a reader sees the old content or the new one, and Envoy watches for files moved into place."""
    fresh = _ROOT / f".{name}"
    fresh.write_text(content)
    os.replace(fresh, _ROOT / name)  # noqa: PTH105


def _make(certificate: SelfSigned) -> None:
    """By the openssl command. A name that starts with `*.` is one that certificates know, too."""
    stem = _ROOT / certificate.name
    names = ",".join(f"DNS:{name}" for name in certificate.names)
    argv = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", str(_DAYS), "-subj", "/O=k8snetlab/CN=made by the lab", "-addext", f"subjectAltName={names}",
        "-keyout", f"{stem}.key", "-out", f"{stem}.crt",
    ]  # fmt: skip
    done = processes.run(argv)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"openssl ended with {done.returncode}"
        raise KernelError("make a certificate", subject=f"for {names}", reason=reason)
    Path(f"{stem}.{_NAMES}").write_text("\n".join(certificate.names) + "\n")
