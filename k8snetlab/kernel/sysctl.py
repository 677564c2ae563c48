"""Sysctls of the namespace the calling thread is in: /proc/sys/net shows each thread its own."""

from __future__ import annotations

import os
from typing import Final

from k8snetlab.errors import HostError, KernelError

_SWAP: Final = str.maketrans("./", "/.")
_MODULES: Final = {
    "net.bridge.": "br_netfilter",
    "net.netfilter.nf_conntrack": "nf_conntrack",
    "net.ipv4.vs.": "ip_vs",
}


def write(netns: str, key: str, value: str) -> None:
    """Set `key`, in sysctl's dotted form. `netns` is said in errors only: the caller is inside.

    Raises HostError when the key is missing because a kernel module is, KernelError when it does not exist or the
    kernel refuses the value.
    """
    try:
        fd = os.open(path(key), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(netns, key, value, error) from error


def read(key: str) -> str | None:
    """The value, its fields apart by one space; None when there is no such key or it cannot be read."""
    try:
        fd = os.open(path(key), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return " ".join(os.read(fd, 4096).decode().split())
        finally:
            os.close(fd)
    except OSError:
        return None


def of_link(key: str) -> str:
    """The link a key belongs to, empty for those of the whole namespace: such keys exist as long as their link."""
    parts = key.split(".")
    if len(parts) > 4 and parts[1] in ("ipv4", "ipv6") and parts[2] in ("conf", "neigh"):
        name = parts[3].replace("/", ".")
        return "" if name in ("all", "default", "lo") else name
    return ""


def path(key: str) -> str:
    """The file of a key; a dot in a link's name is written as a slash in the key, and here it is a dot again."""
    return "/proc/sys/" + key.translate(_SWAP)


def _refused(netns: str, key: str, value: str, error: OSError) -> HostError | KernelError:
    for prefix, module in _MODULES.items():
        if isinstance(error, FileNotFoundError) and key.startswith(prefix):
            return HostError(f"no sysctl {key}: kernel module {module} is not loaded", hint=f"modprobe {module}")
    reason = "no such key" if isinstance(error, FileNotFoundError) else str(error.strerror)
    return KernelError("write sysctl", netns=netns, subject=f"{key}={value}", reason=reason)
