"""gateway.networking.k8s.io: GatewayClass, Gateway, HTTPRoute and ReferenceGrant, of the standard channel."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import Labels, LabelSelector, ObjectMeta

GATEWAY_GROUP = "gateway.networking.k8s.io"

# --- GatewayClass and Gateway -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayClassSpec:
    """`controller_name` says whose class it is, as `example.com/gateway-controller`."""

    IGNORED: ClassVar = ("description", "parametersRef")

    controller_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayClass:
    """Cluster-scoped."""

    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: GatewayClassSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteNamespaces:
    """Which namespaces' routes may attach: the Gateway's own, all, or those that `selector` matches."""

    from_: Literal["Same", "All", "Selector", "None"] = field(default="Same", metadata={"key": "from"})
    selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteGroupKind:
    """A kind of route that may attach."""

    group: str = GATEWAY_GROUP
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedRoutes:
    """No kinds means those that go with the listener's protocol."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteGroupKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretObjectReference:
    """Names the Secret with the certificate; the lab makes one for a Secret that is not in the manifests."""

    group: str = ""
    kind: str = "Secret"
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendValidation:
    """Which certificates clients must show. Not served, so only that it is there is read, and said."""

    IGNORED: ClassVar = ("caCertificateRefs", "mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTLSConfig:
    """Terminate ends TLS at the Gateway, Passthrough hands it on."""

    IGNORED: ClassVar = ("options",)

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: tuple[SecretObjectReference, ...] = ()
    frontend_validation: FrontendValidation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An empty hostname matches every host; `*.example.com` one or more labels in front of it."""

    name: str
    hostname: str = ""
    port: int
    protocol: str
    tls: GatewayTLSConfig | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddress:
    """An address asked for; IPAddress unless it says Hostname."""

    type: str = "IPAddress"
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayInfrastructure:
    """Labels and annotations for what a controller makes for the Gateway."""

    IGNORED: ClassVar = ("parametersRef",)

    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayTLS:
    """The whole Gateway's `frontend` (clients' certificates) and `backend`. Not served: read as `FrontendValidation`
    is."""

    IGNORED: ClassVar = ("backend", "frontend")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySpec:
    """One to 64 listeners, told apart by name and by port, protocol and hostname."""

    IGNORED: ClassVar = ("allowedListeners", "backendTLS", "defaultScope")

    gateway_class_name: str
    listeners: tuple[Listener, ...]
    addresses: tuple[GatewayAddress, ...] = ()
    infrastructure: GatewayInfrastructure | None = None
    tls: GatewayTLS | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A load balancer with listeners to which routes attach."""

    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: GatewaySpec


# --- HTTPRoute --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentReference:
    """The Gateway (or, for a mesh, the Service) that the route attaches to; no namespace means the route's own."""

    group: str = GATEWAY_GROUP
    kind: str = "Gateway"
    namespace: str | None = None
    name: str
    section_name: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPPathMatch:
    """PathPrefix matches whole path elements, as Ingress' Prefix does."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeaderMatch:
    """Header names are compared without regard to case."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPQueryParamMatch:
    """Parameter names are compared exactly."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: str
    value: str


HTTPMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteMatch:
    """All parts of one match are ANDed."""

    path: HTTPPathMatch = HTTPPathMatch()
    headers: tuple[HTTPHeaderMatch, ...] = ()
    query_params: tuple[HTTPQueryParamMatch, ...] = ()
    method: HTTPMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeader:
    """A header to set or add."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPHeaderFilter:
    """Applied in the order set, add, remove."""

    set: tuple[HTTPHeader, ...] = ()
    add: tuple[HTTPHeader, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendObjectReference:
    """A Service and one of its ports; another namespace's needs a ReferenceGrant."""

    group: str = ""
    kind: str = "Service"
    name: str
    namespace: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction:
    """A share of requests."""

    numerator: int
    denominator: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequestMirrorFilter:
    """A copy of the requests goes to another backend; its answers are dropped."""

    backend_ref: BackendObjectReference
    percent: int | None = None
    fraction: Fraction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPPathModifier:
    """Which of the two replacements is given follows from the type."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequestRedirectFilter:
    """Parts that are not given stay as they were in the request."""

    scheme: Literal["http", "https"] | None = None
    hostname: str | None = None
    path: HTTPPathModifier | None = None
    port: int | None = None
    status_code: int = 302


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPURLRewriteFilter:
    """What the backend sees in place of the request's host and path."""

    hostname: str | None = None
    path: HTTPPathModifier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteFilter:
    """The type names the one part that must be given."""

    IGNORED: ClassVar = ("cors", "extensionRef", "externalAuth")

    type: Literal[
        "RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "RequestRedirect", "URLRewrite",
        "ExtensionRef", "CORS", "ExternalAuth",
    ]  # fmt: skip
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPBackendRef:
    """A backend gets its weight's share of the rule's sum; weight 0 gets nothing."""

    group: str = ""
    kind: str = "Service"
    name: str
    namespace: str | None = None
    port: int | None = None
    weight: int = 1
    filters: tuple[HTTPRouteFilter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteTimeouts:
    """Durations as Gateway API writes them, like `10s` or `500ms`."""

    request: str | None = None
    backend_request: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteRetry:
    codes: tuple[int, ...] = ()
    attempts: int | None = None
    backoff: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieConfig:
    lifetime_type: Literal["Permanent", "Session"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPersistence:
    session_name: str | None = None
    absolute_timeout: str | None = None
    idle_timeout: str | None = None
    type: Literal["Cookie", "Header"] | None = None
    cookie_config: CookieConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteRule:
    """The matches are ORed; none means every request. No backends means 500, unless a filter redirects.

    `retry` and `sessionPersistence` are experimental in Gateway API 1.4: read, and said not to be served.
    """

    name: str | None = None
    matches: tuple[HTTPRouteMatch, ...] = (HTTPRouteMatch(),)
    filters: tuple[HTTPRouteFilter, ...] = ()
    backend_refs: tuple[HTTPBackendRef, ...] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRouteSpec:
    """No hostnames means those of the listener."""

    IGNORED: ClassVar = ("useDefaultGateways",)

    parent_refs: tuple[ParentReference, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[HTTPRouteRule, ...] = (HTTPRouteRule(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRoute:
    """Requests by host, path, header, parameter and method, to weighted backends."""

    IGNORED: ClassVar = ("status",)

    metadata: ObjectMeta
    spec: HTTPRouteSpec = HTTPRouteSpec()


# --- ReferenceGrant ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrantFrom:
    """Who may refer to objects of the grant's namespace."""

    group: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrantTo:
    """What may be referred to; no name means all of that kind."""

    group: str
    kind: str
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrantSpec:
    """Every `from` may refer to every `to`."""

    from_: tuple[ReferenceGrantFrom, ...] = field(metadata={"key": "from"})
    to: tuple[ReferenceGrantTo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGrant:
    """Lets other namespaces refer to objects of this one."""

    metadata: ObjectMeta
    spec: ReferenceGrantSpec
