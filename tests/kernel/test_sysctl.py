"""Sysctls of many namespaces, through proc file systems that are mounted nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netns, syscalls
from k8snetlab.kernel.sysctl import Sysctls

KEY = "net.ipv4.ip_default_ttl"

pytestmark = pytest.mark.root


@pytest.fixture
def anonymous() -> Iterator[list[int]]:
    """Three network namespaces without names."""
    fds = []
    with netns.returning():
        for _ in range(3):
            syscalls.unshare(syscalls.CLONE_NEWNET)
            fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("allowed", [True, False], ids=["own proc", "proc refused"])
def test_each_namespace_has_its_own_values(
    allowed: bool, anonymous: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fstype: str) -> int:
        raise PermissionError

    if not allowed:
        monkeypatch.setattr(syscalls, "detached_mount", refuse)
    mounts, files = Path("/proc/self/mounts").read_text(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with Sysctls() as sysctls:
        for value in range(10, 60):  # more often than one proc file system is used
            for fd in anonymous:
                with netns.inside(fd):
                    sysctls.write("", KEY, f"{value + fd}")
            for fd in anonymous:
                with netns.inside(fd):
                    assert sysctls.read(KEY) == f"{value + fd}"
        assert sysctls.read(KEY) == Path("/proc/sys/net/ipv4/ip_default_ttl").read_text().strip()
        assert sysctls.read("net.ipv4.no_such_key") is None
        assert Path("/proc/self/mounts").read_text() == mounts
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_what_is_refused_is_said(anonymous: list[int]) -> None:
    with Sysctls() as sysctls, netns.inside(anonymous[0]):
        with pytest.raises(KernelError, match="no such key"):
            sysctls.write("pod", "net.ipv4.no_such_key", "1")
        with pytest.raises(KernelError, match="Invalid argument"):
            sysctls.write("pod", "net.ipv4.ip_forward", "yes")
        with pytest.raises(HostError, match="kernel module br_netfilter is not loaded") as raised:
            sysctls.write("pod", "net.bridge.what-only-a-module-brings", "1")
    assert raised.value.hint == "modprobe br_netfilter"
