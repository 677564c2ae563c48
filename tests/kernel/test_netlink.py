"""Netlink by hand: what is packed is what others pack, and no error is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pytest
from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from k8snetlab.errors import KernelError
from k8snetlab.kernel import addresses, links, netlink, netns
from k8snetlab.plan.state import Address, Bridge, KernelObject, Neighbour, Netns, Veth

POD = Veth("n", "veth0", 100, "0e:00:00:00:00:01", 1450, "p", "eth0", 2, "0a:00:00:00:00:01", 1400, "cni0", True)


def decode(kind: type[nlmsg], data: bytes) -> nlmsg:
    """The first message, by pyroute2."""
    decoded = kind(data)
    decoded.decode()
    return decoded


@pytest.mark.parametrize("length", range(9))
def test_attributes_are_padded_to_four_bytes(length: int) -> None:
    data = bytes(range(length))
    packed = netlink.attribute(7, data) + netlink.u32(8, 99)
    assert len(packed) % 4 == 0
    assert netlink.attributes(packed) == {7: data, 8: (99).to_bytes(4, "little")}


def test_nested_attributes() -> None:
    packed = netlink.nested(18, netlink.text(1, "veth"), netlink.u8(2, 5))
    assert netlink.attributes(packed).keys() == {18}
    inner = netlink.attributes(netlink.attributes(packed)[18])
    assert netlink.string(inner, 1) == "veth"
    assert inner[2] == b"\x05"


@pytest.mark.parametrize("data", [b"\0\0", b"\0\0\0\0", b"\x03\0\x01\0", b"\xff\xff\x01\0ab"], ids=lambda d: d.hex())
def test_malformed_attributes_end_the_reading(data: bytes) -> None:
    assert netlink.attributes(data) in ({}, {1: b"ab"})


def test_absent_attributes_have_defaults() -> None:
    assert netlink.string({}, 3) == ""
    assert netlink.number({}, 4, 7) == 7


def test_a_veth_as_pyroute2_reads_it() -> None:
    message = decode(ifinfmsg, links.veth(POD, 33, 3))
    assert message["index"] == 100
    assert message.get_attr("IFLA_IFNAME") == "veth0"
    assert message.get_attr("IFLA_ADDRESS") == POD.mac
    assert message.get_attr("IFLA_MTU") == 1450
    assert message.get_attr("IFLA_MASTER") == 3
    assert message.get_attr("IFLA_NUM_TX_QUEUES") == 1
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer["index"] == 2
    assert (peer.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_MTU")) == ("eth0", 1400)
    assert peer.get_attr("IFLA_NET_NS_FD") == 33


def test_an_address_as_pyroute2_reads_it() -> None:
    message = decode(ifaddrmsg, addresses.address(Address("n", "eth0", ip_interface("fd00::2/64")), 2))
    assert (message["prefixlen"], message["index"], message["flags"] & 2) == (64, 2, 2)
    assert message.get_attr("IFA_ADDRESS") == "fd00::2"


def test_a_neighbour_as_pyroute2_reads_it() -> None:
    item = Neighbour("n", "eth0", ip_address("10.0.0.1"), "0a:00:00:00:00:01")
    message = decode(ndmsg, addresses.neighbour(item, 2))
    assert (message["ifindex"], message["state"]) == (2, 0x80)
    assert (message.get_attr("NDA_DST"), message.get_attr("NDA_LLADDR")) == ("10.0.0.1", item.mac)


@pytest.mark.root
@pytest.mark.usefixtures("lab")
class TestSocket:
    @pytest.fixture(name="connection")
    def connection_fixture(self) -> Iterator[netlink.Socket]:
        with netns.returning():
            os.close(netns.create("n"))
            connection = netlink.Socket("n")
        with connection:
            yield connection

    def bridges(self, connection: netlink.Socket) -> set[str]:
        bodies = connection.dump(links.RTM_GETLINK, links.INFO.pack(0, 0, 0, 0, 0))
        found = (netlink.attributes(body, links.INFO.size) for body in bodies)
        return {netlink.string(link, links.IFLA_IFNAME) for link in found if links.kind(link) == "bridge"}

    def test_it_stays_in_its_namespace(self, connection: netlink.Socket) -> None:
        bridge = Bridge("n", "br0", 10, "0e:00:00:00:00:01", 1500)
        connection.send("create", [(bridge, links.bridge(bridge))])
        assert self.bridges(connection) == {"br0"}

    def test_the_first_error_and_the_count_of_the_others(self, connection: netlink.Socket) -> None:
        made = [Bridge("n", f"br{i}", 10 + i, "0e:00:00:00:00:01", 1500) for i in range(3)]
        wrong = [Address("n", "eth0", ip_interface(f"10.0.0.{i}/24")) for i in range(1, 4)]
        requests: list[tuple[KernelObject, bytes]] = [(made[0], links.bridge(made[0]))]
        requests += [(item, addresses.address(item, 99)) for item in wrong]
        requests += [(item, links.bridge(item)) for item in made[1:]]
        with pytest.raises(KernelError) as caught:
            connection.send("create", requests)
        assert caught.value.subject == "address 10.0.0.1/24 dev eth0"
        assert caught.value.netns == "n"
        assert caught.value.reason.endswith("(and 2 more)")
        assert self.bridges(connection) == {"br0", "br1", "br2"}, "the rest is made"

    def test_the_kernel_says_why(self, connection: netlink.Socket) -> None:
        bridge = Bridge("n", "lo", 10, "0e:00:00:00:00:01", 0x7FFFFFFF)
        with pytest.raises(KernelError, match=r"create bridge lo in n: .+: .+"):
            connection.send("create", [(bridge, links.bridge(bridge))])

    def test_tolerated_errors_are_none(self, connection: netlink.Socket) -> None:
        item = Address("n", "eth0", ip_interface("10.0.0.1/24"))
        connection.send("remove", [(item, addresses.address(item, 99, delete=True))], tolerate=netlink.GONE)

    def test_more_errors_than_the_socket_holds(self, connection: netlink.Socket) -> None:
        items = [Address("n", "eth0", ip_interface((0x0A000001 + i, 32))) for i in range(20_000)]
        with pytest.raises(KernelError) as caught:
            connection.send("create", [(item, addresses.address(item, 99)) for item in items])
        assert caught.value.subject == "address 10.0.0.1/32 dev eth0"

    def test_the_only_error_is_the_last_of_many(self, connection: netlink.Socket) -> None:
        """Over many sends; none of them asks for an acknowledgement."""
        items = [Address("n", "lo", ip_interface((0x0A000001 + i, 32))) for i in range(8_000)]
        requests = [(item, addresses.address(item, links.LOOPBACK)) for item in items]
        assert sum(len(data) for _, data in requests) > 2 * 128 * 1024
        with pytest.raises(KernelError) as caught:
            connection.send("create", [*requests, requests[0]])
        assert caught.value.subject == "address 10.0.0.1/32 dev lo"
        assert "more" not in caught.value.reason
        bodies = connection.dump(addresses.RTM_GETADDR, addresses.ADDRESS.pack(0, 0, 0, 0, 0))
        assert len(bodies) == 8_000

    def test_a_request_refused_has_no_answer(self, connection: netlink.Socket) -> None:
        there = netlink.message(links.RTM_GETLINK, 0, links.INFO.pack(0, 0, 1, 0, 0))
        missing = netlink.message(links.RTM_GETLINK, 0, links.INFO.pack(0, 0, 77, 0, 0))
        answers = connection.ask([missing, there] * 100)
        assert [answer is None for answer in answers] == [True, False] * 100

    def test_a_dump_refused_is_an_error(self, connection: netlink.Socket) -> None:
        with pytest.raises(KernelError, match="read in n: "):
            connection.dump(0xFE, links.INFO.pack(0, 0, 0, 0, 0))  # no such request

    def test_nothing_to_send(self, connection: netlink.Socket) -> None:
        connection.send("create", [])
        connection.send("change", [(Netns("n"), b"")])
