"""The files that Envoy reads: its start-up configuration, and listeners, clusters and routes that it watches.

Envoy takes a new version of a file when that is renamed into place (xDS from the file system), without losing a
connection: only what has changed about a listener or cluster is made anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

from k8snetlab.cluster.routing.model import (
    Certificate,
    Forward,
    Header,
    Listener,
    Table,
    TlsHosts,
    Upstream,
    VirtualHost,
)
from k8snetlab.plan.gateway.routes import TYPE, Message, cluster_name, route_configuration

# Every version of all files together must fit what Envoy has at that moment: see `lab.gateway` for their order.
CLUSTERS, LISTENERS = "clusters.json", "listeners.json"
ROUTES: Final = "routes-"
_SOME_STATS: Final = ("cluster_manager.", "listener_manager.", "server.")
_MANY: Final = 1_000_000  # more than the lab has: the circuit breakers of a proxy are not what is looked at


def bootstrap(folder: str, admin: str) -> Message:
    """What Envoy starts with: where the rest is (`folder`), and the Unix socket on which it can be asked (`admin`)."""
    patterns: list[Message] = [{"prefix": prefix} for prefix in _SOME_STATS]
    patterns.append({"safe_regex": {"regex": r"http\..*\.rds\..*"}})
    return {
        "node": {"id": "k8snetlab", "cluster": "k8snetlab"},
        "admin": {"address": {"pipe": {"path": admin}}},
        # A gauge and a counter for everything would be most of Envoy's memory with thousands of clusters.
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": patterns}}},
        "dynamic_resources": {
            "lds_config": _source(f"{folder}/{LISTENERS}"),
            "cds_config": _source(f"{folder}/{CLUSTERS}"),
        },
    }


def discovery_files(
    table: Table, folder: str, certificates: Mapping[Certificate, tuple[str, str]], *, ipv6: bool
) -> dict[str, str]:
    """Name in `folder` → text. `certificates` are the paths of each one's chain and key, as Envoy sees them."""
    files = {
        CLUSTERS: _resources(_cluster(each) for each in upstreams(table)),
        LISTENERS: _resources(_listener(each, folder, certificates, ipv6=ipv6) for each in table.listeners),
    }
    for listener in table.listeners:
        for name, hosts in route_names(listener).items():
            configuration = route_configuration(name, hosts, _forwarded(listener))
            files[f"{ROUTES}{name}.json"] = _resources([configuration])
    return files


def upstreams(table: Table) -> list[Upstream]:
    """Every Service port that some route leads to, once."""
    found: dict[str, Upstream] = {}
    for listener in table.listeners:
        for host in (*listener.hosts, *(host for tls in listener.tls for host in tls.hosts)):
            for route in host.routes:
                for upstream in _of_action(route.action) if isinstance(route.action, Forward) else ():
                    found[cluster_name(upstream)] = upstream
    return [found[name] for name in sorted(found)]


def used_certificates(table: Table) -> list[Certificate]:
    return list(
        dict.fromkeys(each for listener in table.listeners for tls in listener.tls for each in tls.certificates)
    )


def route_names(listener: Listener) -> dict[str, Sequence[VirtualHost]]:
    """The route configurations of a listener: one for plain HTTP; with TLS one for each set of hosts."""
    if not listener.tls:
        return {_name(listener): listener.hosts}
    return {_tls_name(listener, tls): tls.hosts for tls in listener.tls}


def _name(listener: Listener) -> str:
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in listener.name)


def _tls_name(listener: Listener, tls: TlsHosts) -> str:
    """Those that share their hosts share their routes."""
    if all(each.hosts == tls.hosts for each in listener.tls):
        return _name(listener)
    return f"{_name(listener)}-{sha256(' '.join(tls.server_names).encode()).hexdigest()[:8]}"


def _of_action(action: Forward) -> Iterator[Upstream]:
    yield from (backend.upstream for backend in action.backends if backend.upstream is not None)
    yield from (mirror.upstream for mirror in action.mirrors)


def _source(path: str) -> Message:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _resources(resources: Iterable[Message]) -> str:
    """A DiscoveryResponse. Its version is its content, so a file that is written anew unchanged is no new version."""
    text = json.dumps(list(resources), separators=(",", ":"))
    version = sha256(text.encode()).hexdigest()[:16]
    return f'{{"version_info":"{version}","resources":{text}}}\n'


def _cluster(upstream: Upstream) -> Message:
    name = cluster_name(upstream)
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": str(each.ip), "port_value": each.port}}}}
        for each in upstream.endpoints
    ]
    threshold = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), _MANY)
    return {
        "@type": f"{TYPE}config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _listener(
    listener: Listener, folder: str, certificates: Mapping[Certificate, tuple[str, str]], *, ipv6: bool
) -> Message:
    chains: list[Message] = []
    if not listener.tls:
        chains.append({"filters": [_connection_manager(_name(listener), folder)]})
    for tls in listener.tls:
        chain: Message = {
            "filters": [_connection_manager(_tls_name(listener, tls), folder)],
            "transport_socket": _transport_socket([certificates[each] for each in tls.certificates]),
        }
        if tls.server_names:
            chain["filter_chain_match"] = {"server_names": list(tls.server_names)}
        chains.append(chain)
    address = {"address": "::" if ipv6 else "0.0.0.0", "port_value": listener.target}
    found: Message = {
        "@type": f"{TYPE}config.listener.v3.Listener",
        "name": listener.name,
        "address": {"socket_address": address | ({"ipv4_compat": True} if ipv6 else {})},
        "filter_chains": chains,
        # What has been asked for before a change is still answered; a listener that goes does so at once.
        "drain_type": "MODIFY_ONLY",
    }
    if listener.tls:
        found["listener_filters"] = [
            {
                "name": "tls_inspector",
                "typed_config": {"@type": f"{TYPE}extensions.filters.listener.tls_inspector.v3.TlsInspector"},
            }
        ]
    return found


def _connection_manager(name: str, folder: str) -> Message:
    """Limits for slow clients are Envoy's own, but for the headers, which it would wait for without end."""
    return {
        "name": "http",
        "typed_config": {
            "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "rds": {"route_config_name": name, "config_source": _source(f"{folder}/{ROUTES}{name}.json")},
            "http_filters": [
                {
                    "name": "router",
                    "typed_config": {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"},
                }
            ],
            "use_remote_address": True,
            "normalize_path": True,
            "request_headers_timeout": "10s",
            "server_header_transformation": "PASS_THROUGH",
            "http_protocol_options": {"accept_http_10": True},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        },
    }


def _transport_socket(pairs: Sequence[tuple[str, str]]) -> Message:
    certificates = [
        {"certificate_chain": {"filename": chain}, "private_key": {"filename": key}} for chain, key in pairs
    ]
    return {
        "name": "tls",
        "typed_config": {
            "@type": f"{TYPE}extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": certificates, "alpn_protocols": ["h2", "http/1.1"]},
        },
    }


def _forwarded(listener: Listener) -> tuple[Header, ...]:
    """As ingress-nginx without use-forwarded-headers: what a client says of itself is replaced."""
    if not listener.forwarded:
        return ()
    scheme = "https" if listener.tls else "http"
    client = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
    return (
        ("X-Real-IP", client),
        ("X-Forwarded-For", client),
        ("X-Forwarded-Host", "%REQ(:AUTHORITY)%"),
        ("X-Forwarded-Port", str(listener.port)),
        ("X-Forwarded-Scheme", scheme),
        ("X-Scheme", scheme),
    )


def missing_resources(new: str, old: str) -> bool:
    """Whether the older version of a file has resources that the newer one lacks."""
    return bool(_by_name(old).keys() - _by_name(new).keys())


def merged(new: str, old: str) -> str:
    """The newer version's resources, and those that only the older one has."""
    return _resources({**_by_name(old), **_by_name(new)}.values())


def _by_name(text: str) -> dict[str, Message]:
    return {each["name"]: each for each in json.loads(text)["resources"]} if text else {}
