"""Ask a request of the routing table and of the oracle, which must agree about every one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from textwrap import dedent

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import resolve
from k8snetlab.cluster.routing.gateways import attach
from k8snetlab.cluster.routing.hosts import most_specific, one_label
from k8snetlab.cluster.routing.model import (
    Forward,
    Listener,
    Match,
    PathChange,
    Redirect,
    Respond,
    Route,
    ValueMatch,
    VirtualHost,
)
from k8snetlab.cluster.routing.table import INGRESS_SERVICE, gateway_service, routing_table
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.http_routes import Answer, Request, ask_gateway, ask_ingress


@dataclass(frozen=True, slots=True)
class Said:
    """Statuses of the proxy and Services that may answer, with the path they see and where a redirect leads."""

    statuses: frozenset[int]
    services: frozenset[str]
    path: str = ""
    location: str = ""


Ask = Callable[..., Said]


@pytest.fixture(name="world")
def world_fixture() -> Callable[[str, Sequence[str]], Cluster]:
    """A cluster of the YAML and of Services `ns/name`, each with one pod that is called like it."""

    def world(text: str, services: Sequence[str] = ("default/a", "default/b", "default/c")) -> Cluster:
        return resolve(load_text((dedent(text) + backends(services)).encode(), "t.yaml"), with_addons=True)

    return world


def backends(services: Sequence[str]) -> str:
    """YAML: each Service on port 80 (called http) leads to a pod of its own on 8080."""
    text = ""
    for key in services:
        namespace, name = key.split("/")
        text += f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec: {{containers: [{{name: c, image: x, ports: [{{containerPort: 8080}}]}}]}}
"""
    return text


@pytest.fixture(name="ask")
def ask_fixture() -> Ask:
    """`ask(cluster, url, gateway="ns/name", method=…, headers=…)`: what table and oracle say, which is the same."""

    def ask(
        cluster: Cluster,
        url: str,
        gateway: str = "",
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> Said:
        scheme, _, rest = url.partition("://")
        authority, slash, target = rest.partition("/")
        host, _, port = authority.partition(":")
        path, _, query = (slash + target or "/").partition("?")
        request = Request(
            host=host,
            path=path,
            scheme=scheme,
            port=int(port or {"http": 80, "https": 443}[scheme]),
            method=method,
            headers={name.lower(): value for name, value in (headers or {}).items()},
            query=dict(pair.split("=") for pair in query.split("&") if pair),
        )
        by_gateway = ask_gateway(cluster, attach(cluster), gateway, request) if gateway else None
        answer = by_gateway or ask_ingress(cluster, request)
        looked_up = look_up(cluster, gateway_service(gateway) if gateway else INGRESS_SERVICE, request)
        assert looked_up == _of_oracle(answer), f"{request}: the table says {looked_up}, the oracle {answer}"
        return looked_up

    return ask


def _of_oracle(answer: Answer) -> Said:
    services = frozenset(endpoint.pod or str(endpoint.ip) for endpoint in answer.endpoints)
    return Said(answer.statuses, services, answer.path if services else "", answer.location)


def look_up(cluster: Cluster, service: str, request: Request) -> Said:
    """The first route of the request's host that matches, as every proxy reads the table."""
    request = replace(request, host=request.host.lower())  # names in HTTP have no case
    listeners = [each for each in routing_table(cluster).listeners if each.service == service]
    for listener in listeners:
        if listener.port == request.port:
            for route in _routes(_hosts(listener, request), request.host):
                if _fits(route.match, request):
                    return _outcome(route, request)
    return Said(frozenset({404}), frozenset())


def _hosts(listener: Listener, request: Request) -> Sequence[VirtualHost]:
    if not listener.tls:
        return listener.hosts
    names = [name for tls in listener.tls for name in tls.server_names or ("",)]
    best = most_specific(request.host, names)
    return next((tls.hosts for tls in listener.tls if best in (tls.server_names or ("",))), ())


def _routes(hosts: Sequence[VirtualHost], asked: str) -> Sequence[Route]:
    known = [each.host for each in hosts if not each.one_label or one_label(each.host, asked)]
    best = most_specific(asked, known)
    return next((each.routes for each in hosts if each.host == best), ())


def _fits(match: Match, request: Request) -> bool:
    if match.kind == "regex":
        path = re.fullmatch(match.path, request.path) is not None
    else:
        below = match.path == "/" or request.path.startswith(f"{match.path}/")
        path = request.path == match.path or (match.kind == "prefix" and below)
    values = [(each, request.headers.get(each.name.lower())) for each in match.headers]
    values += [(each, request.query.get(each.name)) for each in match.query]
    return path and match.method in ("", request.method) and all(_is(each, given) for each, given in values)


def _is(wanted: ValueMatch, given: str | None) -> bool:
    if given is None:
        return False
    return re.fullmatch(wanted.value, given) is not None if wanted.regex else given == wanted.value


def _outcome(route: Route, request: Request) -> Said:
    match route.action:
        case Respond(status):
            return Said(frozenset({status}), frozenset())
        case Redirect() as redirect:
            scheme = redirect.scheme or request.scheme
            authority = (redirect.host or request.host) + (f":{redirect.port}" if redirect.port else "")
            path = _changed(redirect.path, route.match, request.path)
            return Said(frozenset({redirect.status}), frozenset(), location=f"{scheme}://{authority}{path}")
        case Forward(backends=found):
            statuses = {each.status for each in found if each.upstream is None}
            statuses |= {503 for each in found if each.upstream is not None and not each.upstream.endpoints}
            endpoints = [endpoint for each in found if each.upstream for endpoint in each.upstream.endpoints]
            services = frozenset(endpoint.pod or str(endpoint.ip) for endpoint in endpoints)
            path = _changed(route.action.path, route.match, request.path) if services else ""
            return Said(frozenset(statuses), services, path)


def _changed(change: PathChange | None, match: Match, path: str) -> str:
    if change is None:
        return path
    match change.kind:
        case "full":
            return change.value
        case "regex":
            found = re.fullmatch(match.path, path)
            return found.expand(change.value) if found else path
        case "prefix":
            rest = path[len(match.path.rstrip("/")) :]
            return f"{change.value.rstrip('/')}{rest}".replace("//", "/") or "/"
