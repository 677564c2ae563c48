"""From resolv.conf and a name to the questions (resolv.conf(5))."""

from __future__ import annotations

import pytest

from k8snetlab.flows.lookup import ResolvConf, candidates, parse

POD = "search a.svc.zone svc.zone zone\nnameserver 10.96.0.10\noptions ndots:5\n"


def test_parse() -> None:
    assert parse(POD) == ResolvConf(("10.96.0.10",), ("a.svc.zone", "svc.zone", "zone"), 5)
    text = "# comment\n; another\nsearch x\nsearch y z\nnameserver 1\nnameserver 2\nnameserver 3\nnameserver 4\n"
    assert parse(f"{text}options rotate ndots:99 timeout:1\nnameserver\n") == ResolvConf(
        ("1", "2", "3"), ("y", "z"), 15
    )
    assert parse("") == ResolvConf((), (), 1)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("web", ("web.a.svc.zone", "web.svc.zone", "web.zone", "web"), id="search first"),
        pytest.param(
            "a.b.c.d.e.f",
            ("a.b.c.d.e.f", "a.b.c.d.e.f.a.svc.zone", "a.b.c.d.e.f.svc.zone", "a.b.c.d.e.f.zone"),
            id="five dots",
        ),
        pytest.param("web.", ("web",), id="complete"),
    ],
)
def test_candidates(name: str, found: tuple[str, ...]) -> None:
    assert candidates(parse(POD), name) == found
