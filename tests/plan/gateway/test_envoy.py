"""The files of the proxy, and which of them a change touches."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from k8snetlab.cluster.model import Endpoint
from k8snetlab.cluster.routing.model import (
    Backend,
    Certificate,
    Forward,
    Listener,
    Match,
    Route,
    Table,
    TlsHosts,
    Upstream,
    VirtualHost,
)
from k8snetlab.plan.gateway.envoy import (
    CLUSTERS,
    LISTENERS,
    bootstrap,
    discovery_files,
    merged,
    missing_resources,
    used_certificates,
)

FOLDER = "/run/gateway"


def upstream(name: str, *addresses: str) -> Upstream:
    return Upstream(f"shop/{name}", 80, tuple(Endpoint(ip=IPv4Address(ip), port=8080, node=None) for ip in addresses))


def hosts(*backends: Upstream) -> tuple[VirtualHost, ...]:
    action = Forward(backends=tuple(Backend(upstream=each) for each in backends))
    return (VirtualHost("", (Route(match=Match(), action=action, origin="Ingress shop/i"),)),)


WEB = upstream("web", "10.244.0.2", "10.244.1.2")
PLAIN = Listener(name="shop/gw:80", service="s/s", port=80, target=10001, hosts=hosts(WEB))
CERTIFICATE = Certificate(names=("x.com",))
SECURE = Listener(
    name="shop/gw:443",
    service="s/s",
    port=443,
    target=10002,
    tls=(TlsHosts(("x.com",), (CERTIFICATE,), hosts(WEB)), TlsHosts((), (CERTIFICATE,), hosts())),
)
PATHS = {CERTIFICATE: ("/run/gateway/c.crt", "/run/gateway/c.key")}


def files(*listeners: Listener, ipv6: bool = False) -> dict[str, str]:
    return discovery_files(Table(listeners), FOLDER, PATHS, ipv6=ipv6)


def resources(text: str) -> list[Any]:
    found: list[Any] = json.loads(text)["resources"]
    return found


def test_a_listener_its_routes_and_its_clusters() -> None:
    found = files(PLAIN)
    assert sorted(found) == [CLUSTERS, LISTENERS, "routes-shop_gw_80.json"]
    (listener,) = resources(found[LISTENERS])
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 10001}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["rds"]["config_source"]["path_config_source"]["path"] == f"{FOLDER}/routes-shop_gw_80.json"
    (cluster,) = resources(found[CLUSTERS])
    ends = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [each["endpoint"]["address"]["socket_address"]["address"] for each in ends] == ["10.244.0.2", "10.244.1.2"]


def test_with_ipv6_a_listener_takes_both_families() -> None:
    (listener,) = resources(files(PLAIN, ipv6=True)[LISTENERS])
    assert listener["address"]["socket_address"] == {"address": "::", "port_value": 10001, "ipv4_compat": True}


def test_with_tls_each_name_has_its_certificate_and_routes() -> None:
    found = files(SECURE)
    (listener,) = resources(found[LISTENERS])
    named, other = listener["filter_chains"]
    assert named["filter_chain_match"] == {"server_names": ["x.com"]}
    assert "filter_chain_match" not in other
    context = named["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificates"][0]["certificate_chain"] == {"filename": "/run/gateway/c.crt"}
    assert len([name for name in found if name.startswith("routes-")]) == 2
    assert used_certificates(Table((PLAIN, SECURE))) == [CERTIFICATE]


def test_chains_that_share_their_hosts_share_one_file_of_routes() -> None:
    shared = replace(SECURE, tls=tuple(replace(each, hosts=hosts(WEB)) for each in SECURE.tls))
    assert [name for name in files(shared) if name.startswith("routes-")] == ["routes-shop_gw_443.json"]


def test_another_route_touches_no_listener_and_other_endpoints_touch_no_route() -> None:
    api = upstream("api", "10.244.0.9")
    before, after = files(PLAIN), files(replace(PLAIN, hosts=hosts(api)))
    assert [name for name in before if before[name] != after[name]] == [CLUSTERS, "routes-shop_gw_80.json"]
    moved = files(replace(PLAIN, hosts=hosts(upstream("web", "10.244.0.7"))))
    assert [name for name in before if before[name] != moved[name]] == [CLUSTERS]


def test_what_ingress_nginx_tells_a_backend_about_the_client() -> None:
    forwarded = replace(PLAIN, forwarded=True)
    (configuration,) = resources(files(forwarded)["routes-shop_gw_80.json"])
    added = {each["header"]["key"]: each["header"]["value"] for each in configuration["request_headers_to_add"]}
    assert added["X-Forwarded-For"] == added["X-Real-IP"] == "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
    assert (added["X-Forwarded-Port"], added["X-Scheme"]) == ("80", "http")


def test_both_versions_of_the_clusters() -> None:
    old = files(replace(PLAIN, hosts=hosts(WEB, upstream("old", "10.0.0.1"))))[CLUSTERS]
    new = files(replace(PLAIN, hosts=hosts(upstream("web", "10.0.0.9"), upstream("new", "10.0.0.2"))))[CLUSTERS]
    assert missing_resources(new, old)
    assert not missing_resources(new, "")
    both = {each["name"]: each for each in resources(merged(new, old))}
    assert sorted(both) == ["shop/new:80", "shop/old:80", "shop/web:80"]
    web = both["shop/web:80"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert web[0]["endpoint"]["address"]["socket_address"]["address"] == "10.0.0.9", "the newer one counts"


def test_the_start_up_configuration_watches_two_files_and_is_asked_on_a_unix_socket() -> None:
    found = bootstrap(FOLDER, f"{FOLDER}/admin.sock")
    assert found["admin"] == {"address": {"pipe": {"path": f"{FOLDER}/admin.sock"}}}
    dynamic = found["dynamic_resources"]
    assert dynamic["cds_config"]["path_config_source"]["path"] == f"{FOLDER}/{CLUSTERS}"
    assert dynamic["lds_config"]["path_config_source"]["path"] == f"{FOLDER}/{LISTENERS}"
