"""The whole table: one listener for each port of the Ingress load balancer and of every Gateway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.routing.gateways import Attached, GatewayState, ListenerState, attach
from k8snetlab.cluster.routing.hosts import most_specific
from k8snetlab.cluster.routing.http_routes import ListenerPort, ordered_routes
from k8snetlab.cluster.routing.ingress import ingress_hosts, ingress_tls, served_ingresses, wants_https
from k8snetlab.cluster.routing.model import Certificate, Listener, Table, TlsHosts, VirtualHost
from k8snetlab.manifests.api.gateway import HTTPRoute

SYSTEM_NAMESPACE: Final = "k8snetlab-system"
INGRESS_SERVICE: Final = f"{SYSTEM_NAMESPACE}/ingress"
INGRESS_PORTS: Final = (80, 443)  # of the Service, and of the proxy behind it
_FIRST_TARGET, _TARGETS = 10000, 20000  # the proxy's ports for Gateways, below the kernel's own ephemeral ones


def routing_table(cluster: Cluster) -> Table:
    """Everything the lab's proxy serves; empty when there is neither an Ingress nor a Gateway to serve."""
    return Table((*_ingress_listeners(cluster), *_gateway_listeners(cluster)))


def gateway_service(gateway: str) -> str:
    """The load balancer of a Gateway (`ns/name`), itself as `ns/name`: a Service's name is one label that begins with a
    letter."""
    readable = gateway.replace("/", "-").replace(".", "-")[:40].rstrip("-")
    return f"{SYSTEM_NAMESPACE}/gateway-{readable}-{sha256(gateway.encode()).hexdigest()[:8]}"


def target_ports(wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The proxy's own port for each port of each Gateway: the same whatever others there are, but for clashes."""
    found: dict[tuple[str, int], int] = {}
    taken: set[int] = set()
    for gateway, port in sorted(set(wanted)):
        offset = int.from_bytes(sha256(f"{gateway}:{port}".encode()).digest()[:4], "big") % _TARGETS
        while offset in taken:
            offset = (offset + 1) % _TARGETS
        taken.add(offset)
        found[gateway, port] = _FIRST_TARGET + offset
    return found


def _ingress_listeners(cluster: Cluster) -> Iterator[Listener]:
    ingresses = served_ingresses(cluster)
    if not ingresses:
        return
    plain, secure = INGRESS_PORTS
    hosts = ingress_hosts(cluster, secure=False)
    yield Listener(name="ingress-http", service=INGRESS_SERVICE, port=plain, target=plain, hosts=hosts, forwarded=True)
    if wants_https(ingresses):
        tls = ingress_tls(cluster)
        yield Listener(
            name="ingress-https", service=INGRESS_SERVICE, port=secure, target=secure, tls=tls, forwarded=True
        )


def _gateway_listeners(cluster: Cluster) -> Iterator[Listener]:
    states = attach(cluster).gateways
    targets = target_ports((state.key, each.listener.port) for state in states for each in state.listeners)
    for state in states:
        service = gateway_service(state.key)
        served = [each for each in state.listeners if each.served]
        for port in sorted({each.listener.port for each in served}):
            name, target = f"{state.key}:{port}", targets[state.key, port]
            here = [each for each in served if each.listener.port == port]
            if here[0].listener.protocol == "HTTP":
                hosts = _plain_hosts(cluster, here, ListenerPort("http", port))
                yield Listener(name=name, service=service, port=port, target=target, hosts=hosts)
            else:
                tls = tuple(_tls_hosts(cluster, state, each) for each in here)
                yield Listener(name=name, service=service, port=port, target=target, tls=tls)


def _plain_hosts(cluster: Cluster, listeners: Sequence[ListenerState], at: ListenerPort) -> tuple[VirtualHost, ...]:
    """A request belongs to the listener with the most specific hostname that matches, and to no other (Listener,
    hostname): what another listener has for the same host does not count."""
    names = [each.listener.hostname.lower() for each in listeners]
    by_host: dict[str, list[HTTPRoute]] = {name: [] for name in names}
    for state in listeners:
        own = state.listener.hostname.lower()
        for attached in state.routes:
            for host in attached.hosts:
                if most_specific(host, names) == own:
                    by_host.setdefault(host, []).append(attached.route)
    return _virtual_hosts(cluster, by_host, at)


def _tls_hosts(cluster: Cluster, state: GatewayState, listener: ListenerState) -> TlsHosts:
    written = listener.listener
    by_host: dict[str, list[HTTPRoute]] = {}
    for attached in listener.routes:
        for host in attached.hosts:
            by_host.setdefault(host, []).append(attached.route)
    hostname = written.hostname.lower()
    return TlsHosts(
        (hostname,) if hostname else (),
        tuple(_certificates(cluster, state, listener)),
        _virtual_hosts(cluster, by_host, ListenerPort("https", written.port)),
    )


def _certificates(cluster: Cluster, state: GatewayState, listener: ListenerState) -> Iterator[Certificate]:
    """Those of the Secrets that are there; when none is, one that is made for the names it serves."""
    tls = listener.listener.tls
    keys = [
        f"{ref.namespace or state.gateway.metadata.namespace}/{ref.name}"
        for ref in (tls.certificate_refs if tls else ())
    ]
    there = [key for key in keys if key in cluster.tls_secrets]
    yield from (Certificate(key) for key in there)
    if not there:
        names = [listener.listener.hostname.lower()] if listener.listener.hostname else _hosts_of(listener.routes)
        yield Certificate(names=tuple(names) or ("gateway.local",))


def _hosts_of(routes: Sequence[Attached]) -> list[str]:
    return sorted({host for each in routes for host in each.hosts if host})


def _virtual_hosts(cluster: Cluster, by_host: dict[str, list[HTTPRoute]], at: ListenerPort) -> tuple[VirtualHost, ...]:
    return tuple(VirtualHost(host, ordered_routes(cluster, routes, at)) for host, routes in sorted(by_host.items()))
