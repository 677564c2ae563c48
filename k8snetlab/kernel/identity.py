"""Make a process see the host name, resolv.conf, hosts and /sys of the pod, node or external host it stands for.

Kubernetes gives each pod these by bind mounts of files that the kubelet writes. Here each program gets them anew, in a
mount and a UTS namespace of its own on top of the lab's (0.5 ms), so nothing has to be kept for idle pods and nothing
of the host's /etc is touched.
"""

from __future__ import annotations

import os
from pathlib import Path

from k8snetlab.dataclass import dataclass
from k8snetlab.kernel import syscalls

# Covers the lab's own state, which is none of a pod's business, with a small file system for the three files.
_FILES = Path("/run/k8snetlab")
_ETC = Path("/etc")


@dataclass(frozen=True, slots=True)
class Identity:
    """The texts of /etc/resolv.conf and /etc/hosts, and the host name (at most 64 bytes: the kernel's limit).

    Each folder in the folder `run`, where there is one, is seen in /run: what daemons of a node keep there.
    """

    hostname: str
    resolv_conf: str
    hosts: str
    run: str = ""


def assume(identity: Identity) -> None:
    """Give this process the identity, for good; call it inside the network namespace it belongs to.

    Raises OSError, with the call that was refused as its file name.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    # A sysfs shows the devices of the network namespace of whoever mounts it.
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("sysfs", "/sys", "sysfs", flags | syscalls.MS_NOEXEC)
    syscalls.mount("tmpfs", str(_FILES), "tmpfs", flags, "mode=755,size=64m")
    texts = {"resolv.conf": identity.resolv_conf, "hosts": identity.hosts, "hostname": f"{identity.hostname}\n"}
    targets = {name: _target(_ETC / name) for name in texts}
    if not all(targets.values()):
        _cover_etc()
    for name, text in texts.items():
        file = _FILES / name
        file.write_text(text)
        syscalls.mount(str(file), targets[name] or _made(_ETC / name), flags=syscalls.MS_BIND)
    syscalls.sethostname(identity.hostname)
    if identity.run and Path(identity.run).is_dir():
        for folder in Path(identity.run).iterdir():
            place = Path("/run", folder.name)
            place.mkdir(exist_ok=True)
            syscalls.mount(str(folder), str(place), flags=syscalls.MS_BIND)


def _target(path: Path) -> str:
    """The file to mount on: what a symlink leads to. Empty when there is none and none can be made in the lab.

    On many hosts resolv.conf leads to /run/systemd/resolve, which the lab's own /run does not have.
    """
    real = os.path.realpath(path)
    if Path(real).is_file():
        return real
    return _made(Path(real)) if real.startswith("/run/") else ""


def _made(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def _cover_etc() -> None:
    """Put a directory of our own over /etc, with each of its entries bound into it: the host's must get no new file."""
    lower = _FILES / "etc"
    lower.mkdir()
    syscalls.mount(str(_ETC), str(lower), flags=syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount("tmpfs", str(_ETC), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=1m")
    for entry in lower.iterdir():
        place = _ETC / entry.name
        if entry.is_symlink():
            if entry.exists():  # relative ones lead to the same places as before
                place.symlink_to(entry.readlink())
        elif entry.is_dir():
            place.mkdir()
            syscalls.mount(str(entry), str(place), flags=syscalls.MS_BIND | syscalls.MS_REC)
        elif entry.is_file():
            place.touch()
            syscalls.mount(str(entry), str(place), flags=syscalls.MS_BIND)
