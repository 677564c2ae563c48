"""The core tests of Gateway API's conformance suite that are about which request goes where, by table and oracle.

Source of the tables: gateway-api, conformance/tests/httproute-*.go.
"""

from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.cluster.remarks import remarks
from k8snetlab.cluster.routing.http_routes import seconds
from k8snetlab.cluster.routing.model import Forward
from k8snetlab.cluster.routing.table import routing_table

GATEWAY = """\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: eg
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
"""


def route(name: str, rules: str, *, hostnames: str = "[]", namespace: str = "default", parent: str = "") -> str:
    """`rules` is the YAML of a flow sequence."""
    ref = parent or "{name: gw, namespace: default}"
    return f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRefs: [{ref}], hostnames: {hostnames}, rules: {rules}}}
"""


def to(service: str, matches: str = "", rest: str = "") -> str:
    found = f"matches: [{matches}], " if matches else ""
    return f"{{{found}backendRefs: [{{name: {service}, port: 80}}]{rest}}}"


def prefix(path: str, rest: str = "") -> str:
    return f"{{path: {{type: PathPrefix, value: {path}}}{rest}}}"


def exact(path: str) -> str:
    return f"{{path: {{type: Exact, value: {path}}}}}"


def header(**values: str) -> str:
    found = ", ".join(f"{{name: {name}, value: {value}}}" for name, value in values.items())
    return f"{{headers: [{found}]}}"


# HTTPRouteMatching, with its two routes in one.
MATCHING = (
    f"[{to('a', prefix('/') + ', ' + header(version='one'))}, {to('b', prefix('/v2') + ', ' + header(version='two'))}]"
)


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        pytest.param("/", {}, "a", id="root"),
        pytest.param("/example", {}, "a", id="below root"),
        pytest.param("/", {"Version": "one"}, "a", id="header one"),
        pytest.param("/v2", {}, "b", id="/v2"),
        pytest.param("/v2/example", {"Version": "two"}, "b", id="/v2 below, header two"),
        pytest.param("/v2", {"Version": "two"}, "b", id="/v2, header two"),
        pytest.param("/v2/", {}, "b", id="/v2/"),
        pytest.param("/v2example", {}, "a", id="half an element"),
        pytest.param("/foo/v2/example", {}, "a", id="not at the start"),
    ],
)
def test_matching(world: Any, ask: Any, path: str, headers: dict[str, str], expected: str) -> None:
    said = ask(world(GATEWAY + route("r", MATCHING)), f"http://any.com{path}", "default/gw", headers=headers)
    assert said.services == {f"default/{expected}"}


# HTTPRoutePathMatchOrder: whatever the order of the rules.
ORDER = ", ".join(
    (
        to("b", prefix("/match/exact/one")),
        to("c", exact("/match/exact")),
        to("a", prefix("/match")),
        to("a", prefix("/match/prefix/one")),
        to("b", prefix("/match/prefix")),
        to("c", prefix("/match/prefix/one/any")),
    )
)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/match/exact/one", "b", id="the longer prefix"),
        pytest.param("/match/exact", "c", id="exact"),
        pytest.param("/match", "a", id="the shortest"),
        pytest.param("/match/prefix/one/any", "c", id="the longest prefix"),
        pytest.param("/match/prefix/one/any/more", "c", id="below it"),
        pytest.param("/match/prefix", "b", id="a middle one"),
        pytest.param("/match/any", "a", id="whatever"),
    ],
)
def test_path_match_order(world: Any, ask: Any, path: str, expected: str) -> None:
    said = ask(world(GATEWAY + route("r", f"[{ORDER}]")), f"http://any.com{path}", "default/gw")
    assert said.services == {f"default/{expected}"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("/one", "a", id="one"),
        pytest.param("/two", "b", id="two"),
        pytest.param("/", "", id="root"),
        pytest.param("/one/example", "", id="below"),
        pytest.param("/two/", "", id="with a slash"),
        pytest.param("/Two", "", id="case"),
    ],
)
def test_exact_path_matching(world: Any, ask: Any, path: str, expected: str) -> None:
    rules = f"[{to('a', exact('/one'))}, {to('b', exact('/two'))}]"
    said = ask(world(GATEWAY + route("r", rules)), f"http://any.com{path}", "default/gw")
    assert said.services == ({f"default/{expected}"} if expected else set())
    assert said.statuses == (set() if expected else {404})


# HTTPRouteHeaderMatching: matches are ORed, the headers of one ANDed; more headers go first.
HEADERS = ", ".join(
    (
        to("a", header(version="one")),
        to("b", header(version="two")),
        to("a", header(version="two", color="orange")),
        to("a", header(color="blue") + ", " + header(color="green")),
        to("b", header(color="red") + ", " + header(color="yellow")),
    )
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param({"Version": "one"}, "a", id="version one"),
        pytest.param({"Version": "two"}, "b", id="version two"),
        pytest.param({"Version": "two", "Color": "orange"}, "a", id="two headers win"),
        pytest.param({"Color": "blue"}, "a", id="blue"),
        pytest.param({"Color": "green"}, "a", id="green"),
        pytest.param({"Color": "red"}, "b", id="red"),
        pytest.param({"Color": "yellow"}, "b", id="yellow"),
        pytest.param({"Color": "purple"}, "", id="a value nobody has"),
        pytest.param({"Color": "Blue"}, "", id="values have case"),
        pytest.param({"Version": "three"}, "", id="version three"),
        pytest.param({}, "", id="no header"),
    ],
)
def test_header_matching(world: Any, ask: Any, headers: dict[str, str], expected: str) -> None:
    cluster = world(GATEWAY + route("r", f"[{HEADERS}]"))
    assert ask(cluster, "http://any.com/", "default/gw", headers=headers).services == (
        {f"default/{expected}"} if expected else set()
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("animal=whale", "a", id="whale"),
        pytest.param("animal=dolphin", "b", id="dolphin"),
        pytest.param("animal=dolphin&color=blue", "c", id="two parameters win"),
        pytest.param("ANIMAL=whale", "", id="names have case"),
        pytest.param("animal=ant", "", id="another value"),
        pytest.param("", "", id="none"),
    ],
)
def test_query_param_matching(world: Any, ask: Any, query: str, expected: str) -> None:
    def parameters(**values: str) -> str:
        found = ", ".join(f"{{name: {name}, value: {value}}}" for name, value in values.items())
        return f"{{queryParams: [{found}]}}"

    rules = ", ".join(
        (
            to("a", parameters(animal="whale")),
            to("b", parameters(animal="dolphin")),
            to("c", parameters(animal="dolphin", color="blue")),
        )
    )
    said = ask(world(GATEWAY + route("r", f"[{rules}]")), f"http://any.com/?{query}", "default/gw")
    assert said.services == ({f"default/{expected}"} if expected else set())


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        pytest.param("POST", "/", {}, "a", id="method"),
        pytest.param("GET", "/", {}, "", id="another method"),
        pytest.param("PATCH", "/path", {}, "b", id="method and path"),
        pytest.param("PATCH", "/", {}, "", id="method without the path"),
        pytest.param("POST", "/path4", {}, "c", id="a path is more than a method"),
        pytest.param("POST", "/", {"version": "four"}, "a", id="a method is more than a header"),
    ],
)
def test_method_matching(world: Any, ask: Any, method: str, path: str, headers: dict[str, str], expected: str) -> None:
    rules = ", ".join(
        (to("a", "{method: POST}"), to("b", prefix("/path", ", method: PATCH")), to("c", prefix("/path4")),
         to("c", "{headers: [{name: version, value: four}], method: PUT}"))
    )  # fmt: skip
    said = ask(
        world(GATEWAY + route("r", f"[{rules}]")), f"http://any.com{path}", "default/gw", method=method, headers=headers
    )
    assert said.services == ({f"default/{expected}"} if expected else set())


def test_ties_go_to_the_route_whose_name_comes_first_then_to_its_first_rule(world: Any, ask: Any) -> None:
    cluster = world(
        GATEWAY
        + route("z", f"[{to('a', prefix('/x'))}]")
        + route("b", f"[{to('b', prefix('/x'))}, {to('c', prefix('/x'))}]")
    )
    assert ask(cluster, "http://any.com/x", "default/gw").services == {"default/b"}


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        pytest.param("/v[0-9]+/.*", "/v12/x", True, id="the whole path"),
        pytest.param("/v[0-9]+", "/v12/x", False, id="not its beginning"),
        pytest.param("/a(?=b)", "/ab", False, id="what RE2 does not have"),
    ],
)
def test_regular_expressions(world: Any, ask: Any, pattern: str, path: str, matches: bool) -> None:
    rules = f"[{to('a', '{path: {type: RegularExpression, value: ' + repr(pattern) + '}}')}]"
    said = ask(world(GATEWAY + route("r", rules)), f"http://any.com{path}", "default/gw")
    assert bool(said.services) is matches


# --- Backends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backends", "services", "statuses"),
    [
        pytest.param("[]", set(), {500}, id="no backend"),
        pytest.param("[{name: nothing, port: 80}]", set(), {500}, id="no such Service"),
        pytest.param("[{name: a, port: 81}]", set(), {500}, id="no such port"),
        pytest.param("[{name: a, kind: Bucket, group: x.y}]", set(), {500}, id="no Service"),
        pytest.param("[{name: x, namespace: other, port: 80}]", set(), {500}, id="no grant"),
        pytest.param("[{name: a, port: 80}, {name: b, port: 80}]", {"default/a", "default/b"}, set(), id="two"),
        pytest.param("[{name: a, port: 80}, {name: gone, port: 80}]", {"default/a"}, {500}, id="one of two"),
        pytest.param("[{name: a, port: 80}, {name: b, port: 80, weight: 0}]", {"default/a"}, set(), id="weight 0"),
        pytest.param("[{name: a, port: 80, weight: 0}]", set(), {500}, id="only weight 0"),
    ],
)
def test_backends(world: Any, ask: Any, backends: str, services: set[str], statuses: set[int]) -> None:
    cluster = world(GATEWAY + route("r", f"[{{backendRefs: {backends}}}]"), ("default/a", "default/b", "other/x"))
    said = ask(cluster, "http://any.com/", "default/gw")
    assert (said.services, said.statuses) == (services, statuses)


GRANT = """\
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: {namespace}}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {source}}}]
  to: [{{group: "", kind: Service{name}}}]
"""


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        pytest.param(GRANT.format(namespace="other", kind="HTTPRoute", source="default", name=""), True, id="all"),
        pytest.param(
            GRANT.format(namespace="other", kind="HTTPRoute", source="default", name=", name: x"), True, id="by name"
        ),
        pytest.param(
            GRANT.format(namespace="other", kind="HTTPRoute", source="default", name=", name: y"), False, id="another"
        ),
        pytest.param(
            GRANT.format(namespace="default", kind="HTTPRoute", source="default", name=""),
            False,
            id="in the wrong namespace",
        ),
        pytest.param(
            GRANT.format(namespace="other", kind="Gateway", source="default", name=""), False, id="for another kind"
        ),
        pytest.param(
            GRANT.format(namespace="other", kind="HTTPRoute", source="shop", name=""), False, id="from elsewhere"
        ),
    ],
)
def test_reference_grants(world: Any, ask: Any, grant: str, allowed: bool) -> None:
    rules = "[{backendRefs: [{name: x, namespace: other, port: 80}]}]"
    said = ask(world(GATEWAY + route("r", rules) + grant, ("other/x",)), "http://any.com/", "default/gw")
    assert (said.services, said.statuses) == (({"other/x"}, set()) if allowed else (set(), {500}))


# --- Filters ----------------------------------------------------------------------------------------------------------


def redirect(fields: str) -> str:
    return f"[{{filters: [{{type: RequestRedirect, requestRedirect: {{{fields}}}}}]}}]"


@pytest.mark.parametrize(
    ("fields", "status", "location"),
    [
        pytest.param("hostname: example.org", 302, "http://example.org/p/q", id="host"),
        pytest.param("hostname: example.org, statusCode: 301", 301, "http://example.org/p/q", id="status 301"),
        pytest.param("statusCode: 308, scheme: https", 308, "https://any.com/p/q", id="scheme"),
        pytest.param("port: 8083", 302, "http://any.com:8083/p/q", id="port"),
        pytest.param("scheme: https, port: 8443", 302, "https://any.com:8443/p/q", id="scheme and port"),
        pytest.param("path: {type: ReplaceFullPath, replaceFullPath: /new}", 302, "http://any.com/new", id="path"),
    ],
)
def test_redirects(world: Any, ask: Any, fields: str, status: int, location: str) -> None:
    said = ask(world(GATEWAY + route("r", redirect(fields))), "http://any.com/p/q", "default/gw")
    assert (said.statuses, said.location) == ({status}, location)


def test_a_redirect_keeps_the_port_of_a_listener_that_is_not_the_usual_one(world: Any, ask: Any) -> None:
    gateway = GATEWAY.replace("port: 80,", "port: 8080,")
    said = ask(world(gateway + route("r", redirect("hostname: example.org"))), "http://any.com:8080/p", "default/gw")
    assert said.location == "http://example.org:8080/p"


# HTTPPathModifier, ReplacePrefixMatch: the table of its documentation.
@pytest.mark.parametrize(
    ("asked", "matched", "replacement", "seen"),
    [
        pytest.param("/foo/bar", "/foo", "/xyz", "/xyz/bar", id="1"),
        pytest.param("/foo/bar", "/foo", "/xyz/", "/xyz/bar", id="2"),
        pytest.param("/foo/bar", "/foo/", "/xyz", "/xyz/bar", id="3"),
        pytest.param("/foo/bar", "/foo/", "/xyz/", "/xyz/bar", id="4"),
        pytest.param("/foo", "/foo", "/xyz", "/xyz", id="5"),
        pytest.param("/foo/", "/foo", "/xyz", "/xyz/", id="6"),
        pytest.param("/foo/bar", "/foo", "/", "/bar", id="7"),
        pytest.param("/foo/", "/foo", "/", "/", id="8"),
        pytest.param("/foo", "/foo", "/", "/", id="9"),
        pytest.param("/bar", "/", "/xyz", "/xyz/bar", id="10"),
    ],
)
def test_prefix_rewrites(world: Any, ask: Any, asked: str, matched: str, replacement: str, seen: str) -> None:
    rewrite = f"{{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {replacement}}}}}"
    rules = f"[{to('a', prefix(matched), f', filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]')}]"
    assert ask(world(GATEWAY + route("r", rules)), f"http://any.com{asked}", "default/gw").path == seen


def test_a_filter_that_is_not_served_is_500(world: Any, ask: Any) -> None:
    rules = f"[{to('a', '', ', filters: [{type: ExtensionRef, extensionRef: {group: x.y, kind: Z, name: z}}]')}]"
    assert ask(world(GATEWAY + route("r", rules)), "http://any.com/", "default/gw").statuses == {500}


def test_what_has_no_effect_is_said_and_the_rest_is_served(world: Any, ask: Any) -> None:
    rest = ", retry: {codes: [503], attempts: 2, backoff: 100ms}, sessionPersistence: {type: Cookie}"
    cluster = world(GATEWAY + route("r", f"[{to('a', '', rest)}]"))
    said = [each for each in remarks(cluster) if each.startswith("HTTPRoute default/r: ")]
    assert said == [
        "HTTPRoute default/r: rules[0]: retry has no effect, each request is tried once",
        "HTTPRoute default/r: rules[0]: sessionPersistence has no effect, each request picks its backend anew",
    ]
    assert ask(cluster, "http://any.com/", "default/gw").services == {"default/a"}


def test_certificates_of_clients_that_nobody_asks_for_are_said(world: Any) -> None:
    tls = "tls: {frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, group: '', name: ca}]}}}}"
    listeners = "listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]"
    old = "{name: old, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}], frontendValidation: {}}}"
    text = GATEWAY.replace(listeners, f"{tls}\n  {listeners[:-1]}, {old}]")
    said = [each for each in remarks(world(text)) if "NOT asked" in each]
    assert said == [
        "Gateway default/gw: spec.tls has no effect: clients are NOT asked for certificates, backends are spoken to"
        " plainly",
        "Gateway default/gw: listener old: clients are NOT asked for certificates",
    ]
    assert [each for each in remarks(world(GATEWAY)) if "NOT asked" in each] == []


def test_what_a_rule_carries_into_the_table(world: Any) -> None:
    filters = """[
      {type: RequestHeaderModifier, requestHeaderModifier:
        {set: [{name: X-Set, value: s}], add: [{name: X-Add, value: a}], remove: [X-Gone]}},
      {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: r}]}},
      {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 20}},
      {type: URLRewrite, urlRewrite: {hostname: inner.example}}]"""
    rules = f"[{to('a', '', f', filters: {filters}, timeouts: {{request: 10s, backendRequest: 1500ms}}')}]"
    (found,) = routing_table(world(GATEWAY + route("r", rules))).listeners[0].hosts[0].routes
    assert found.request_headers.set == (("X-Set", "s"),)
    assert found.request_headers.add == (("X-Add", "a"),)
    assert found.request_headers.remove == ("X-Gone",)
    assert found.response_headers.set == (("X-Answer", "r"),)
    assert isinstance(found.action, Forward)
    assert [(each.upstream.service, each.numerator) for each in found.action.mirrors] == [("default/b", 20)]
    assert (found.action.host, found.action.timeout, found.action.try_timeout) == ("inner.example", 10.0, 1.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0), ("0s", None), (None, None)],
)
def test_durations(text: str | None, expected: float | None) -> None:
    assert seconds(text) == expected
