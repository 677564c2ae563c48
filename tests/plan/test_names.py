"""Names of interfaces and MACs that the plan derives: short enough, unique where they must be, and stable."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster import names

NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=253)


@given(namespace=NAME, name=NAME, slot=st.integers(1, 2**20))
def test_a_pods_interface_fits_the_kernel(namespace: str, name: str, slot: int) -> None:
    veth = names.pod_veth(namespace, name, slot)
    assert len(veth) <= 15
    assert veth.startswith("veth")
    assert veth == names.pod_veth(namespace, name, slot)


@given(pods=st.lists(st.tuples(NAME, NAME), min_size=2, max_size=40, unique=True))
def test_no_two_pods_of_a_node_share_an_interface_name(pods: list[tuple[str, str]]) -> None:
    veths = [names.pod_veth(namespace, name, slot) for slot, (namespace, name) in enumerate(pods, 2)]
    assert len(set(veths)) == len(pods)


@pytest.mark.parametrize("address", ["10.244.0.5", "fd00:10:244::5"])
def test_macs_are_local_unicast_and_both_ends_differ(address: str) -> None:
    mac = names.mac_of(ip_address(address))
    port = names.port_mac(mac)
    assert mac != port
    for text in (mac, port):
        first = int(text[:2], 16)
        assert first & 0b11 == 0b10  # locally administered, unicast
        assert len(text.split(":")) == 6


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        (names.CLIENT, 4, "203.0.113.10"),
        (names.CLIENT, 6, "2001:db8:cb00:71::10"),
        (names.INTERNET, 4, "198.51.100.10"),
        (names.INTERNET, 6, "2001:db8:c633:64::10"),
    ],
)
def test_external_hosts_have_documentation_addresses(name: str, family: int, expected: str) -> None:
    address = names.outside_address(name, family)  # type: ignore[arg-type]
    assert str(address) == expected
    assert address in names.outside_network(name, family)  # type: ignore[arg-type]
