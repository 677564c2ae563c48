"""What a query is answered with, byte for byte where it matters, and what is no query."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.workloads.dnsanswer import NXDOMAIN, Query, View, find, read_query, reply
from k8snetlab.workloads.dnswire import TYPES, Message, encode_name, question

SOA = "5 SOA ns.dns.zone. hostmaster.zone. 1 7200 1800 86400 5"
WEB = "5 SRV 0 100 80 web.a.svc.zone."


@pytest.fixture
def view() -> View:
    view = View()
    for name, records in {
        "zone": [SOA],
        "web.a.svc.zone": ["5 A 10.0.0.1", WEB],
        "_http._tcp.web.a.svc.zone": [WEB],
        "many.a.svc.zone": [f"5 A 10.0.{n // 256}.{n % 256}" for n in range(100)],
        "dual.a.svc.zone": ["5 A 10.0.0.1", "5 AAAA fd00::1"],
        "in.a.svc.zone": ["5 CNAME web.a.svc.zone."],
        "out.a.svc.zone": ["5 CNAME www.example.com."],
        "gone.a.svc.zone": ["5 CNAME nowhere.zone."],
        "round.a.svc.zone": ["5 CNAME round.a.svc.zone."],
        "a.svc.zone": [],
        "a.pod.zone": [],
        "*.wild.zone": ["5 A 10.9.9.9"],
        "wild.zone": [],
        "kept.wild.zone": [],
    }.items():
        view.set(name, records)
    return view


def ask(view: View, name: str, kind: str, size: int = 1232, number: int = 1) -> Message:
    query = read_query(question(number, name, TYPES[kind], size))
    assert isinstance(query, Query)
    found = find(view, query.name, query.kind, echo_pods=True, turn=query.id)
    soa = b"" if found.answers else view.zones.get(found.zone or b"", b"")
    return Message(reply(query, found.code, found, soa))


def answers(message: Message) -> list[str]:
    return [f"{owner} {record}" for owner, record in message.sections[0]]


@pytest.mark.parametrize(
    ("name", "kind", "code", "found"),
    [
        pytest.param("web.a.svc.zone", "A", "NOERROR", ["web.a.svc.zone 5 A 10.0.0.1"], id="address"),
        pytest.param("WEB.a.SVC.zone", "A", "NOERROR", ["WEB.a.SVC.zone 5 A 10.0.0.1"], id="the client's own case"),
        pytest.param("web.a.svc.zone", "AAAA", "NOERROR", [], id="no such record"),
        pytest.param("a.svc.zone", "A", "NOERROR", [], id="name without records"),
        pytest.param("nobody.a.svc.zone", "A", "NXDOMAIN", [], id="no such name"),
        pytest.param("x.web.a.svc.zone", "A", "NXDOMAIN", [], id="below a name"),
        pytest.param(
            "in.a.svc.zone", "A", "NOERROR",
            ["in.a.svc.zone 5 CNAME web.a.svc.zone.", "web.a.svc.zone 5 A 10.0.0.1"], id="alias",
        ),
        pytest.param("in.a.svc.zone", "CNAME", "NOERROR", ["in.a.svc.zone 5 CNAME web.a.svc.zone."], id="alias itself"),
        pytest.param(
            "gone.a.svc.zone", "A", "NXDOMAIN", ["gone.a.svc.zone 5 CNAME nowhere.zone."], id="alias to nothing"
        ),
        pytest.param(
            "web.a.svc.zone", "ANY", "NOERROR", ["web.a.svc.zone 5 A 10.0.0.1", f"web.a.svc.zone {WEB}"], id="any"
        ),
        pytest.param("10-0-0-7.a.pod.zone", "A", "NOERROR", ["10-0-0-7.a.pod.zone 5 A 10.0.0.7"], id="pod"),
        pytest.param("10-0-0-7.a.pod.zone", "AAAA", "NOERROR", [], id="pod of the other family"),
        pytest.param("fd00--7.a.pod.zone", "AAAA", "NOERROR", ["fd00--7.a.pod.zone 5 AAAA fd00::7"], id="pod, IPv6"),
        pytest.param("1-2-3.a.pod.zone", "A", "NXDOMAIN", [], id="no address"),
        pytest.param("10-0-0-7.b.pod.zone", "A", "NXDOMAIN", [], id="no such namespace"),
        pytest.param("x.10-0-0-7.a.pod.zone", "A", "NXDOMAIN", [], id="below a pod"),
        pytest.param("x.y.wild.zone", "A", "NOERROR", ["x.y.wild.zone 5 A 10.9.9.9"], id="wildcard"),
        pytest.param("x.kept.wild.zone", "A", "NXDOMAIN", [], id="a name hides the wildcard"),
    ],
)  # fmt: skip
def test_answers(view: View, name: str, kind: str, code: str, found: list[str]) -> None:
    message = ask(view, name, kind)
    assert (message.code, answers(message)) == (code, found)
    assert message.name == name
    authority = [("zone", SOA)] if not found else []
    assert message.sections[1] == authority


def test_srv_brings_the_address_of_its_target(view: View) -> None:
    message = ask(view, "_http._tcp.web.a.svc.zone", "SRV")
    assert ("web.a.svc.zone", "5 A 10.0.0.1") in message.sections[2]


def test_a_circle_of_aliases_ends(view: View) -> None:
    assert len(answers(ask(view, "round.a.svc.zone", "A"))) == 8


def test_names_are_compressed(view: View) -> None:
    query = read_query(question(1, "many.a.svc.zone", 1, 4096))
    assert isinstance(query, Query)
    query.size = 65535
    message = reply(query, 0, find(view, query.name, 1, echo_pods=False))
    assert len(message) == 12 + len(encode_name("many.a.svc.zone")) + 4 + 100 * 16 + 11


@pytest.mark.parametrize(
    "size", [pytest.param(0, id="without EDNS0"), pytest.param(700, id="700"), pytest.param(9000, id="9000")]
)
def test_what_does_not_fit_is_left_out_and_said(view: View, size: int) -> None:
    query = read_query(question(1, "many.a.svc.zone", 1, size))
    assert isinstance(query, Query)
    data = reply(query, 0, find(view, query.name, 1, echo_pods=False))
    assert Message(data).truncated
    assert 12 < len(data) <= {0: 512, 700: 700, 9000: 1232}[size]


def test_several_addresses_take_turns(view: View) -> None:
    firsts = {answers(ask(view, "many.a.svc.zone", "A", number=n))[0] for n in range(20)}
    assert len(firsts) == 20


def test_outside_is_for_another_server(view: View) -> None:
    assert find(view, encode_name("www.example.com"), 1, echo_pods=True).outside == encode_name("www.example.com")
    found = find(view, encode_name("out.a.svc.zone"), 1, echo_pods=True)
    assert (len(found.answers), found.outside) == (1, encode_name("www.example.com"))


def test_what_is_forgotten_is_no_more(view: View) -> None:
    view.remove("web.a.svc.zone")
    assert ask(view, "web.a.svc.zone", "A").code == "NXDOMAIN"
    view.remove("zone")
    assert view.zone_of(encode_name("web.a.svc.zone")) is None


QUESTION = question(0x1234, "web.a.svc.zone", 1, 0)
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def patched(at: int, data: bytes, tail: bytes = b"", message: bytes = QUESTION) -> bytes:
    return message[:at] + data + message[at + len(data) :] + tail


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(patched(2, b"\x28\x00"), "NOTIMP", id="update"),
        pytest.param(patched(2, b"\x10\x00"), "NOTIMP", id="status"),
        pytest.param(patched(4, b"\0\2"), "FORMERR", id="two questions"),
        pytest.param(patched(4, b"\0\0"), "FORMERR", id="no question"),
        pytest.param(patched(6, b"\0\1"), "FORMERR", id="an answer in a question"),
        pytest.param(QUESTION[:-3], "FORMERR", id="cut short"),
        pytest.param(patched(12, b"\xc0\x0c"), "FORMERR", id="pointer to itself"),
        pytest.param(patched(12, b"\x7f"), "FORMERR", id="label too long"),
        pytest.param(QUESTION[:-2] + b"\0\3", "REFUSED", id="class CHAOS"),
        pytest.param(patched(10, b"\0\1"), "FORMERR", id="an additional that is not there"),
        pytest.param(patched(10, b"\0\2", OPT + OPT), "FORMERR", id="two OPT records"),
        pytest.param(patched(10, b"\0\1", b"\xc0\x23" + OPT), "FORMERR", id="pointer ahead"),
        pytest.param(patched(10, b"\0\1", OPT[:-2] + b"\xff\xff"), "FORMERR", id="options beyond the end"),
    ],
)
def test_refusals(data: bytes, code: str) -> None:
    refusal = read_query(data)
    assert isinstance(refusal, bytes)
    assert (Message(refusal).id, Message(refusal).code) == (0x1234, code)


def test_a_later_version_of_edns_is_not_known() -> None:
    refusal = read_query(patched(10, b"\0\1", OPT[:6] + b"\x01" + OPT[7:]))
    assert isinstance(refusal, bytes)
    assert Message(refusal).sections[2][0][1].startswith(f"{1 << 24} OPT")  # the upper bits of BADVERS


@pytest.mark.parametrize("data", [b"", b"\0" * 11, patched(2, b"\x81\x80")], ids=["nothing", "too short", "a reply"])
def test_what_is_never_answered(data: bytes) -> None:
    assert read_query(data) is None


@given(st.binary(max_size=120))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    understood = read_query(data)
    if isinstance(understood, bytes):
        assert len(understood) >= 12
        assert understood[2] & 0x80


def test_a_name_of_127_labels_costs_little(view: View) -> None:
    name = encode_name(".".join(["x"] * 122 + ["zone"]))
    begin = time.process_time()
    for _ in range(200):
        assert find(view, name, 1, echo_pods=True).code == NXDOMAIN
    assert time.process_time() - begin < 0.5
