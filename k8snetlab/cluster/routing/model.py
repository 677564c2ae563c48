"""The table that every proxy renders: listeners, their virtual hosts, and in each the routes in order of precedence.

The first route that matches a request decides. Which object asked for a route is kept as its `origin`.
"""

from __future__ import annotations

from typing import Literal

from k8snetlab.cluster.model import Endpoint
from k8snetlab.dataclass import dataclass

PathKind = Literal["exact", "prefix", "regex"]
Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or query parameter and what it must be; `regex` must match the whole value."""

    name: str
    value: str
    regex: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """All parts are ANDed. A prefix matches whole path elements and has no slash at its end, unless it is `/`.

    A regex matches the whole path, without the query. `method` empty: any.
    """

    kind: PathKind = "prefix"
    path: str = "/"
    method: str = ""
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderChange:
    """In the order set, add, remove."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_CHANGE = HeaderChange()


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """`full` replaces the whole path, `prefix` the prefix that matched, `regex` what the route's pattern has captured.

    In the last `\\1` stands for the first group.
    """

    kind: Literal["full", "prefix", "regex"]
    value: str


@dataclass(frozen=True, slots=True)
class Upstream:
    """One port of a Service (`ns/name`), by its number. The endpoints are those that may get new requests."""

    service: str
    port: int
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A share of a route's requests; without an upstream they are answered with `status`, and `reason` says why."""

    upstream: Upstream | None
    weight: int = 1
    status: int = 500
    reason: str = ""
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A share of requests, `numerator` of `denominator`, that is sent there as well, its answers dropped."""

    upstream: Upstream
    numerator: int = 100
    denominator: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """To backends by weight. Times in seconds: `timeout` of the whole request, `try_timeout` of one attempt; None: no
    limit."""

    backends: tuple[Backend, ...]
    host: str = ""  # in place of the request's
    path: PathChange | None = None
    mirrors: tuple[Mirror, ...] = ()
    timeout: float | None = None
    try_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """What is empty, or 0, stays as it was in the request."""

    status: int = 302
    scheme: str = ""
    host: str = ""
    port: int = 0
    path: PathChange | None = None


@dataclass(frozen=True, slots=True)
class Respond:
    """The proxy answers by itself."""

    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    match: Match
    action: Forward | Redirect | Respond
    origin: str  # `Ingress ns/name` or `HTTPRoute ns/name`
    request_headers: HeaderChange = NO_CHANGE
    response_headers: HeaderChange = NO_CHANGE


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """The routes of one host: a name, `*.` and a domain, or empty for every other host.

    With `one_label` the star stands for exactly one label (Ingress), else for one or more (Gateway API). A request that
    no route of its host matches is answered 404: it does not fall back to another host's routes.
    """

    host: str
    routes: tuple[Route, ...]
    one_label: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a listener shows: a Secret (`ns/name`), or if there is none a self-signed one for `names`."""

    secret: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsHosts:
    """Which certificates are shown to clients that ask for one of these names; none: whatever they ask for."""

    server_names: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    hosts: tuple[VirtualHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that clients connect to. `service` (`ns/name`) is the load balancer in front, `target` the proxy's port.

    Plain HTTP has `hosts`; with TLS each name that a client may ask for has its own (`tls`).
    """

    name: str
    service: str
    port: int
    target: int
    hosts: tuple[VirtualHost, ...] = ()
    tls: tuple[TlsHosts, ...] = ()
    forwarded: bool = False  # set the X-Forwarded-… headers as ingress-nginx does


@dataclass(frozen=True, slots=True)
class Table:
    listeners: tuple[Listener, ...] = ()
