"""judge: when a check passes, and what it says when it does not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from k8snetlab.flows.model import Check, Flow, FlowProtocol, Outcome, Place, Result, SeenSource
from k8snetlab.flows.verdict import judge, settle

WEB = ("shop/web-0", "shop/web-1")


def check(
    expected: Outcome = "ok",
    *,
    servers: tuple[str, ...] = (),
    source: SeenSource | None = None,
    sources: tuple[str, ...] = (),
    protocol: FlowProtocol = "HTTP",
    kind: str = "pod-to-clusterip",
) -> Check:
    sender, destination = Place(kind="pod", name="shop/api", netns="shop_api"), Place(kind="service", name="shop/web")
    return Check(
        type=kind,
        name="api to web",
        flow=Flow(sender=sender, destination=destination, address="10.96.0.10", protocol=protocol, port=80),
        expected=expected,
        servers=servers,
        source=source,
        sources=tuple(ip_address(text) for text in sources),
    )


def ok(server: str = "shop/web-0", source: str = "10.244.1.2") -> Result:
    return Result(outcome="ok", rtt_ms=0.5, server=server, source=source)


@pytest.mark.parametrize(
    ("check", "result"),
    [
        pytest.param(check(), ok(), id="ok"),
        pytest.param(check(servers=WEB), ok("shop/web-1"), id="one-of-the-servers"),
        pytest.param(check(source="pod", sources=("10.244.1.2",)), ok(), id="source"),
        pytest.param(check(source="node", sources=("fd00:0::1",)), ok(source="fd00::1"), id="source-other-spelling"),
        pytest.param(check("refused"), Result(outcome="refused"), id="refused-as-expected"),
        pytest.param(check("timeout"), Result(outcome="timeout"), id="timeout-as-expected"),
        pytest.param(check("refused", servers=WEB), Result(outcome="refused"), id="nobody-answers-a-refused-one"),
        pytest.param(check(servers=WEB, protocol="TCP"), ok(server=""), id="a-program-of-the-users"),
        pytest.param(check(sources=("10.0.0.1",), protocol="TCP"), ok("", ""), id="a-program-tells-no-source"),
        pytest.param(
            check(sources=("10.0.0.1",), protocol="ICMP", kind="custom"), ok("", ""), id="ping-tells-no-source"
        ),
    ],
)
def test_passes(check: Check, result: Result) -> None:
    verdict = judge(check, result)
    assert verdict.passed
    assert (verdict.check, verdict.result, verdict.reason) == (check, result, result.reason)


@pytest.mark.parametrize(
    ("check", "result", "reason"),
    [
        pytest.param(check(), Result(outcome="timeout"), "expected ok, got timeout", id="timeout"),
        pytest.param(
            check("timeout"),
            Result(outcome="refused", reason="connection refused"),
            "expected timeout, got refused: connection refused",
            id="refused",
        ),
        pytest.param(check("refused"), ok(), "expected refused, got ok", id="answered"),
        pytest.param(
            check("timeout"), Result(outcome="error", reason="no program ping"), "no program ping", id="could-not-run"
        ),
        pytest.param(check("error"), Result(outcome="error"), "the probe could not run", id="error-never-passes"),
        pytest.param(
            check(servers=WEB),
            ok("shop/db"),
            "answered by shop/db, expected shop/web-0 or shop/web-1",
            id="wrong-server",
        ),
        pytest.param(
            check(source="pod", sources=("10.244.1.2",)),
            ok(source="192.168.50.11"),
            "the server saw 192.168.50.11, expected 10.244.1.2 (pod)",
            id="wrong-source",
        ),
        pytest.param(
            check(source="pod", sources=("10.244.1.2",), kind="custom"),
            ok(server="", source=""),
            "the server does not say which address it saw",
            id="asked-for-source-untold",
        ),
        pytest.param(
            check(sources=("10.0.0.1",)),
            ok(source=""),
            "the server does not say which address it saw",
            id="source-untold",
        ),
        pytest.param(
            check(servers=WEB),
            ok(server=""),
            "answered by nobody known, expected shop/web-0 or shop/web-1",
            id="untold",
        ),
    ],
)
def test_fails(check: Check, result: Result, reason: str) -> None:
    verdict = judge(check, result)
    assert not verdict.passed
    assert verdict.reason == reason


DENIED = "NetworkPolicy shop/web isolates shop/web-1"


def some_endpoints() -> Check:
    return replace(check(servers=("shop/web-0",)), forbidden=("shop/web-1",), tries=3, because=DENIED)


def test_a_denied_check_says_by_what() -> None:
    denied = replace(check("timeout"), because=DENIED)
    assert judge(denied, Result(outcome="timeout", reason="silence")).reason == f"silence: {DENIED}"
    assert judge(denied, ok()).reason == f"expected timeout, got ok: {DENIED}"


def test_an_answer_by_one_that_policies_deny_decides() -> None:
    several = some_endpoints()
    tries = [judge(several, result) for result in (ok(), Result(outcome="timeout"), ok("shop/web-1"))]
    verdict = settle(several, tries)
    assert (verdict.passed, verdict.reason) == (False, f"answered by shop/web-1, which must not: {DENIED}")


def test_silence_is_no_failure_where_another_try_is_answered() -> None:
    several = some_endpoints()
    assert settle(several, [judge(several, Result(outcome="timeout")), judge(several, ok())]).passed
    assert not settle(several, [judge(several, Result(outcome="timeout"))]).passed


@pytest.mark.parametrize(
    ("wanted", "seen", "reason"),
    [
        pytest.param((404, ""), Result(outcome="refused", status=404), "", id="the status"),
        pytest.param(
            (404, ""), Result(outcome="refused", status=503), "expected HTTP 404, got HTTP 503", id="another status"
        ),
        pytest.param((308, "https://a/"), Result(outcome="ok", status=308, location="https://a/"), "", id="a redirect"),
        pytest.param(
            (308, "https://a/"),
            Result(outcome="ok", status=308, location="https://b/"),
            "redirected to https://b/, expected https://a/",
            id="a redirect elsewhere",
        ),
    ],
)
def test_the_status_and_target_of_an_http_answer(wanted: tuple[int, str], seen: Result, reason: str) -> None:
    status, location = wanted
    asked = replace(check("refused" if status >= 400 else "ok"), status=status, location=location)
    verdict = judge(asked, seen)
    assert (verdict.passed, verdict.reason) == (not reason, reason)


def test_silence_is_no_status() -> None:
    asked = replace(check("refused"), status=404)
    assert judge(asked, Result(outcome="timeout")).reason == "expected refused, got timeout"
