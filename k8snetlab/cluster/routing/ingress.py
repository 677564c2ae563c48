"""From Ingresses to virtual hosts: all of one class or another are merged, host by host, into one set of routes.

Sources: Kubernetes, "Ingress" (path types, multiple matches, hostname wildcards, default backend); ingress-nginx, "How
it works" (of two Ingresses with the same host and path the oldest wins).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from k8snetlab.cluster.creation_order import creation_key
from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.annotations import Canary, NginxOptions, nginx_options
from k8snetlab.cluster.routing.backends import Upstreams
from k8snetlab.cluster.routing.classes import ingress_choice
from k8snetlab.cluster.routing.hosts import is_wildcard
from k8snetlab.cluster.routing.model import (
    Backend,
    Certificate,
    Forward,
    Match,
    PathChange,
    Redirect,
    Respond,
    Route,
    TlsHosts,
    ValueMatch,
    VirtualHost,
)
from k8snetlab.cluster.routing.patterns import pattern_fault
from k8snetlab.manifests.api.networking import HTTPIngressPath, Ingress, IngressBackend

TIMEOUT = 60.0  # ingress-nginx, proxy-read-timeout
NO_BACKEND = 503  # what ingress-nginx answers for a Service that is not there or has no endpoints
FAKE_NAME = "ingress.local"  # on ingress-nginx' own certificate, for hosts without one
_NGINX_GROUP = re.compile(r"\$(\d)")
_ROOT = Match(kind="prefix", path="/")


@dataclass(slots=True)
class _Host:
    """The routes of a host as they come, with the length that they are ordered by; `default` is for all else."""

    routes: list[tuple[int, Route]] = field(default_factory=list)
    default: Route | None = None
    taken: set[Match] = field(default_factory=set)

    def ordered(self) -> Iterator[Route]:
        """The longest path first, of two as long the exact one (Ingress, "Multiple matches")."""
        for _, route in sorted(self.routes, key=lambda each: (-each[0], each[1].match.kind != "exact")):
            yield route
        if self.default is not None:
            yield self.default


def served_ingresses(cluster: Cluster) -> list[Ingress]:
    """Those of a class that is served, the oldest first."""
    served = [
        each
        for each in cluster.ingresses
        if ingress_choice(each, cluster.ingress_classes, cluster.creation_order).served
    ]
    return sorted(served, key=lambda each: _age(cluster, each))


def ingress_hosts(cluster: Cluster, *, secure: bool) -> tuple[VirtualHost, ...]:
    """The virtual hosts of plain HTTP or, `secure`, of https, where nothing is redirected to https any more."""
    upstreams, hosts = Upstreams(cluster), dict[str, _Host]()
    canaries: list[tuple[Ingress, Canary]] = []
    for ingress in served_ingresses(cluster):
        options = nginx_options(ingress.metadata.annotations, has_tls=bool(ingress.spec.tls))
        if options.canary is not None:
            canaries.append((ingress, options.canary))
        else:
            _add(hosts, ingress, options, upstreams, secure=secure)
    for ingress, canary in canaries:
        _add_canary(hosts, ingress, canary, upstreams)
    return tuple(
        VirtualHost(name, tuple(host.ordered()), one_label=is_wildcard(name)) for name, host in sorted(hosts.items())
    )


def ingress_tls(cluster: Cluster) -> tuple[TlsHosts, ...]:
    """What is shown to whom; without a Secret a certificate is made. All other names get one for nobody."""
    hosts = ingress_hosts(cluster, secure=True)
    found: dict[str, Certificate] = {}
    for ingress in served_ingresses(cluster):
        for tls in ingress.spec.tls:
            names = tls.hosts or tuple(rule.host for rule in ingress.spec.rules if rule.host)
            secret = f"{ingress.metadata.namespace}/{tls.secret_name}" if tls.secret_name else ""
            given = Certificate(secret) if secret in cluster.tls_secrets else Certificate(names=names or (FAKE_NAME,))
            for name in names:
                found.setdefault(name.lower(), given)
    by_certificate: dict[Certificate, list[str]] = {}
    for name, certificate in sorted(found.items()):
        by_certificate.setdefault(certificate, []).append(name)
    named = [TlsHosts(tuple(names), (certificate,), hosts) for certificate, names in by_certificate.items()]
    return (*named, TlsHosts((), (Certificate(names=(FAKE_NAME,)),), hosts))


def wants_https(ingresses: Sequence[Ingress]) -> bool:
    """Whether there is something to serve by https at all."""
    return any(
        each.spec.tls or nginx_options(each.metadata.annotations, has_tls=False).https_only for each in ingresses
    )


def _age(cluster: Cluster, ingress: Ingress) -> tuple[int, str, str]:
    metadata = ingress.metadata
    born = cluster.creation_order.get(creation_key("Ingress", metadata.namespace, metadata.name), 0)
    return born, metadata.namespace, metadata.name


def _origin(ingress: Ingress) -> str:
    return f"Ingress {ingress.metadata.namespace}/{ingress.metadata.name}"


def _paths(ingress: Ingress) -> Iterator[tuple[str, HTTPIngressPath]]:
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            yield rule.host.lower(), path


def _add(
    hosts: dict[str, _Host], ingress: Ingress, options: NginxOptions, upstreams: Upstreams, *, secure: bool
) -> None:
    for rule in ingress.spec.rules:
        hosts.setdefault(rule.host.lower(), _Host())
    for name, path in _paths(ingress):
        match = path_match(path, regex=options.use_regex)
        host = hosts[name]
        if match.kind == "regex" and pattern_fault(match.path):
            continue  # said by `remarks`
        if match not in host.taken:
            host.taken.add(match)
            action = _action(ingress, path.backend, match, options, upstreams, secure=secure)
            host.routes.append((_length(path, match), Route(match=match, action=action, origin=_origin(ingress))))
    if ingress.spec.default_backend is not None:
        action = _action(ingress, ingress.spec.default_backend, _ROOT, options, upstreams, secure=secure)
        route = Route(match=_ROOT, action=action, origin=_origin(ingress))
        for name in ("", *(rule.host.lower() for rule in ingress.spec.rules)):
            host = hosts.setdefault(name, _Host())
            host.default = host.default or route


def path_match(path: HTTPIngressPath, *, regex: bool) -> Match:
    """ImplementationSpecific is taken as Prefix, as ingress-nginx does. With regex a path is the beginning of a pattern
    in which case does not matter (ingress-nginx, "Ingress Path Matching")."""
    if regex:
        return Match(kind="regex", path=f"(?i){path.path or '/'}.*")
    if path.path_type == "Exact":
        return Match(kind="exact", path=path.path)
    return Match(kind="prefix", path=path.path.rstrip("/") or "/")


def _length(path: HTTPIngressPath, match: Match) -> int:
    return len(path.path if match.kind == "regex" else match.path)


def _action(
    ingress: Ingress,
    backend: IngressBackend,
    match: Match,
    options: NginxOptions,
    upstreams: Upstreams,
    *,
    secure: bool,
) -> Forward | Redirect | Respond:
    if options.https_only and not secure:
        return Redirect(status=308, scheme="https")
    if options.redirect is not None:
        return _redirect(*options.redirect)
    found = _backend(ingress, backend, upstreams)
    if found.upstream is None:
        return Respond(NO_BACKEND)
    rewrite = None
    if options.rewrite_target and match.kind == "regex":
        rewrite = PathChange(kind="regex", value=_substitution(options.rewrite_target, match.path))
    elif options.rewrite_target:
        rewrite = PathChange(kind="full", value=_NGINX_GROUP.sub("", options.rewrite_target))
    return Forward(backends=(found,), path=rewrite, timeout=TIMEOUT)


def _redirect(url: str, status: int) -> Redirect:
    scheme, _, rest = url.partition("://") if "://" in url else ("", "", url)
    host, slash, path = rest.partition("/")
    name, _, port = host.partition(":")
    number = int(port) if port.isdigit() else 0
    change = PathChange(kind="full", value=f"/{path}" if slash else "/")
    return Redirect(status=status, scheme=scheme, host=name, port=number, path=change)


def _substitution(target: str, pattern: str) -> str:
    """nginx' `$1` as RE2's `\\1`; a group that the pattern does not have is empty in nginx."""
    groups = re.compile(pattern).groups
    escaped = target.replace("\\", "\\\\")
    return _NGINX_GROUP.sub(lambda found: f"\\{found[1]}" if int(found[1]) <= groups else "", escaped)


def _backend(ingress: Ingress, backend: IngressBackend, upstreams: Upstreams) -> Backend:
    found = upstreams.of_ingress(ingress.metadata.namespace, backend)
    if isinstance(found, str):
        return Backend(upstream=None, status=NO_BACKEND, reason=found)
    return Backend(upstream=found)


def _add_canary(hosts: dict[str, _Host], ingress: Ingress, canary: Canary, upstreams: Upstreams) -> None:
    """A canary alters the routes of another Ingress with the same host and path; where there is none it does nothing.

    By a header or cookie it gets all requests that carry it, and none with the value `never`; else its weight's share.
    """
    for name, path in _paths(ingress):
        host = hosts.get(name)
        backend = _backend(ingress, path.backend, upstreams)
        plain = path_match(path, regex=False)
        for index, (length, route) in enumerate(host.routes if host else ()):
            if not _same_path(route.match, plain, path.path) or not isinstance(route.action, Forward) or host is None:
                continue
            to_canary = replace(route, action=replace(route.action, backends=(backend,)), origin=_origin(ingress))
            before = [(length, each) for each in _by_header(route, to_canary, canary)]
            host.routes[index : index + 1] = [*before, (length, _by_weight(route, backend, canary))]
            break


def _same_path(match: Match, plain: Match, written: str) -> bool:
    return match == plain or (match.kind == "regex" and match.path == f"(?i){written or '/'}.*")


def _by_header(route: Route, to_canary: Route, canary: Canary) -> Iterator[Route]:
    def when(other: Route, condition: ValueMatch) -> Route:
        return replace(other, match=replace(other.match, headers=(*other.match.headers, condition)))

    if canary.header and canary.header_value:
        yield when(to_canary, ValueMatch(canary.header, canary.header_value))
    elif canary.header and canary.header_pattern:
        yield when(to_canary, ValueMatch(canary.header, f".*(?:{canary.header_pattern}).*", regex=True))
    elif canary.header:
        yield when(to_canary, ValueMatch(canary.header, "always"))
        yield when(route, ValueMatch(canary.header, "never"))
    if canary.cookie:
        cookie = f"(?:^|.*;\\s*){re.escape(canary.cookie)}="
        yield when(to_canary, ValueMatch("cookie", f"{cookie}always(?:;.*)?", regex=True))
        yield when(route, ValueMatch("cookie", f"{cookie}never(?:;.*)?", regex=True))


def _by_weight(route: Route, backend: Backend, canary: Canary) -> Route:
    share = min(canary.weight, canary.total)
    if not share or not isinstance(route.action, Forward):
        return route
    rest = canary.total - share
    main = tuple(replace(each, weight=rest) for each in route.action.backends if rest)
    return replace(route, action=replace(route.action, backends=(*main, replace(backend, weight=share))))
