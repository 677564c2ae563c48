"""Namespaces by name: made, listed, entered, removed, also after a creation that was cut short."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.kernel import netns, processes, syscalls

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]


def current() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def make(*names: str) -> None:
    with netns.returning():
        for name in names:
            os.close(netns.create(name))


def test_made_listed_removed() -> None:
    home = current()
    make("a", "b")
    assert current() == home
    assert netns.names() == {"a", "b"}
    assert set(processes.run(["ip", "netns", "list"]).stdout.split()) == {b"a", b"b"}
    netns.remove("a")
    assert netns.names() == {"b"}
    assert not Path("/run/netns/a").exists()


def test_create_leaves_the_thread_inside() -> None:
    with netns.returning():
        fd = netns.create("a")
        assert current() == f"net:[{os.fstat(fd).st_ino}]"
        os.close(fd)


def test_inside_by_name_and_by_fd_and_back_after_an_error() -> None:
    make("a", "b")
    home = current()
    fd = netns.open_netns("b")
    with netns.inside("a"):
        here = current()
        with netns.inside(fd):
            assert current() == f"net:[{os.fstat(fd).st_ino}]" != here
        assert current() == here != home
    with pytest.raises(ZeroDivisionError), netns.inside("a"):
        raise ZeroDivisionError
    assert current() == home
    os.close(fd)


def test_only_the_calling_thread_goes() -> None:
    make("a")
    seen = []
    with netns.inside("a"):
        thread = threading.Thread(target=lambda: seen.append(current()))
        # A new thread is born where its maker is; when it leaves, its maker stays.
        thread.start()
        thread.join()
        assert seen == [current()]

    def go() -> None:
        with netns.inside("a"):
            seen.append(current())

    home = current()
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert current() == home != seen[-1]


def test_a_name_that_is_taken() -> None:
    make("a")
    with netns.returning(), pytest.raises(KernelError, match="create network namespace a: File exists"):
        netns.create("a")


def test_a_creation_cut_short_is_no_namespace_and_no_hindrance() -> None:
    Path("/run/netns/a").touch()
    assert netns.names() == frozenset()
    with pytest.raises(KernelError, match="no namespace is mounted there"):
        netns.open_netns("a")
    make("a")
    assert netns.names() == {"a"}
    Path("/run/netns/b").touch()
    netns.remove("b")
    assert not Path("/run/netns/b").exists()


@pytest.mark.parametrize("action", [netns.open_netns, netns.remove], ids=["open", "remove"])
def test_no_such_namespace(action: object) -> None:
    assert callable(action)
    with pytest.raises(KernelError, match="network namespace nowhere: No such file or directory"):
        action("nowhere")


def test_without_a_directory_there_are_none() -> None:
    Path("/run/netns").rmdir()
    assert netns.names() == frozenset()


def test_descriptors_are_not_inherited_and_not_kept() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    make("a")
    with netns.inside("a"):
        pass
    fd = netns.open_netns("a")
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_system_calls_say_what_was_refused() -> None:
    with pytest.raises(OSError, match=r"No such file or directory: 'mount /no/such'"):
        syscalls.mount("x", "/no/such", "tmpfs")
    with pytest.raises(OSError, match=r"umount /no/such"):
        syscalls.umount("/no/such")
    with pytest.raises(OSError, match=r"Bad file descriptor: 'setns 0x40000000'"):
        syscalls.setns(-1, syscalls.CLONE_NEWNET)
