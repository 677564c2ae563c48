"""The features of ingress-controller-conformance and the examples of Kubernetes, by table and oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.table import routing_table


def ingress(name: str, rules: str = "", *, spec: str = "", namespace: str = "default", annotations: str = "") -> str:
    """`rules` are lines `HOST TYPE PATH SERVICE[:PORT]`, `-` for any host."""
    text = f"---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: {namespace}"
    text += f", annotations: {{{annotations}}}}}\nspec:\n" if annotations else "}\nspec:\n"
    if spec:
        text += f"  {spec}\n"
    lines = [line.split() for line in rules.strip().splitlines()]
    text += "  rules:\n" if lines else ""
    for host, kind, path, backend in lines:
        service, _, port = backend.partition(":")
        number = f"name: {port}" if port.isalpha() else f"number: {port or 80}"
        text += "  - " + (f"host: '{host}'\n    " if host != "-" else "")
        text += f"http: {{paths: [{{path: {path}, pathType: {kind}, backend: "
        text += f"{{service: {{name: {service}, port: {{{number}}}}}}}}}]}}\n"
    return text


# Kubernetes, "Ingress", Examples: kind of path, paths, request, which of them (a, b, c) or none.
EXAMPLES = [
    ("Prefix /", "/anything", "a"),
    ("Exact /foo", "/foo", "a"),
    ("Exact /foo", "/bar", ""),
    ("Exact /foo", "/foo/", ""),
    ("Exact /foo/", "/foo", ""),
    ("Exact /foo", "/FOO", ""),
    ("Prefix /foo", "/foo", "a"),
    ("Prefix /foo", "/foo/", "a"),
    ("Prefix /foo/", "/foo", "a"),
    ("Prefix /foo/", "/foo/", "a"),
    ("Prefix /foo", "/foobar", ""),
    ("Prefix /foo", "/Foo", ""),
    ("Prefix /aaa/bb", "/aaa/bbb", ""),
    ("Prefix /aaa/bbb", "/aaa/bbb", "a"),
    ("Prefix /aaa/bbb/", "/aaa/bbb", "a"),
    ("Prefix /aaa/bbb", "/aaa/bbb/", "a"),
    ("Prefix /aaa/bbb", "/aaa/bbb/ccc", "a"),
    ("Prefix /aaa/bbb", "/aaa/bbbxyz", ""),
    ("Prefix /,Prefix /aaa", "/aaa/ccc", "b"),
    ("Prefix /aaa,Prefix /", "/aaa/ccc", "a"),
    ("Prefix /aaa,Prefix /", "/ccc", "b"),
    ("Prefix /aaa", "/ccc", ""),
    ("Prefix /foo,Exact /foo", "/foo", "b"),
    ("Prefix /foo,Exact /foo", "/foo/", "a"),
    ("Prefix /foo/,Exact /foo/", "/foo/", "b"),
    ("ImplementationSpecific /foo", "/foo/bar", "a"),
    ("ImplementationSpecific /foo", "/foobar", ""),
    ("Prefix /,Prefix /aaa,Prefix /aaa/bbb", "/aaa/bbb/c", "c"),
]


@pytest.mark.parametrize(
    ("paths", "asked", "expected"),
    [pytest.param(*each, id=f"{each[0]} asked for {each[1]}") for each in EXAMPLES],
)
def test_paths(world: Callable[..., Cluster], ask: Any, paths: str, asked: str, expected: str) -> None:
    rules = "\n".join(f"x.com {path} {'abc'[n]}" for n, path in enumerate(paths.split(",")))
    said = ask(world(ingress("i", rules)), f"http://x.com{asked}")
    assert said.services == ({f"default/{expected}"} if expected else set())
    assert said.statuses == (set() if expected else {404})
    assert said.path == (asked if expected else "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("foo.com", "a", id="exact"),
        pytest.param("FOO.com", "a", id="case does not matter"),
        pytest.param("bar.foo.com", "b", id="wildcard"),
        pytest.param("baz.bar.foo.com", "c", id="the star is one label, so any host"),
        pytest.param("other.com", "c", id="any host"),
    ],
)
def test_hosts(world: Callable[..., Cluster], ask: Any, host: str, expected: str) -> None:
    rules = "foo.com Prefix / a\n*.foo.com Prefix / b\n- Prefix / c"
    assert ask(world(ingress("i", rules)), f"http://{host}/x").services == {f"default/{expected}"}


def test_an_exact_host_wins_over_a_wildcard_and_does_not_fall_back_to_it(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", "*.foo.com Prefix /all a\nx.foo.com Prefix /x b\n- Prefix / c"))
    assert ask(cluster, "http://x.foo.com/x").services == {"default/b"}
    assert ask(cluster, "http://x.foo.com/all").statuses == {404}
    assert ask(cluster, "http://y.foo.com/nothing").statuses == {404}


def test_a_default_backend_alone_gets_everything(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", spec="defaultBackend: {service: {name: a, port: {number: 80}}}"))
    said = ask(cluster, "http://any.thing/some/path?x=1", method="DELETE")
    assert said.services == {"default/a"}
    assert said.path == "/some/path"


def test_a_default_backend_gets_what_no_rule_matches(world: Any, ask: Any) -> None:
    default = "defaultBackend: {service: {name: c, port: {number: 80}}}"
    cluster = world(ingress("i", "x.com Prefix /a a", spec=default) + ingress("j", "y.com Prefix /b b"))
    assert ask(cluster, "http://x.com/a").services == {"default/a"}
    assert ask(cluster, "http://x.com/other").services == {"default/c"}
    assert ask(cluster, "http://unknown.com/").services == {"default/c"}
    assert ask(cluster, "http://y.com/other").statuses == {404}, "another Ingress' host"


def test_a_rule_without_paths_sends_its_host_to_the_default_backend(world: Any, ask: Any) -> None:
    text = ingress("i", spec="defaultBackend: {service: {name: a, port: {number: 80}}}") + "  rules: [{host: x.com}]\n"
    assert ask(world(text), "http://x.com/whatever").services == {"default/a"}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("nothing", id="no such Service"),
        pytest.param("a:81", id="no such port"),
        pytest.param("a:https", id="no port of that name"),
    ],
)
def test_a_backend_that_is_not_there_is_503(world: Any, ask: Any, backend: str) -> None:
    assert ask(world(ingress("i", f"x.com Prefix / {backend}")), "http://x.com/").statuses == {503}


def test_a_backend_by_name_of_its_port(world: Any, ask: Any) -> None:
    assert ask(world(ingress("i", "x.com Prefix / a:http")), "http://x.com/").services == {"default/a"}


def test_a_service_without_endpoints_is_503(world: Any, ask: Any) -> None:
    cluster = world(
        ingress("i", "x.com Prefix / empty")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: empty}\n"
        + "spec: {selector: {app: gone}, ports: [{port: 80}]}\n"
    )
    assert ask(cluster, "http://x.com/").statuses == {503}


def test_several_ingresses_of_one_host_are_merged(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", "x.com Prefix /a a") + ingress("j", "x.com Prefix /b b"))
    assert ask(cluster, "http://x.com/a").services == {"default/a"}
    assert ask(cluster, "http://x.com/b").services == {"default/b"}


def test_of_the_same_path_twice_the_first_by_name_wins_when_both_are_as_old(world: Any, ask: Any) -> None:
    cluster = world(ingress("z", "x.com Prefix /a a") + ingress("b", "x.com Prefix /a/ b"))
    assert ask(cluster, "http://x.com/a").services == {"default/b"}


def test_each_ingress_finds_its_services_in_its_own_namespace(world: Any, ask: Any) -> None:
    cluster = world(
        ingress("i", "x.com Prefix /a a") + ingress("i", "x.com Prefix /b a", namespace="shop"),
        ("default/a", "shop/a"),
    )
    assert ask(cluster, "http://x.com/a").services == {"default/a"}
    assert ask(cluster, "http://x.com/b").services == {"shop/a"}


# --- Annotations of ingress-nginx -------------------------------------------------------------------------------------

NGINX = "nginx.ingress.kubernetes.io"


def test_rewrite_target_with_a_group(world: Any, ask: Any) -> None:
    rules = "x.com ImplementationSpecific /something(/|$)(.*) a"
    cluster = world(ingress("i", rules, annotations=f"{NGINX}/rewrite-target: /$2"))
    assert ask(cluster, "http://x.com/something").path == "/"
    assert ask(cluster, "http://x.com/something/new").path == "/new"
    assert ask(cluster, "http://x.com/Something/New/x").path == "/New/x", "case does not matter"
    assert ask(cluster, "http://x.com/somethingelse").statuses == {404}


def test_rewrite_target_without_a_group_replaces_the_whole_path(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", "x.com Prefix /foo a", annotations=f"{NGINX}/rewrite-target: /bar"))
    assert ask(cluster, "http://x.com/foo/x/y").path == "/bar"


def test_a_group_that_is_not_there_is_empty(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", "x.com Prefix /foo a", annotations=f"{NGINX}/rewrite-target: /bar$3"))
    assert ask(cluster, "http://x.com/foo").path == "/bar"


def test_a_pattern_that_is_none_serves_nothing(world: Any, ask: Any) -> None:
    cluster = world(ingress("i", "x.com ImplementationSpecific /foo( a", annotations=f"{NGINX}/use-regex: 'true'"))
    assert ask(cluster, "http://x.com/foo").statuses == {404}


@pytest.mark.parametrize(
    ("annotation", "redirected"),
    [
        pytest.param("ssl-redirect: 'true'", True, id="ssl-redirect"),
        pytest.param("ssl-redirect: 'false'", False, id="not"),
        pytest.param("force-ssl-redirect: 'true'", True, id="force-ssl-redirect"),
    ],
)
def test_redirect_to_https(world: Any, ask: Any, annotation: str, redirected: bool) -> None:
    tls = "tls: [{hosts: [x.com], secretName: s}]"
    cluster = world(ingress("i", "x.com Prefix / a", spec=tls, annotations=f"{NGINX}/{annotation}"))
    plain = ask(cluster, "http://x.com/p")
    assert (plain.statuses, plain.location) == (({308}, "https://x.com/p") if redirected else (set(), ""))
    assert ask(cluster, "https://x.com/p").services == {"default/a"}


@pytest.mark.parametrize(
    ("annotations", "status"),
    [
        pytest.param("permanent-redirect: 'https://new.example/shop'", 301, id="permanent"),
        pytest.param("temporal-redirect: 'https://new.example/shop'", 302, id="temporal"),
    ],
)
def test_redirect_elsewhere(world: Any, ask: Any, annotations: str, status: int) -> None:
    said = ask(world(ingress("i", "x.com Prefix / a", annotations=f"{NGINX}/{annotations}")), "http://x.com/old")
    assert (said.statuses, said.location) == ({status}, "https://new.example/shop")


@pytest.mark.parametrize(
    ("annotations", "headers", "expected"),
    [
        pytest.param("canary-weight: '30'", {}, {"a", "b"}, id="a share"),
        pytest.param("canary-weight: '0'", {}, {"a"}, id="no share"),
        pytest.param("canary-weight: '100'", {}, {"a", "b"} - {"a"}, id="all"),
        pytest.param("canary-by-header: X-Canary", {"X-Canary": "always"}, {"b"}, id="always"),
        pytest.param("canary-by-header: X-Canary", {"X-Canary": "never"}, {"a"}, id="never"),
        pytest.param("canary-by-header: X-Canary", {"X-Canary": "other"}, {"a"}, id="another value"),
        pytest.param("canary-by-header: X-Canary", {}, {"a"}, id="without the header"),
        pytest.param("canary-by-header: X, NGINX/canary-by-header-value: v2", {"X": "v2"}, {"b"}, id="a value"),
        pytest.param("canary-by-header: X, NGINX/canary-weight: '10'", {"X": "never"}, {"a"}, id="never, with a share"),
        pytest.param("canary-by-header: X, NGINX/canary-weight: '10'", {}, {"a", "b"}, id="a share without the header"),
    ],
)
def test_canary(world: Any, ask: Any, annotations: str, headers: dict[str, str], expected: set[str]) -> None:
    given = f"{NGINX}/canary: 'true', {NGINX}/{annotations.replace('NGINX', NGINX)}"
    cluster = world(ingress("main", "x.com Prefix / a") + ingress("new", "x.com Prefix / b", annotations=given))
    assert ask(cluster, "http://x.com/", headers=headers).services == {f"default/{name}" for name in expected}


def test_weights_of_a_canary(world: Any) -> None:
    given = f"{NGINX}/canary: 'true', {NGINX}/canary-weight: '30'"
    cluster = world(ingress("main", "x.com Prefix / a") + ingress("new", "x.com Prefix / b", annotations=given))
    (route,) = routing_table(cluster).listeners[0].hosts[0].routes
    backends = getattr(route.action, "backends", ())
    assert [(each.upstream.service, each.weight) for each in backends] == [("default/a", 70), ("default/b", 30)]
