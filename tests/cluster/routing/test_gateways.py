"""Which listeners are served and what attaches to them, with the conditions of Gateway API's conformance tests."""

from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.cluster.routing.gateways import attach
from k8snetlab.cluster.status import render


def gateway(listeners: str, *, name: str = "gw", cls: str = "eg") -> str:
    return f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec: {{gatewayClassName: {cls}, listeners: [{listeners}]}}
"""


def route(name: str, ref: str, *, hostnames: str = "[]", namespace: str = "default", backend: str = "a") -> str:
    return f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRefs: [{ref}], hostnames: {hostnames}, rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}
"""


HTTP = "{name: http, port: 80, protocol: HTTP}"
OTHERS = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n"


@pytest.mark.parametrize(
    ("allowed", "namespace", "reason"),
    [
        pytest.param("", "default", "Accepted", id="Same is the default"),
        pytest.param("", "shop", "NotAllowedByListeners", id="another namespace"),
        pytest.param("namespaces: {from: All}", "shop", "Accepted", id="All"),
        pytest.param(
            "namespaces: {from: Selector, selector: {matchLabels: {team: a}}}", "shop", "Accepted", id="Selector"
        ),
        pytest.param(
            "namespaces: {from: Selector, selector: {matchLabels: {team: b}}}",
            "shop",
            "NotAllowedByListeners",
            id="not it",
        ),
        pytest.param("namespaces: {from: None}", "default", "NotAllowedByListeners", id="None"),
        pytest.param("kinds: [{kind: GRPCRoute}]", "default", "NotAllowedByListeners", id="another kind"),
    ],
)
def test_allowed_routes(world: Any, allowed: str, namespace: str, reason: str) -> None:
    listener = f"{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{{allowed}}}}}"
    cluster = world(OTHERS + gateway(listener) + route("r", "{name: gw, namespace: default}", namespace=namespace))
    (parent,) = attach(cluster).parents[f"{namespace}/r"]
    assert parent.accepted.reason == reason
    assert parent.accepted.status is (reason == "Accepted")


@pytest.mark.parametrize(
    ("ref", "hostnames", "attached", "reason"),
    [
        pytest.param("{name: gw}", "[]", ["one", "two"], "Accepted", id="all listeners"),
        pytest.param("{name: gw, sectionName: two}", "[]", ["two"], "Accepted", id="by name"),
        pytest.param("{name: gw, port: 80}", "[]", ["one"], "Accepted", id="by port"),
        pytest.param("{name: gw, sectionName: none}", "[]", [], "NoMatchingParent", id="no such listener"),
        pytest.param("{name: gw, sectionName: one, port: 8080}", "[]", [], "NoMatchingParent", id="another port"),
        pytest.param("{name: gw}", "[x.two.com]", ["two"], "Accepted", id="by hostname"),
        pytest.param("{name: gw}", "[other.org]", [], "NoMatchingListenerHostname", id="no hostname in common"),
    ],
)
def test_parent_references(world: Any, ref: str, hostnames: str, attached: list[str], reason: str) -> None:
    listeners = (
        "{name: one, port: 80, protocol: HTTP, hostname: one.com}, "
        "{name: two, port: 8080, protocol: HTTP, hostname: '*.two.com'}"
    )
    found = attach(world(gateway(listeners) + route("r", ref, hostnames=hostnames)))
    assert [each.listener.name for each in found.gateways[0].listeners if each.routes] == attached
    assert found.parents["default/r"][0].accepted.reason == reason


@pytest.mark.parametrize(
    ("listeners", "reasons"),
    [
        pytest.param(HTTP, {"http": ("Accepted", "ResolvedRefs")}, id="good"),
        pytest.param(
            "{name: tcp, port: 90, protocol: TCP}", {"tcp": ("UnsupportedProtocol", "ResolvedRefs")}, id="protocol"
        ),
        pytest.param(
            HTTP + ", {name: tls, port: 80, protocol: HTTPS, hostname: a.b, tls: {certificateRefs: [{name: s}]}}",
            {"http": ("ProtocolConflict", "ResolvedRefs"), "tls": ("ProtocolConflict", "ResolvedRefs")},
            id="two protocols on a port",
        ),
        pytest.param(
            "{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}",
            {"http": ("Accepted", "InvalidRouteKinds")},
            id="kinds",
        ),
        pytest.param(
            "{name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s, namespace: shop}]}}",
            {"tls": ("Accepted", "RefNotPermitted")},
            id="a Secret elsewhere",
        ),
        pytest.param(
            "{name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s, kind: ConfigMap}]}}",
            {"tls": ("Accepted", "InvalidCertificateRef")},
            id="no Secret",
        ),
    ],
)
def test_listener_conditions(world: Any, listeners: str, reasons: dict[str, tuple[str, str]]) -> None:
    (state,) = attach(world(gateway(listeners))).gateways
    found = {}
    for each in state.listeners:
        by_type = {condition.type: condition.reason for condition in each.conditions}
        found[each.listener.name] = (by_type["Accepted"], by_type["ResolvedRefs"])
    assert found == reasons


def test_a_grant_lets_a_gateway_use_a_secret_elsewhere(world: Any) -> None:
    grant = """\
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]
  to: [{group: "", kind: Secret}]
"""
    listener = "{name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s, namespace: shop}]}}"
    (state,) = attach(world(gateway(listener) + grant)).gateways
    assert state.listeners[0].served


# HTTPRouteListenerHostnameMatching.
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("bar.com", "a", id="exact listener"),
        pytest.param("foo.bar.com", "b", id="exact below a wildcard"),
        pytest.param("baz.bar.com", "c", id="wildcard"),
        pytest.param("boo.bar.com", "c", id="wildcard again"),
        pytest.param("multiple.prefixes.bar.com", "c", id="several labels"),
        pytest.param("multiple.prefixes.foo.com", "c", id="another wildcard"),
        pytest.param("foo.com", "", id="the bare domain"),
        pytest.param("no.matching.host", "", id="nothing"),
    ],
)
def test_listener_hostnames(world: Any, ask: Any, host: str, expected: str) -> None:
    names = {"l1": "bar.com", "l2": "foo.bar.com", "l3": "'*.bar.com'", "l4": "'*.foo.com'"}
    listeners = ", ".join(f"{{name: {key}, port: 80, protocol: HTTP, hostname: {host}}}" for key, host in names.items())
    cluster = world(
        gateway(listeners)
        + route("one", "{name: gw, sectionName: l1}", backend="a")
        + route("two", "{name: gw, sectionName: l2}", backend="b")
        + route("three", "{name: gw, sectionName: l3}, {name: gw, sectionName: l4}", backend="c")
    )
    said = ask(cluster, f"http://{host}/", "default/gw")
    assert said.services == ({f"default/{expected}"} if expected else set())


def test_a_more_specific_listener_without_a_route_does_not_fall_back(world: Any, ask: Any) -> None:
    listeners = HTTP + ", {name: own, port: 80, protocol: HTTP, hostname: '*.own.com'}"
    cluster = world(gateway(listeners) + route("r", "{name: gw, sectionName: http}", hostnames="[x.own.com, y.com]"))
    assert ask(cluster, "http://x.own.com/", "default/gw").statuses == {404}
    assert ask(cluster, "http://y.com/", "default/gw").services == {"default/a"}


def test_the_most_specific_hostname_of_a_route_wins(world: Any, ask: Any) -> None:
    cluster = world(
        gateway(HTTP)
        + route("wild", "{name: gw}", hostnames="['*.x.com']", backend="a")
        + route("exact", "{name: gw}", hostnames="[www.x.com]", backend="b")
    )
    assert ask(cluster, "http://www.x.com/", "default/gw").services == {"default/b"}
    assert ask(cluster, "http://a.b.x.com/", "default/gw").services == {"default/a"}


def test_two_gateways_have_an_address_each(world: Any, ask: Any) -> None:
    cluster = world(
        gateway(HTTP, name="one")
        + gateway(HTTP, name="two")
        + route("r1", "{name: one}", backend="a")
        + route("r2", "{name: two}", backend="b")
    )
    assert ask(cluster, "http://x.com/", "default/one").services == {"default/a"}
    assert ask(cluster, "http://x.com/", "default/two").services == {"default/b"}
    addresses = [each["status"]["addresses"][0]["value"] for each in render(cluster, "gateways")]
    assert len(set(addresses)) == 2


def test_the_status_of_a_gateway(world: Any) -> None:
    cluster = world(gateway(HTTP) + route("r", "{name: gw}"))
    (found,) = render(cluster, "gateways")
    assert {each["type"]: each["status"] for each in found["status"]["conditions"]} == {
        "Accepted": "True",
        "Programmed": "True",
    }
    (listener,) = found["status"]["listeners"]
    assert listener["attachedRoutes"] == 1
    assert listener["supportedKinds"] == [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]
    assert all(each["observedGeneration"] == 1 for each in listener["conditions"])
    (attached,) = render(cluster, "httproutes")
    (parent,) = attached["status"]["parents"]
    assert {each["type"]: each["status"] for each in parent["conditions"]} == {
        "Accepted": "True",
        "ResolvedRefs": "True",
    }


def test_a_gateway_of_an_unknown_class_stays_pending(world: Any) -> None:
    (found,) = render(world(gateway(HTTP, cls="nobodys")), "gateways")
    assert [each["reason"] for each in found["status"]["conditions"]] == ["Pending", "Pending"]
    assert "addresses" not in found["status"]


@pytest.mark.parametrize(
    ("backend", "reason"),
    [pytest.param("a", "ResolvedRefs", id="good"), pytest.param("nothing", "BackendNotFound", id="no such Service")],
)
def test_resolved_refs_of_a_route(world: Any, backend: str, reason: str) -> None:
    (found,) = render(world(gateway(HTTP) + route("r", "{name: gw}", backend=backend)), "httproutes")
    conditions = {each["type"]: each["reason"] for each in found["status"]["parents"][0]["conditions"]}
    assert conditions["ResolvedRefs"] == reason
