"""ipsets and the link they come with: made by us, read by us and by others, changed, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

import pytest

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import ipset, ipvs, netns, processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.observe import observe
from k8snetlab.plan.proxy.ipvs_sets import SETS, set_name
from k8snetlab.plan.state import (
    Address,
    Dummy,
    Family,
    IpSet,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    Netns,
    VirtualServer,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab")]

NODE = Netns("node1")
DUMMY = Dummy("node1", "kube-ipvs0", 6, "0e:58:00:00:00:06", 1500)
EXAMPLES: dict[str, dict[Family, tuple[str, ...]]] = {
    "hash:ip": {4: ("10.96.0.10",), 6: ("fd00:10:96::a",)},
    "hash:ip,port": {4: ("10.96.0.10,tcp:80", "10.96.0.10,udp:53", "10.96.0.10,sctp:9"), 6: ("fd00::1,tcp:80",)},
    "hash:ip,port,ip": {4: ("10.244.0.2,tcp:8080,10.244.0.2",), 6: ("fd00::1,udp:53,fd00::1",)},
    "hash:ip,port,net": {4: ("1.2.3.4,tcp:80,0.0.0.0/1", "1.2.3.4,tcp:80,9.9.9.9"), 6: ("fd00::1,tcp:80,8000::/1",)},
    "bitmap:port": {4: ("1", "30080", "65535"), 6: ("30080",)},
}


def every_set() -> list[KernelObject]:
    """Every set of kube-proxy's, in both families, with entries of its type."""
    made: list[KernelObject] = []
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        for name, kind, _ in SETS:
            full = set_name(name, family)
            made.append(IpSet("node1", full, kind, None if kind == "bitmap:port" else family))
            made += [IpSetEntry("node1", full, entry) for entry in EXAMPLES[kind][family]]
    return made


def rules(*texts: str) -> tuple[KernelObject, ...]:
    built_in = (IptablesChain("node1", 4, "nat", name, "ACCEPT", ()) for name in ("PREROUTING", "INPUT", "POSTROUTING"))
    return (*built_in, IptablesChain("node1", 4, "nat", "OUTPUT", "ACCEPT", texts))


def see(planned: Iterable[KernelObject]) -> set[KernelObject]:
    return set(observe(tuple(planned)))


def turn(old: Iterable[KernelObject], new: Iterable[KernelObject]) -> None:
    """Bring a lab from one plan to another, as `up` does: by what the kernel has."""
    planned = tuple(new)
    found = observe(planned)
    assert found - {NODE} >= set(old) - {NODE}
    apply([item for item in planned if item not in found], [item for item in found if item not in planned], planned)
    assert see(planned) == set(planned)


def test_every_set_reads_back_as_it_was_planned() -> None:
    plan = (NODE, *every_set())
    apply(plan)
    assert see(plan) == set(plan)


def test_the_rules_that_ask_sets_come_after_them_and_go_before_them() -> None:
    asking = rules("-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT")
    made = (
        IpSet("node1", "KUBE-CLUSTER-IP", "hash:ip,port", 4),
        IpSetEntry("node1", "KUBE-CLUSTER-IP", "1.2.3.4,tcp:1"),
    )
    plan = (NODE, DUMMY, *asking, *made)
    apply(plan)
    assert see(plan) == set(plan)
    turn((*asking, *made), (NODE, *rules()))


def test_a_changed_entry_is_the_only_thing_that_is_touched() -> None:
    old, kept, new = (IpSetEntry("node1", "KUBE-IPVS-IPS", f"10.96.0.{number}") for number in (1, 2, 3))
    container = IpSet("node1", "KUBE-IPVS-IPS", "hash:ip", 4)
    apply((NODE, container, old, kept))
    asking = rules("-m set --match-set KUBE-IPVS-IPS dst -j ACCEPT")
    apply(asking)  # in use from here on, so that it cannot be destroyed and made anew
    turn((container, old, kept), (NODE, DUMMY, container, kept, new, *asking))
    assert ipset.fill_text((new,), (old,)) == "add KUBE-IPVS-IPS 10.96.0.3\n"
    assert ipset.empty_text((new,), (old,)) == "del KUBE-IPVS-IPS 10.96.0.1\n"


def test_a_set_of_another_type_is_made_anew_with_all_its_entries() -> None:
    entries = tuple(IpSetEntry("node1", "KUBE-IPVS-IPS", f"10.96.0.{number}") for number in (1, 2))
    wrong = IpSet("node1", "KUBE-IPVS-IPS", "hash:net", 4)
    apply((NODE, wrong, *entries))
    turn((wrong, *entries), (NODE, DUMMY, IpSet("node1", "KUBE-IPVS-IPS", "hash:ip", 4), *entries))


def test_flushed_and_foreign_sets_are_drift() -> None:
    plan = (NODE, DUMMY, *every_set())
    apply(plan)
    for words in (("flush", "KUBE-CLUSTER-IP"), ("create", "foreign", "hash:ip")):
        assert processes.run([ipset.program(), *words], "node1").returncode == 0
    found = see(plan)
    assert set(plan) - found == {
        item for item in plan if isinstance(item, IpSetEntry) and item.set == "KUBE-CLUSTER-IP"
    }
    assert found - set(plan) == {IpSet("node1", "foreign", "hash:ip", 4)}
    turn((), plan)


def test_an_entry_that_is_refused_is_named() -> None:
    bad = IpSetEntry("node1", "KUBE-IPVS-IPS", "no-address")
    with pytest.raises(KernelError) as caught:
        apply((NODE, IpSet("node1", "KUBE-IPVS-IPS", "hash:ip", 4), bad))
    assert caught.value.subject == "add KUBE-IPVS-IPS no-address"
    assert caught.value.netns == "node1"


def test_the_dummy_holds_addresses_and_is_down_whatever_stands_in_for_it() -> None:
    addresses = (
        Address("node1", "kube-ipvs0", ip_interface("10.96.0.1/32")),
        Address("node1", "kube-ipvs0", ip_interface("fd00:10:96::1/128")),
    )
    plan = (NODE, DUMMY, *addresses)
    apply(plan)
    assert see(plan) == set(plan)
    shown = json.loads(processes.run(["ip", "-j", "-d", "link", "show", "kube-ipvs0"], "node1").stdout)
    assert [(link["ifindex"], link["address"], "UP" in link["flags"]) for link in shown] == [(6, DUMMY.mac, False)]
    assert shown[0]["linkinfo"]["info_kind"] in ("dummy", "bridge")
    # Local on a link that is down: that is what IPVS asks for.
    for address in ("10.96.0.1", "fd00:10:96::1"):
        route = json.loads(processes.run(["ip", "-j", "route", "get", address], "node1").stdout)
        assert route[0]["dev"] == "lo"


def test_a_dummy_set_up_by_hand_is_drift_and_is_set_down() -> None:
    plan = (NODE, DUMMY)
    apply(plan)
    assert processes.run(["ip", "link", "set", "kube-ipvs0", "up"], "node1").returncode == 0
    assert see(plan) == {NODE, Dummy("node1", "kube-ipvs0", 6, DUMMY.mac, 1500, up=True)}
    turn((), plan)


def test_an_address_that_goes_leaves_the_others() -> None:
    kept, gone = (Address("node1", "kube-ipvs0", ip_interface(f"10.96.0.{number}/32")) for number in (1, 2))
    apply((NODE, DUMMY, kept, gone))
    turn((DUMMY, kept, gone), (NODE, DUMMY, kept))


def test_without_ipvs_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of the development machine has none, that of `make vm-test` has: neither is asked here."""
    monkeypatch.setattr("k8snetlab.kernel.ipvs._FAMILY_NAME", "NO-SUCH-FAMILY")
    with pytest.raises(HostError, match="needs IPVS") as caught:
        apply((NODE, DUMMY, VirtualServer("node1", "TCP", ip_address("10.96.0.1"), 80, "rr")))
    assert "modprobe ip_vs" in caught.value.hint
    assert netns.names() == frozenset()
    assert list(ipvs.read("node1")) == []
