"""Plan against kernel."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest

from k8snetlab.lab.diff import diff, identity, namespaces
from k8snetlab.plan.state import Address, IptablesChain, KernelObject, Netns, Plan, Route, Sysctl

NODE, POD = Netns("node1"), Netns("shop_api")
ADDRESS = Address("node1", "eth0", IPv4Interface("172.18.0.2/16"))
FORWARD = Sysctl("node1", "net.ipv4.ip_forward", "1")
ROUTE = Route("node1", IPv4Network("10.244.1.0/24"), link="eth0")
CHAIN = IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-j A", "-j B"))
PLAN = Plan((NODE, POD, FORWARD, ADDRESS, ROUTE, CHAIN))


def test_equal() -> None:
    drift = diff(PLAN, reversed(PLAN.objects))
    assert not drift
    assert (drift.missing, drift.extra, drift.details) == ((), (), {})


def test_missing_in_the_plans_order_and_extra() -> None:
    other = Netns("somebody")
    drift = diff(PLAN, [other, ADDRESS, NODE, FORWARD, CHAIN, other])
    assert drift.missing == (POD, ROUTE)
    assert drift.extra == (other,)
    assert drift.details == {}


@pytest.mark.parametrize(
    ("there", "detail"),
    [
        pytest.param(Sysctl("node1", FORWARD.key, "0"), "value 0, planned 1", id="sysctl"),
        pytest.param(Route("node1", ROUTE.destination, link="eth1"), "link eth1, planned eth0", id="route"),
        pytest.param(
            IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-j A", "-j C")), "lacks: -j B; has: -j C", id="rule"
        ),
        pytest.param(
            IptablesChain("node1", 4, "nat", "KUBE-SERVICES", "", ("-j B", "-j A")),
            "the rules are in another order",
            id="order",
        ),
    ],
)
def test_a_changed_object_is_missing_and_extra(there: KernelObject, detail: str) -> None:
    planned = next(item for item in PLAN.objects if identity(item) == identity(there))
    drift = diff(PLAN, [there, *(item for item in PLAN.objects if item != planned)])
    assert (drift.missing, drift.extra) == ((planned,), (there,))
    assert list(drift.details.values()) == [detail]


def test_namespaces() -> None:
    assert namespaces(PLAN.objects) == {"node1", "shop_api"}
