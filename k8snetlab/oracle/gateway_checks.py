"""Checks of Ingresses and Gateways: a request for each host and path of every rule, sent from outside.

What must come of it says `http_routes`. Where that is not one answer (some of a rule's backends are there, others are
not) no single request can be right or wrong, and there is no check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from k8snetlab.cluster import names
from k8snetlab.cluster.gateway_addon import ADDON
from k8snetlab.cluster.model import Endpoint, IPAddress, Pod
from k8snetlab.cluster.routing.annotations import nginx_options
from k8snetlab.cluster.routing.classes import ingress_choice
from k8snetlab.cluster.routing.gateways import Attachments, GatewayState, ListenerState, attach
from k8snetlab.cluster.routing.patterns import literal_start
from k8snetlab.cluster.routing.table import INGRESS_SERVICE, gateway_service
from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Check, Flow, Place, SeenSource
from k8snetlab.manifests.api.gateway import HTTPRouteMatch
from k8snetlab.manifests.api.networking import HTTPIngressPath, Ingress
from k8snetlab.oracle.http_routes import WELL_KNOWN, Answer, Request, ask_gateway, ask_ingress
from k8snetlab.oracle.places import Scene, address_of, external_place
from k8snetlab.oracle.policy import PolicyVerdict, judge
from k8snetlab.oracle.reasons import reason
from k8snetlab.oracle.under_policies import denied

ANY_LABEL = "any"  # what stands for the star of a wildcard
ANY_HOST = "any.example"
# The lab's server gives these paths another meaning than to say who it is (netexec of the agnhost image).
_SPECIAL = frozenset({
    "/hostname", "/hostName", "/clientip", "/echo", "/healthz", "/readyz", "/livez", "/header", "/big", "/redirect",
    "/shell", "/dial", "/upload", "/exit",
})  # fmt: skip
_BELOW = "/below"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where requests go: a load balancer's address, how checks call it, and the proxy behind it with its ports."""

    kind: str
    place: Place
    address: IPAddress
    proxy: Pod
    ports: Mapping[int, int]


def gateway_checks(scene: Scene) -> Iterator[Check]:
    """None without an address to send to: it is missing from the status, and `remarks` say why."""
    if scene.cluster.config.proxy_mode == "none":
        return
    if scene.cluster.ingresses:
        yield from _ingress_checks(scene)
    if scene.cluster.gateways:
        attachments = attach(scene.cluster)
        for state in attachments.gateways:
            yield from _gateway_checks(scene, attachments, state)


def _target(scene: Scene, service: str, kind: str, name: str) -> _Target | None:
    found = scene.cluster.service(service)
    address = address_of(found.load_balancer_ips, scene.family) if found else None
    proxy = next((pod for pod in scene.cluster.pods if pod.addon == ADDON and pod.node in scene.nodes), None)
    if found is None or address is None or proxy is None:
        return None
    ports = {port.port: port.target_port for port in found.ports if isinstance(port.target_port, int)}
    return _Target(kind, Place(kind="service", name=name), address, proxy, ports)


# --- Ingress ----------------------------------------------------------------------------------------------------------


def _ingress_checks(scene: Scene) -> Iterator[Check]:
    target = _target(scene, INGRESS_SERVICE, "external-to-ingress", INGRESS_SERVICE)
    cluster = scene.cluster
    for ingress in cluster.ingresses if target else ():
        if not ingress_choice(ingress, cluster.ingress_classes, cluster.creation_order).served or target is None:
            continue
        regex = nginx_options(ingress.metadata.annotations, has_tls=False).use_regex
        secure = {host for tls in ingress.spec.tls for host in tls.hosts}
        if any(not tls.hosts for tls in ingress.spec.tls):
            secure |= {rule.host for rule in ingress.spec.rules}
        for host, path in _ingress_samples(ingress, regex=regex):
            name = _sample_host(host)
            schemes = ("http", "https") if host in secure and host else ("http",)
            for scheme in schemes:
                request = Request(host=name, path=path, scheme=scheme, port=WELL_KNOWN[scheme])
                yield from _check(scene, target, request, ask_ingress(cluster, request))


def _ingress_samples(ingress: Ingress, *, regex: bool) -> Iterator[tuple[str, str]]:
    for rule in ingress.spec.rules:
        for path in rule.http.paths if rule.http else ():
            yield rule.host, _ingress_path(path, regex=regex)
        if rule.http is None:
            yield rule.host, "/"
    if ingress.spec.default_backend is not None and not ingress.spec.rules:
        yield "", "/"


def _ingress_path(path: HTTPIngressPath, *, regex: bool) -> str:
    if regex:
        return literal_start(path.path) or "/"
    return _plain(path.path, exact=path.path_type == "Exact")


def _plain(path: str, *, exact: bool) -> str:
    if not exact and path.rstrip("/") in _SPECIAL:
        return path.rstrip("/") + _BELOW
    return path or "/"


# --- Gateway API ------------------------------------------------------------------------------------------------------


def _gateway_checks(scene: Scene, attachments: Attachments, state: GatewayState) -> Iterator[Check]:
    service = gateway_service(state.key)
    target = _target(scene, service, "external-to-gateway", service)
    for listener in state.listeners:
        if target is None or not listener.served:
            continue
        scheme = "https" if listener.listener.protocol == "HTTPS" else "http"
        for request in _route_samples(listener, scheme):
            answer = ask_gateway(scene.cluster, attachments, state.key, request)
            yield from _check(scene, target, request, answer)


def _route_samples(listener: ListenerState, scheme: str) -> Iterator[Request]:
    """One for each host and match of each route; CONNECT asks for a tunnel, which is no request for a path."""
    for attached in listener.routes:
        for host in attached.hosts:
            for rule in attached.route.spec.rules:
                for match in rule.matches or (HTTPRouteMatch(),):
                    if match.method not in ("CONNECT", "TRACE"):
                        yield _route_sample(_sample_host(host), match, scheme, listener.listener.port)


def _route_sample(host: str, match: HTTPRouteMatch, scheme: str, port: int) -> Request:
    path = match.path.value
    return Request(
        host=host,
        path=literal_start(path) or "/"
        if match.path.type == "RegularExpression"
        else _plain(path, exact=match.path.type == "Exact"),
        scheme=scheme,
        port=port,
        method=match.method or "GET",
        headers={each.name.lower(): _sample_value(each.type, each.value) for each in match.headers},
        query={each.name: _sample_value(each.type, each.value) for each in match.query_params},
    )


def _sample_value(kind: str, value: str) -> str:
    return literal_start(value) if kind == "RegularExpression" else value


# --- Both -------------------------------------------------------------------------------------------------------------


def _sample_host(host: str) -> str:
    """A name that the pattern stands for."""
    return f"{ANY_LABEL}{host[1:]}" if host.startswith("*.") else host or ANY_HOST


def _check(scene: Scene, target: _Target, request: Request, answer: Answer) -> Iterator[Check]:
    """What policies let through, of the client to the proxy and of the proxy to its backends."""
    for check in _open_check(scene, target, request, answer):
        verdicts = list(_verdicts(scene, target, request, answer))
        entrance, ways = verdicts[0], verdicts[1:]
        if not scene.policy_context.policies.all:
            yield check
        elif any(each.contested for each in verdicts):
            return
        elif not entrance.allowed:
            yield denied(check, reason(entrance))
        elif all(each.allowed for each in ways):
            yield check
        elif not any(each.allowed for each in ways):
            yield denied(check, reason(ways[0]))  # the proxy tries to connect for longer than the client waits


def _verdicts(scene: Scene, target: _Target, request: Request, answer: Answer) -> Iterator[PolicyVerdict]:
    """Of the way into the proxy, then of the way to each backend."""
    context, client = scene.policy_context, names.outside_address(names.CLIENT, scene.family)
    proxy = next(address for address in target.proxy.ips if address.version == scene.family)
    door = context.owners.party(proxy)
    yield judge(context.policies, context.owners.party(client), door, "TCP", target.ports[request.port])
    for each in sorted(answer.endpoints, key=lambda endpoint: (endpoint.ip.version, endpoint.ip.packed, endpoint.port)):
        own = next((address for address in target.proxy.ips if address.version == each.ip.version), proxy)
        yield judge(context.policies, context.owners.party(own), context.owners.party(each.ip), "TCP", each.port)


def _open_check(scene: Scene, target: _Target, request: Request, answer: Answer) -> Iterator[Check]:
    flow = _flow(target, request)
    if flow is None:
        return
    url = f"{request.scheme}://{request.host}{_port(request)}{flow.path}"
    words = [request.method] if request.method != "GET" else []
    words += [f"{name}: {value}" for name, value in request.headers.items()]
    label = f"client to {url}" + (f" ({', '.join(words)})" if words else "") + f" by {answer.origin or 'no rule'}"
    if answer.endpoints and not answer.statuses:
        servers = {scene.answerer(each, "TCP") for each in answer.endpoints}
        if servers != {"server"}:
            return  # nobody knows what a program of the user's says, and a port without a listener refuses
        tells = answer.path not in _SPECIAL and request.method != "HEAD"
        source, sources = _seen(scene, target.proxy, answer.endpoints) if tells else (None, ())
        yield Check(
            type=target.kind,
            name=label,
            flow=flow,
            source=source,
            sources=sources,
            servers=tuple(sorted({each.pod for each in answer.endpoints if each.pod})) if tells else (),
        )
    elif len(answer.statuses) == 1 and not answer.endpoints:
        status = next(iter(answer.statuses))
        yield Check(
            type=target.kind,
            name=label,
            flow=flow,
            expected="refused" if status >= 400 else "ok",
            status=status,
            location=answer.location if request.method != "HEAD" else "",
        )


def _flow(target: _Target, request: Request) -> Flow | None:
    """None for a value that no command line could carry."""
    values = (*request.headers.values(), *request.query.values())
    if any(not value.isprintable() for value in values):
        return None
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in request.query.items())
    return Flow(
        sender=external_place("client"),
        destination=target.place,
        address=str(target.address),
        protocol="HTTP",
        port=request.port,
        path=request.path + (f"?{query}" if query else ""),
        host=request.host,
        method=request.method,
        headers=tuple(request.headers.items()),
        tls=request.scheme == "https",
    )


def _quoted(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.~-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def _port(request: Request) -> str:
    return "" if request.port == WELL_KNOWN[request.scheme] else f":{request.port}"


def _seen(scene: Scene, proxy: Pod, endpoints: frozenset[Endpoint]) -> tuple[SeenSource | None, tuple[IPAddress, ...]]:
    """Whom the server sees: the proxy's pod, which is the client of a connection of its own, or outside the cluster the
    pod's node. Of a node's own process nothing is promised here: networks differ in whether they masquerade."""
    versions = {each.ip.version for each in endpoints}
    pods = [scene.cluster.pod(each.pod) for each in endpoints if each.pod]
    if not pods:
        node = scene.nodes[proxy.node]
        return "node", tuple(address for address in node.addresses if address.version in versions)
    if len(pods) < len(endpoints) or any(pod is None or pod.host_network for pod in pods):
        return None, ()
    return "pod", tuple(address for address in proxy.ips if address.version in versions)
