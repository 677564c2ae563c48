"""What of a route ends up where in Envoy's configuration. That Envoy does with it what it should: tests/cli."""

from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.cluster.routing.model import (
    Backend,
    Forward,
    HeaderChange,
    Match,
    Mirror,
    PathChange,
    Redirect,
    Respond,
    Route,
    Upstream,
    ValueMatch,
    VirtualHost,
)
from k8snetlab.plan.gateway.routes import route_configuration

WEB, API = Upstream("shop/web", 80), Upstream("shop/api", 8080)
TO_WEB = Forward(backends=(Backend(upstream=WEB),))
ROOT = Match()


def rendered(*routes: Route, host: str = "x.com", one_label: bool = False, others: tuple[Route, ...] = ()) -> list[Any]:
    hosts = [VirtualHost(host, routes, one_label)]
    hosts += [VirtualHost("", others)] if others else []
    found: list[Any] = route_configuration("r", hosts)["virtual_hosts"][0]["routes"]
    return found


def route(match: Match = ROOT, action: Forward | Redirect | Respond = TO_WEB, **rest: HeaderChange) -> Route:
    return Route(match=match, action=action, origin="HTTPRoute shop/r", **rest)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        pytest.param(ROOT, {"prefix": "/"}, id="root"),
        pytest.param(Match(path="/a"), {"path_separated_prefix": "/a"}, id="prefix"),
        pytest.param(Match(kind="exact", path="/a/"), {"path": "/a/"}, id="exact"),
        pytest.param(Match(kind="regex", path="/a.*"), {"safe_regex": {"regex": "/a.*"}}, id="pattern"),
        pytest.param(
            Match(method="PUT", headers=(ValueMatch("x", "1"),)),
            {
                "prefix": "/",
                "headers": [
                    {"name": "x", "string_match": {"exact": "1"}},
                    {"name": ":method", "string_match": {"exact": "PUT"}},
                ],
            },
            id="header and method",
        ),
        pytest.param(
            Match(query=(ValueMatch("q", "a|b", regex=True),)),
            {"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "a|b"}}}]},
            id="parameter by a pattern",
        ),
        pytest.param(
            Match(query=(ValueMatch("q", "a b"),)),
            {
                "prefix": "/",
                "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": r"a(?:\ |(?i:%20)|\+)b"}}}],
            },
            id="parameter that a client has to escape",
        ),
    ],
)
def test_matches(match: Match, expected: dict[str, Any]) -> None:
    (found,) = rendered(route(match))
    assert found["match"] == expected
    assert found["route"]["cluster"] == "shop/web:80"


def test_shares_of_backends_and_of_those_that_are_not_there() -> None:
    backends = (
        Backend(upstream=WEB, weight=6),
        Backend(upstream=None, weight=1),
        Backend(upstream=None, weight=1, status=503),
        Backend(upstream=API, weight=2),
    )
    first, second, rest = rendered(route(action=Forward(backends=backends)))
    share = {"default_value": {"numerator": 100_000, "denominator": "MILLION"}}
    assert (first["direct_response"], first["match"]["runtime_fraction"]) == ({"status": 500}, share)
    assert second["direct_response"] == {"status": 503}
    assert second["match"]["runtime_fraction"]["default_value"]["numerator"] == 111_111, "a ninth of what is left"
    weights = {each["name"]: each["weight"] for each in rest["route"]["weighted_clusters"]["clusters"]}
    assert weights == {"shop/web:80": 6, "shop/api:8080": 2}


@pytest.mark.parametrize(
    ("match", "change", "expected"),
    [
        pytest.param(Match(path="/a"), PathChange(kind="prefix", value="/b/"), {"prefix_rewrite": "/b"}, id="prefix"),
        pytest.param(
            Match(path="/a"),
            PathChange(kind="prefix", value="/"),
            {"regex_rewrite": {"pattern": {"regex": "^/a/*"}, "substitution": "/"}},
            id="prefix by nothing",
        ),
        pytest.param(
            ROOT,
            PathChange(kind="prefix", value="/b"),
            {"regex_rewrite": {"pattern": {"regex": "^/"}, "substitution": "/b/"}},
            id="root by a prefix",
        ),
        pytest.param(ROOT, PathChange(kind="prefix", value="/"), {}, id="root by itself"),
        pytest.param(
            ROOT,
            PathChange(kind="full", value="/a\\1"),
            {"regex_rewrite": {"pattern": {"regex": "^/.*$"}, "substitution": "/a\\\\1"}},
            id="the whole path, literally",
        ),
        pytest.param(
            Match(kind="regex", path="/a/(.*)"),
            PathChange(kind="regex", value="/\\1"),
            {"regex_rewrite": {"pattern": {"regex": "^/a/(.*)$"}, "substitution": "/\\1"}},
            id="what a pattern captured",
        ),
    ],
)
def test_rewrites(match: Match, change: PathChange, expected: dict[str, Any]) -> None:
    (found,) = rendered(route(match, Forward(backends=(Backend(upstream=WEB),), path=change)))
    rewrites = {key: value for key, value in found["route"].items() if "rewrite" in key}
    assert rewrites == expected


def test_timeouts_hosts_and_mirrors() -> None:
    action = Forward(
        backends=(Backend(upstream=WEB),),
        host="inner.example",
        mirrors=(Mirror(upstream=API, numerator=1, denominator=3),),
        timeout=10,
        try_timeout=0.5,
    )
    (found,) = rendered(route(action=action))
    assert found["route"]["timeout"] == "10s"
    assert found["route"]["retry_policy"]["per_try_timeout"] == "0.5s"
    assert found["route"]["host_rewrite_literal"] == "inner.example"
    (mirror,) = found["route"]["request_mirror_policies"]
    assert mirror["runtime_fraction"]["default_value"]["numerator"] == 333_333


def test_no_timeout_is_no_limit() -> None:
    assert rendered(route())[0]["route"]["timeout"] == "0s"


def test_headers_of_users_hold_no_variables_of_envoy() -> None:
    change = HeaderChange(set=(("X-A", "100%"), ("Host", "h.example")), add=(("X-B", "2"),), remove=("X-C", "host"))
    (found,) = rendered(route(request_headers=change, response_headers=HeaderChange(remove=("Server",))))
    added = {
        each["header"]["key"]: (each["header"]["value"], each["append_action"])
        for each in found["request_headers_to_add"]
    }
    assert added == {"X-A": ("100%%", "OVERWRITE_IF_EXISTS_OR_ADD"), "X-B": ("2", "APPEND_IF_EXISTS_OR_ADD")}
    assert found["request_headers_to_remove"] == ["X-C"]
    assert found["response_headers_to_remove"] == ["Server"]
    assert found["route"]["host_rewrite_literal"] == "h.example", "Host is no header that Envoy lets anybody set"


def test_a_redirect_and_an_answer_of_its_own() -> None:
    action = Redirect(status=301, scheme="https", host="y.com", port=8443, path=PathChange(kind="full", value="/new"))
    redirect, answer = rendered(route(action=action), route(action=Respond(503)))
    assert redirect["redirect"] == {
        "response_code": "MOVED_PERMANENTLY",
        "scheme_redirect": "https",
        "host_redirect": "y.com",
        "port_redirect": 8443,
        "path_redirect": "/new",
    }
    assert answer["direct_response"] == {"status": 503}


def test_a_star_of_one_label_keeps_others_out_and_gives_them_the_routes_of_any_host() -> None:
    any_host = route(Match(path="/any"))
    own, nothing, other = rendered(route(Match(path="/a")), host="*.x.com", one_label=True, others=(any_host,))
    (guard,) = own["match"]["headers"]
    assert guard["string_match"]["safe_regex"]["regex"] == r"(?i)[^.]+\.x\.com(?::\d+)?"
    assert nothing["direct_response"] == {"status": 404}
    assert nothing["match"] == {"prefix": "/", "headers": [guard]}
    assert other["match"] == {"path_separated_prefix": "/any"}
