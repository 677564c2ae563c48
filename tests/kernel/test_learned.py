"""Waiting for routes that a daemon makes: until they are there, and until they are gone."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from k8snetlab.errors import KernelError
from k8snetlab.kernel import processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.learned import wait
from k8snetlab.plan.state import Address, Bridge, LearnedRoute, Netns

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]

NODE = (
    Netns("node1"),
    Bridge("node1", "br9", 9, "0e:00:00:00:00:09", 1500),
    Address("node1", "br9", ip_interface("172.18.0.2/16")),
)
ROUTES = tuple(
    LearnedRoute("node1", ip_network(f"10.244.{n}.0/24"), (ip_address(f"172.18.0.{n + 2}"),)) for n in (1, 2)
)


def soon(command: str) -> subprocess.Popen[bytes]:
    """A process of its own: a thread would keep this one from leaving the lab's mount namespace."""
    return subprocess.Popen(["sh", "-c", f"sleep 0.2; ip -n node1 route {command} proto bird"])


def ip(*words: str) -> None:
    assert processes.run(["ip", "route", *words, "proto", "bird"], "node1").returncode == 0


def test_it_returns_when_all_are_there() -> None:
    apply(NODE)
    ip("add", "10.244.1.0/24", "via", "172.18.0.3")
    with soon("add 10.244.2.0/24 via 172.18.0.4"):
        wait(ROUTES, (), 10)
    wait(ROUTES, (), 0)


def test_it_returns_when_one_too_many_is_gone() -> None:
    apply(NODE)
    for n in (1, 2):
        ip("add", f"10.244.{n}.0/24", "via", f"172.18.0.{n + 2}")
    with soon("del 10.244.2.0/24"):
        wait(ROUTES[:1], ROUTES[1:], 10)


@pytest.mark.parametrize(
    ("add", "wanted", "unwanted", "reason"),
    [
        pytest.param((), ROUTES, (), "not been learned", id="missing"),
        pytest.param(("10.244.1.0/24",), (), ROUTES[:1], "not been withdrawn", id="too-many"),
    ],
)
def test_it_says_which_is_late(
    add: tuple[str, ...], wanted: tuple[LearnedRoute, ...], unwanted: tuple[LearnedRoute, ...], reason: str
) -> None:
    apply(NODE)
    for destination in add:
        ip("add", destination, "via", "172.18.0.3")
    with pytest.raises(KernelError) as raised:
        wait(wanted, unwanted, 0.05)
    assert reason in str(raised.value)
    assert "birdc" in raised.value.hint
