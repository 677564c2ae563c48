"""Names, records and messages on the wire, and what is none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.workloads.dnswire import (
    Message,
    encode_name,
    encode_record,
    name_text,
    question,
    read_name,
    record_text,
    split_blocks,
)


@pytest.mark.parametrize(
    "text",
    [
        "5 A 10.96.0.1",
        "5 AAAA fd00:10:96::1",
        "5 SRV 0 100 80 web.shop.svc.cluster.local.",
        "5 PTR web.shop.svc.cluster.local.",
        "5 CNAME my.database.example.com.",
        '28800 TXT "1.1.0"',
        "5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5",
        "5 NS ns.dns.cluster.local.",
    ],
)
def test_records_there_and_back(text: str) -> None:
    blocks = encode_record(text) + encode_record("5 A 10.0.0.1")
    assert [record_text(block) for block in split_blocks(blocks)] == [text, "5 A 10.0.0.1"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("5 A 10.96.0", id="address"),
        pytest.param("5 SRV 0 100 web.", id="numbers missing"),
        pytest.param("5 SRV 0 100 70000 web.", id="number too large"),
        pytest.param("5 MX 10 mail.", id="type"),
        pytest.param(f"5 CNAME {'x' * 64}.", id="label too long"),
        pytest.param("5 CNAME a..b.", id="empty label"),
    ],
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        encode_record(text)


def test_names() -> None:
    assert encode_name("Web.shop.") == b"\x03Web\x04shop\0"
    assert encode_name("") == encode_name(".") == b"\0"
    assert name_text(b"\x05a.b\\\xff\0") == "a\\046b\\092\\255"
    assert len(encode_name(".".join(["d" * 61] * 4) + ".ddddd")) == 255
    with pytest.raises(ValueError, match="no DNS name"):
        encode_name(".".join(["d" * 61] * 4) + ".dddddd")


@pytest.mark.parametrize(
    ("message", "at"),
    [
        pytest.param(b"\xc0\x00", 0, id="pointer to itself"),
        pytest.param(b"\xc0\x02\xc0\x00", 2, id="two that point to each other"),
        pytest.param(b"\xc0\x04\0\0\0", 0, id="pointer ahead"),
        pytest.param(b"\xc0", 0, id="half a pointer"),
        pytest.param(b"\x05ab", 0, id="label beyond the end"),
        pytest.param(b"\x01a", 0, id="no end"),
        pytest.param(b"\x80a\0", 0, id="reserved kind of label"),
        pytest.param(b"\x3f" + b"a" * 63 + b"\xc0\x00", 64, id="a name that contains itself"),
        pytest.param(b"\x01a\0" + b"".join(b"\x3f" + b"b" * 63 for _ in range(4)) + b"\xc0\x00", 3, id="too long"),
    ],
)
def test_hostile_names(message: bytes, at: int) -> None:
    with pytest.raises(ValueError, match=r"name|pointer"):
        read_name(message, at)


def test_many_pointers_in_a_row() -> None:
    """Each leads one step back: a name that takes 5,000 steps to read is none."""
    chain = b"\0\0" + b"".join((0xC000 | at).to_bytes(2, "big") for at in range(0, 10_000, 2))
    with pytest.raises(ValueError, match="pointer"):
        read_name(chain, len(chain) - 2)


def test_question() -> None:
    message = Message(question(7, "web.shop", 33))
    assert (message.id, message.name, message.kind, message.code) == (7, "web.shop", 33, "NOERROR")
    assert message.sections[2] == [("", "0 OPT \\# 0 ")]
    assert Message(question(7, "", 2, 0)).sections[2] == []


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_not(data: bytes) -> None:
    with suppress(ValueError):
        Message(data)


@given(st.binary(max_size=60), st.integers(0, 400), st.binary(max_size=4))
def test_a_damaged_message_is_one_or_is_not(tail: bytes, at: int, patch: bytes) -> None:
    whole = question(1, "a.b.cluster.local", 1)[:6] + b"\0\x03\0\0\0\0" + question(1, "a.b.cluster.local", 1)[12:]
    record = b"\xc0\x0c" + encode_record("5 SRV 0 1 2 x.")
    data = bytearray(whole + record * 3 + tail)
    data[at : at + len(patch)] = patch
    with suppress(ValueError):
        Message(bytes(data))
