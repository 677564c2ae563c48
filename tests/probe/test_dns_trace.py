"""What is a DNS message among the packets that pass, and which answer belongs to which question."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.probe.dns_trace import Packet, match, read_packet
from k8snetlab.workloads.dnswire import encode_record, question

QUESTION = question(7, "web.shop", 1, 0)
ANSWER = QUESTION[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + QUESTION[12:] + b"\xc0\x0c" + encode_record("5 A 10.96.0.1")
CLIENT, SERVER = "10.244.0.2", "10.96.0.10"


def udp4(source: str, sport: int, target: str, dport: int, body: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return b"\x45" + bytes(8) + b"\x11" + bytes(2) + ends + struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body


def udp6(source: str, sport: int, target: str, dport: int, body: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    return b"\x60" + bytes(5) + b"\x11\x40" + ends + struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body


def tcp4(source: str, sport: int, target: str, dport: int, body: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 0x50, 0x18, 1000, 0, 0)
    return b"\x45" + bytes(8) + b"\x06" + bytes(2) + ends + head + body


@pytest.mark.parametrize(
    ("data", "client", "server", "protocol"),
    [
        pytest.param(udp4(CLIENT, 4000, SERVER, 53, QUESTION), 4000, SERVER, "UDP", id="question"),
        pytest.param(udp4(SERVER, 53, CLIENT, 4000, ANSWER), 4000, SERVER, "UDP", id="answer"),
        pytest.param(udp6("fd00::2", 4000, "fd00::a", 53, QUESTION), 4000, "fd00::a", "UDP", id="IPv6"),
        pytest.param(
            tcp4(CLIENT, 4000, SERVER, 53, len(QUESTION).to_bytes(2, "big") + QUESTION), 4000, SERVER, "TCP", id="TCP"
        ),
    ],
)
def test_messages(data: bytes, client: int, server: str, protocol: str) -> None:
    packet = read_packet(data)
    assert packet is not None
    assert (packet.client, packet.server, packet.protocol, packet.message.name) == (
        client,
        server,
        protocol,
        "web.shop",
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(udp4(CLIENT, 4000, SERVER, 54, QUESTION), id="another port"),
        pytest.param(udp4(CLIENT, 4000, SERVER, 53, b"hello"), id="no DNS"),
        pytest.param(tcp4(CLIENT, 4000, SERVER, 53, b""), id="an acknowledgement"),
        pytest.param(udp4(CLIENT, 4000, SERVER, 53, QUESTION)[:24], id="cut short"),
    ],
)
def test_others(data: bytes) -> None:
    assert read_packet(data) is None


@given(st.binary(max_size=100))
def test_any_packet_can_pass(data: bytes) -> None:
    with suppress(AssertionError):
        read_packet(data)
        read_packet(udp4(CLIENT, 1, SERVER, 53, data))
        return
    pytest.fail("a packet cannot stop the watcher")


def test_answers_find_their_questions() -> None:
    def at(when: float, data: bytes) -> Packet:
        packet = read_packet(data)
        assert packet is not None
        return replace(packet, when=when)

    asked = match(
        [
            at(1.000, udp4(CLIENT, 4000, SERVER, 53, QUESTION)),
            at(1.001, udp4(CLIENT, 4001, SERVER, 53, QUESTION)),
            at(1.002, udp4(SERVER, 53, CLIENT, 4000, ANSWER)),
            at(1.003, udp4(SERVER, 53, CLIENT, 4002, ANSWER)),  # nobody asked
        ]
    )
    assert [(each.code, each.answers) for each in asked] == [("NOERROR", ("A 10.96.0.1",)), ("", ())]
    assert asked[0].ms == pytest.approx(2)
    assert asked[1].at_ms == pytest.approx(1)
    assert asked[1].ms is None
