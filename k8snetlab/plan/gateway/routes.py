"""Virtual hosts and their routes as Envoy's RouteConfiguration (envoy.config.route.v3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

from k8snetlab.cluster.routing.model import (
    Backend,
    Forward,
    Header,
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

Message = dict[str, Any]
TYPE: Final = "type.googleapis.com/envoy."
_MILLION: Final = 1_000_000
_REDIRECT_CODES: Final = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
# A connection that an endpoint refuses has carried nothing: another one may be tried (nginx: proxy_next_upstream).
_RETRY: Final = {"retry_on": "connect-failure,refused-stream", "num_retries": 2}


def cluster_name(upstream: Upstream) -> str:
    return f"{upstream.service}:{upstream.port}"


def route_configuration(name: str, hosts: Sequence[VirtualHost], forwarded: Sequence[Header] = ()) -> Message:
    """All virtual hosts of a listener; `forwarded` are headers that every request gets, in place of its own."""
    others = next((host.routes for host in hosts if not host.host), ())
    return {
        "@type": f"{TYPE}config.route.v3.RouteConfiguration",
        "name": name,
        "ignore_port_in_host_matching": True,
        **_changes("request", HeaderChange(set=tuple(forwarded)), variables=True),
        "virtual_hosts": [_virtual_host(host, others) for host in hosts],
    }


def _virtual_host(host: VirtualHost, others: Sequence[Route]) -> Message:
    """Envoy's `*.` is one label or more. Where it must be one, a host with more is none of this virtual host's, and has
    the routes of all other hosts; one without a route is answered 404 all the same."""
    routes = host.routes
    if host.one_label:
        label = ValueMatch(":authority", rf"(?i)[^.]+{re.escape(host.host[1:])}(?::\d+)?", regex=True)
        nothing = Route(match=Match(), action=Respond(404), origin="")
        own = (replace(each, match=_with_header(each.match, label)) for each in (*routes, nothing))
        routes = (*own, *others)
    return {
        "name": host.host or "*",
        "domains": [host.host or "*"],
        "routes": [message for route in routes for message in _route(route)],
    }


def _with_header(match: Match, header: ValueMatch) -> Match:
    return replace(match, headers=(*match.headers, header))


def _route(route: Route) -> Iterator[Message]:
    """Mostly one. Backends that are not there get their share by a route of their own in front, for Envoy's weighted
    clusters know no answer but that of a server."""
    match = _match(route.match)
    response = _changes("response", route.response_headers)
    match route.action:
        case Respond(status):
            yield {"match": match, "direct_response": {"status": status}, **response}
        case Redirect():
            yield {"match": match, "redirect": _redirect(route.action, route.match), **response}
        case Forward():
            there = [backend for backend in route.action.backends if backend.upstream is not None]
            for status, share in _absent(route.action.backends):
                yield {
                    "match": {**match, "runtime_fraction": {"default_value": share}},
                    "direct_response": {"status": status},
                    **response,
                }
            if there:
                headers = _without_host(route.request_headers)
                yield {
                    "match": match,
                    "route": _forward(route, route.action, there),
                    **_changes("request", headers),
                    **response,
                }


def _absent(backends: Sequence[Backend]) -> Iterator[tuple[int, Message]]:
    """The share of each status; the second counts from what the first has left over."""
    left = sum(backend.weight for backend in backends)
    for backend in backends:
        if backend.upstream is None:
            yield backend.status, _share(Fraction(backend.weight, left))
            left -= backend.weight


def _share(fraction: Fraction) -> Message:
    return {"numerator": round(fraction * _MILLION), "denominator": "MILLION"}


def _match(match: Match) -> Message:
    found: Message
    match match.kind:
        case "exact":
            found = {"path": match.path}
        case "regex":
            found = {"safe_regex": {"regex": match.path}}
        case "prefix":
            found = {"prefix": "/"} if match.path == "/" else {"path_separated_prefix": match.path}
    headers = [_value(each) for each in match.headers]
    if match.method:
        headers.append({"name": ":method", "string_match": {"exact": match.method}})
    if headers:
        found["headers"] = headers
    if match.query:
        found["query_parameters"] = [_value(_as_sent(each)) for each in match.query]
    return found


def _value(value: ValueMatch) -> Message:
    how = {"safe_regex": {"regex": value.value}} if value.regex else {"exact": value.value}
    return {"name": value.name, "string_match": how}


def _as_sent(parameter: ValueMatch) -> ValueMatch:
    """Envoy compares a query as it is sent. A client may escape any character, and has to escape most."""
    if parameter.regex or not re.search(r"[^A-Za-z0-9_.~-]", parameter.value):
        return parameter
    pattern = "".join(_escapable(letter) for letter in parameter.value)
    return replace(parameter, value=pattern, regex=True)


def _escapable(letter: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.~-]", letter):
        return re.escape(letter)
    escaped = "".join(f"%{byte:02X}" for byte in letter.encode())
    plus = r"|\+" if letter == " " else ""
    return f"(?:{re.escape(letter)}|(?i:{escaped}){plus})"


def _forward(route: Route, action: Forward, backends: Sequence[Backend]) -> Message:
    retry: Message = dict(_RETRY)
    if action.try_timeout is not None:
        retry["per_try_timeout"] = _seconds(action.try_timeout)
    found: Message = {
        **_target(backends),
        "timeout": _seconds(action.timeout or 0),
        "retry_policy": retry,
        **_path(action.path, route.match),
    }
    host = action.host or next((value for name, value in route.request_headers.set if name.lower() == "host"), "")
    if host:
        found["host_rewrite_literal"] = host
    if action.mirrors:
        found["request_mirror_policies"] = [_mirror(each) for each in action.mirrors]
    return found


def _target(backends: Sequence[Backend]) -> Message:
    changed = any(backend.request_headers or backend.response_headers for backend in backends)
    if len(backends) == 1 and not changed and backends[0].upstream:
        return {"cluster": cluster_name(backends[0].upstream)}
    clusters = [
        {
            "name": cluster_name(backend.upstream),
            "weight": backend.weight,
            **_changes("request", _without_host(backend.request_headers)),
            **_changes("response", backend.response_headers),
        }
        for backend in backends
        if backend.upstream
    ]
    return {"weighted_clusters": {"clusters": clusters}}


def _mirror(mirror: Mirror) -> Message:
    share = _share(Fraction(mirror.numerator, mirror.denominator))
    return {
        "cluster": cluster_name(mirror.upstream),
        "runtime_fraction": {"default_value": share},
        "disable_shadow_host_suffix_append": True,
    }


def _path(change: PathChange | None, match: Match) -> Message:
    """How the path is rewritten: Envoy replaces every match of a pattern, so each is tied to the path's two ends.

    A prefix that is replaced by nothing, or by `/`, leaves one slash (HTTPPathModifier, ReplacePrefixMatch).
    """
    if change is None:
        return {}
    match change.kind:
        case "full":
            return _rewrite("^/.*$", change.value.replace("\\", "\\\\"))
        case "regex":
            return _rewrite(f"^{match.path}$", change.value)
        case "prefix":
            pass
    prefix, wanted = ("" if match.path == "/" else match.path), change.value.rstrip("/")
    if not prefix:
        return _rewrite("^/", f"{wanted}/".replace("\\", "\\\\")) if wanted else {}
    return {"prefix_rewrite": wanted} if wanted else _rewrite(f"^{re.escape(prefix)}/*", "/")


def _rewrite(pattern: str, substitution: str) -> Message:
    return {"regex_rewrite": {"pattern": {"regex": pattern}, "substitution": substitution}}


def _redirect(redirect: Redirect, match: Match) -> Message:
    found: Message = {"response_code": _REDIRECT_CODES[redirect.status]}
    if redirect.scheme:
        found["scheme_redirect"] = redirect.scheme
    if redirect.host:
        found["host_redirect"] = redirect.host
    if redirect.port:
        found["port_redirect"] = redirect.port
    if redirect.path is not None and redirect.path.kind == "full":
        found["path_redirect"] = redirect.path.value
    else:
        found |= _path(redirect.path, match)
    return found


def _changes(side: str, change: HeaderChange, *, variables: bool = False) -> Message:
    """Headers of the `request` or `response`. Envoy puts its own variables between percent signs; a value of the user's
    that has some is no variable."""
    added = [(header, "OVERWRITE_IF_EXISTS_OR_ADD") for header in change.set]
    added += [(header, "APPEND_IF_EXISTS_OR_ADD") for header in change.add]
    found: Message = {}
    if added:
        found[f"{side}_headers_to_add"] = [
            {
                "header": {"key": name, "value": value if variables else value.replace("%", "%%")},
                "append_action": action,
                "keep_empty_value": True,
            }
            for (name, value), action in added
        ]
    if change.remove:
        found[f"{side}_headers_to_remove"] = list(change.remove)
    return found


def _without_host(change: HeaderChange) -> HeaderChange:
    """Envoy refuses a configuration that alters Host as a header; it has a rewrite of its own for that."""

    def own(headers: tuple[Header, ...]) -> tuple[Header, ...]:
        return tuple((name, value) for name, value in headers if name.lower() != "host")

    removed = tuple(name for name in change.remove if name.lower() != "host")
    return HeaderChange(set=own(change.set), add=own(change.add), remove=removed)


def _seconds(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".") + "s"
