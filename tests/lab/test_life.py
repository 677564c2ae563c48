"""The life of a small lab: two namespaces, a veth pair, a server; made, changed, disturbed, mended, killed."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster, LabConfig
from k8snetlab.errors import KernelError, LabError
from k8snetlab.kernel.identity import Identity
from k8snetlab.lab import life, servers, store
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.life import OwnedLab
from k8snetlab.lab.store import Record
from k8snetlab.manifests.document import Manifests
from k8snetlab.plan.controls import control_points
from k8snetlab.plan.state import (
    Address,
    Drift,
    Family,
    IptablesChain,
    KernelObject,
    Netns,
    Plan,
    PodServer,
    Process,
    Sysctl,
    Veth,
)  # fmt: skip

pytestmark = pytest.mark.root

LINK = Veth("node1", "veth0", 100, "0a:58:0a:f4:00:01", 1500, "shop_api", "eth0", 2, "0a:58:0a:f4:00:02", 1500)
NODE_ADDRESS = Address("node1", "veth0", IPv4Interface("10.244.0.1/24"))
POD_ADDRESS = Address("shop_api", "eth0", IPv4Interface("10.244.0.2/24"))
FORWARD = Sysctl("node1", "net.ipv4.ip_forward", "1")
SERVER = PodServer("shop_api", "shop/api", "node1", "api", (("TCP", 8080), ("UDP", 53)))
SMALL: tuple[KernelObject, ...] = (
    Netns("node1"), Netns("shop_api"), FORWARD, LINK, NODE_ADDRESS, POD_ADDRESS, SERVER,
)  # fmt: skip
OTHER_ADDRESS = Address("shop_api", "eth0", IPv4Interface("10.244.0.9/24"))
DAEMON = Process("shop_api", "shop/api/sleeper", ("sleep", "1000"))
CHANGED: tuple[KernelObject, ...] = (
    Netns("node1"), Netns("shop_api"), Netns("shop_db"), FORWARD, LINK, NODE_ADDRESS, OTHER_ADDRESS,
    replace(SERVER, listeners=(("TCP", 8080), ("TCP", 9090))), DAEMON,
)  # fmt: skip


def record(objects: tuple[KernelObject, ...]) -> Record:
    config = object.__new__(LabConfig)
    for name in LabConfig.__slots__:
        object.__setattr__(config, name, "")
    cluster = Cluster(config=config, nodes=(), namespaces={}, pods=(), services=(), workloads=())
    return Record(manifests=Manifests(()), cluster=cluster, plan=Plan(objects))


def up(name: str, objects: tuple[KernelObject, ...] = SMALL) -> Drift:
    with life.locked(name) as lab:
        return life.up(lab, record(objects))


def running(name: str) -> Holder:
    found = life.find(name)
    assert found is not None
    return found


def inside(name: str, command: str) -> str:
    done = run_in(running(name), lambda: subprocess.run(["sh", "-euc", command], capture_output=True, text=True))
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_up_makes_the_plan_true(name: str) -> None:
    drift = up(name)
    assert (drift.missing, drift.extra) == (SMALL, ())
    assert "10.244.0.2" in inside(name, "ip -n shop_api -br addr show eth0")
    assert "1 received" in inside(name, "ip netns exec node1 ping -c1 -W2 10.244.0.2")
    assert not life.status(running(name))
    assert store.is_clean(running(name).state)
    published = sorted(path.name for path in Path("/run/netns").glob(f"{name}.*"))
    assert published == [f"{name}.node1", f"{name}.shop_api"]
    assert "10.244.0.1" in subprocess.check_output(["ip", "netns", "exec", f"{name}.node1", "ip", "a"], text=True)


def test_a_second_up_does_nothing(name: str) -> None:
    up(name)
    before = inside(name, "ip -d link; ls -i /run/netns; cat /run/k8snetlab/podserver.pid")
    assert not up(name)
    assert inside(name, "ip -d link; ls -i /run/netns; cat /run/k8snetlab/podserver.pid") == before


def test_up_with_another_plan_applies_the_difference(name: str) -> None:
    up(name)
    drift = up(name, CHANGED)
    assert set(drift.missing) == set(CHANGED) - set(SMALL)
    assert set(drift.extra) == set(SMALL) - set(CHANGED)
    assert not life.status(running(name))
    drift = up(name)
    assert set(drift.extra) == set(CHANGED) - set(SMALL)
    assert not life.status(running(name))
    assert not list(Path("/run/netns").glob(f"{name}.shop_db"))
    assert inside(name, "ls /run/netns").split() == ["node1", "shop_api"]


@pytest.mark.parametrize(
    ("damage", "missing", "extra"),
    [
        pytest.param("ip -n shop_api addr del 10.244.0.2/24 dev eth0", {POD_ADDRESS}, set(), id="address"),
        pytest.param(
            "ip netns exec node1 sysctl -qw net.ipv4.ip_forward=0",
            {FORWARD},
            {replace(FORWARD, value="0")},
            id="sysctl",
        ),
        pytest.param("ip -n shop_api link del eth0", {LINK, NODE_ADDRESS, POD_ADDRESS}, set(), id="link"),
        pytest.param("kill -9 $(cut -d' ' -f1 /run/k8snetlab/podserver.pid)", {SERVER}, set(), id="pod server"),
        pytest.param("ip netns add stranger", set(), {Netns("stranger", up=False)}, id="namespace"),
        pytest.param(
            "ip -n node1 addr add 192.0.2.1/24 dev veth0",
            set(),
            {Address("node1", "veth0", IPv4Interface("192.0.2.1/24"))},
            id="extra address",
        ),
    ],
)
def test_drift_is_seen_and_mended(name: str, damage: str, missing: set[KernelObject], extra: set[KernelObject]) -> None:
    up(name)
    inside(name, damage)
    for drift in (life.status(running(name)), up(name)):
        assert (set(drift.missing), set(drift.extra)) == (missing, extra)
    assert not life.status(running(name))


def test_a_killed_process_is_started_again(name: str) -> None:
    objects = (*SMALL, DAEMON)
    up(name, objects)
    assert not life.status(running(name))
    inside(name, "kill -9 $(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/' /run/k8snetlab/processes/*.json)")
    deadline = time.monotonic() + 5
    while not (drift := life.status(running(name))):
        assert time.monotonic() < deadline
    assert drift.missing == (DAEMON,)
    up(name, objects)
    assert not life.status(running(name))


def test_change_does_not_look_but_up_after_a_crash_does(name: str) -> None:
    up(name)
    with life.locked(name) as lab:
        drift = life.change(lab, record(CHANGED))
    assert set(drift.missing) == set(CHANGED) - set(SMALL)
    assert not life.status(running(name))
    store.mark(running(name).state, clean=False)
    inside(name, "ip -n shop_api addr del 10.244.0.9/24 dev eth0")
    with life.locked(name) as lab:
        drift = life.change(lab, record(CHANGED))
    assert drift.missing == (OTHER_ADDRESS,)
    assert store.is_clean(running(name).state)


def test_a_new_lab_that_fails_is_gone(name: str, run_dir: Path) -> None:
    bad = Sysctl("node1", "net.ipv4.no_such_key", "1")
    with pytest.raises(KernelError):
        up(name, (*SMALL, bad))
    assert life.find(name) is None
    assert list(run_dir.rglob("*")) == []
    assert not list(Path("/run/netns").glob(f"{name}.*"))


def test_a_running_lab_that_fails_stays_unclean(name: str) -> None:
    up(name)
    bad = Sysctl("node1", "net.ipv4.no_such_key", "1")
    with pytest.raises(KernelError) as raised:
        up(name, (*SMALL, bad))
    assert raised.value.hint
    assert not store.is_clean(running(name).state)
    assert not up(name)
    assert store.is_clean(running(name).state)


def test_two_labs_with_the_same_addresses(name: str) -> None:
    other = f"{name}-b"
    up(name)
    up(other)
    try:
        inside(other, "ip -n shop_api link del eth0")
        assert not life.status(running(name))
        assert life.status(running(other))
        assert [found.lab for found in life.labs()] == [name, other]
    finally:
        life.down(other)
    assert life.find(other) is None
    assert not life.status(running(name))


def test_two_ups_at_once(name: str, fork: Callable[..., int]) -> None:
    children = [fork(up, name) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert not life.status(running(name))


def test_progress_is_told(name: str) -> None:
    seen: list[tuple[str, int, int]] = []
    with life.locked(name) as lab:
        life.up(lab, record(SMALL), progress=lambda *told: seen.append(told))
    assert seen
    assert seen[-1][1] == seen[-1][2]


def test_listeners_that_cannot_be_are_an_error(name: str) -> None:
    up(name)
    taken = PodServer("shop_api", "shop/other", "node1", "other", (("TCP", 8080),))
    with pytest.raises(KernelError, match="TCP 8080 for shop/other in shop_api: EADDRINUSE"):
        up(name, (*SMALL, taken))


def test_interrupted_new_lab_is_gone(name: str, run_dir: Path) -> None:
    def interrupt(_what: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), life.locked(name) as lab:
        life.up(lab, record(SMALL), progress=interrupt)
    assert list(run_dir.rglob("*")) == []


RANDOM = random.Random(20261124)


@pytest.mark.parametrize("after", ["up", "down"])
@pytest.mark.parametrize("before", ["nothing", "a lab"])
@pytest.mark.parametrize("milliseconds", [round(RANDOM.uniform(0, 60), 1) for _ in range(12)])
def test_up_killed_at_any_moment(
    milliseconds: float, before: str, after: str, name: str, run_dir: Path, fork: Callable[..., int]
) -> None:
    if before == "a lab":
        up(name)
    child = fork(up, name, CHANGED)
    pidfd = os.pidfd_open(child)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll(milliseconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pidfd)
    if after == "up":
        up(name, CHANGED)
        assert not life.status(running(name))
        assert sorted(path.name.partition(".")[2] for path in Path("/run/netns").glob(f"{name}.*")) == [
            "node1", "shop_api", "shop_db",
        ]  # fmt: skip
        life.down(name)
    else:
        life.down(name)
    assert list(run_dir.rglob("*")) == []
    assert not list(Path("/run/netns").glob(f"{name}.*"))


def test_the_holder_killed_in_the_middle_of_up(name: str, run_dir: Path) -> None:
    def kill(_what: str, _done: int, _total: int) -> None:
        if (found := life.find(name)) is not None:
            os.kill(found.pid, signal.SIGKILL)

    with pytest.raises(LabError), life.locked(name) as lab:
        life.up(lab, record(SMALL), progress=kill)
    assert list(run_dir.rglob("*")) == []
    up(name)
    assert not life.status(running(name))


def test_speed_of_a_small_lab(name: str) -> None:
    started = time.perf_counter()
    up(name)
    made = time.perf_counter()
    up(name)
    again = time.perf_counter()
    life.down(name)
    down = time.perf_counter()
    assert made - started < 0.5
    assert again - made < 0.3
    assert down - again < 0.15


def test_owned_lab_tells_its_record(name: str) -> None:
    with life.locked(name) as lab:
        assert lab == OwnedLab(name, None)
        assert lab.record() is None
        life.up(lab, record(SMALL))
        found = lab.record()
    assert found is not None
    assert (found.plan, found.clean) == (Plan(SMALL), True)
    assert run_in(running(name), servers.observe) == {SERVER}


def test_a_process_is_its_pod(name: str) -> None:
    """A program of the host that stands for a container sees the pod's name and files, and not the lab's state."""
    show = "{ hostname; cat /etc/resolv.conf; ls /run/k8snetlab; ls /sys/class/net; } > /run/netns/.seen; sleep 1000"
    program = Process("shop_api", "shop/api/main", ("sh", "-c", show), pod="shop/api")
    up(name)
    identity = Identity("api-0", "nameserver 10.96.0.10\n", "")
    run_in(running(name), servers.apply, [program], [], {"shop/api": identity}.get)
    seen = "api-0\nnameserver 10.96.0.10\nhostname\nhosts\nresolv.conf\neth0\nlo\n"
    deadline = time.monotonic() + 5
    while inside(name, "cat /run/netns/.seen 2>/dev/null || true") != seen:
        assert time.monotonic() < deadline
    assert run_in(running(name), servers.observe) == {SERVER, program}
    run_in(running(name), servers.apply, [], [program])
    assert run_in(running(name), servers.observe) == {SERVER}
    assert "sleep 1000" not in inside(name, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_a_borrowed_lab_comes_back(name: str) -> None:
    up(name)
    with life.locked(name) as lab:
        with life.borrowed(lab, record(SMALL)) as become:
            assert become(Plan(CHANGED)).extra
            assert "10.244.0.9" in inside(name, "ip -n shop_api -br addr show eth0")
            assert not store.is_clean(running(name).state)
            become(Plan((*SMALL, DAEMON)))
        assert store.is_clean(running(name).state)
    assert not life.status(running(name))


def test_a_borrowed_lab_comes_back_from_a_change_that_fails(name: str) -> None:
    up(name)
    impossible = IptablesChain("node1", 4, "filter", "FORWARD", "ACCEPT", ("-j NOWHERE",))
    with life.locked(name) as lab:
        with pytest.raises(KernelError, match="NOWHERE"), life.borrowed(lab, record(SMALL)) as become:
            become(Plan((*SMALL, OTHER_ADDRESS, impossible)))
        assert store.is_clean(running(name).state)
    assert not life.status(running(name))


def stop_under_controls(name: str) -> None:
    assert "control of the prober" in inside(name, "ip netns exec node1 iptables -S")
    assert not store.is_clean(running(name).state)
    raise KeyboardInterrupt


def test_control_rules_stand_for_the_body_only(name: str) -> None:
    up(name)
    families: tuple[Family, ...] = (4,)
    points = control_points(Plan(SMALL), ("node1",), families, 100)
    with life.locked(name) as lab:
        with pytest.raises(KeyboardInterrupt), life.controlled(lab, points):
            stop_under_controls(name)
        assert store.is_clean(running(name).state)
    assert "control of the prober" not in inside(name, "ip netns exec node1 iptables -S")
