"""TARGET, FROM and TO: what they name, what they default to, and what is said of those that name nothing."""

from __future__ import annotations

from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Flow
from k8snetlab.flows.targets import address_of, flow, place


@pytest.mark.parametrize(
    ("text", "name", "netns"),
    [
        pytest.param("shop/api", "pod/shop/api", "shop_api", id="NS/NAME"),
        pytest.param("pod/shop/api", "pod/shop/api", "shop_api", id="pod/NS/NAME"),
        pytest.param("po/shop/api", "pod/shop/api", "shop_api", id="kubectl's short name"),
        pytest.param("api.v2", "pod/default/api.v2", "default_api.v2", id="a dot in a pod's name"),
        pytest.param("pod/api.v2", "pod/default/api.v2", "default_api.v2", id="pod/NAME in default"),
        pytest.param("shop/agent", "pod/shop/agent", "node2", id="a hostNetwork pod lives on its node"),
        pytest.param("node/node2", "node/node2", "node2", id="node"),
        pytest.param("external/client", "external/client", "client", id="client"),
        pytest.param("external/internet", "external/internet", "internet", id="internet"),
        pytest.param("sts/shop/db", "pod/shop/db-0", "shop_db-0", id="StatefulSet"),
        pytest.param("statefulset/shop/db", "pod/shop/db-0", "shop_db-0", id="StatefulSet, in full"),
    ],
)
@pytest.mark.parametrize("as_destination", [False, True])
def test_place(cluster: Cluster, text: str, name: str, netns: str, as_destination: bool) -> None:
    found = place(cluster, text, as_destination=as_destination)
    assert (str(found), found.netns) == (name, netns)


def test_namespace_of_names_without_one(cluster: Cluster) -> None:
    assert str(place(cluster, "api", "shop")) == "pod/shop/api"
    assert str(place(cluster, "sts/db", "shop")) == "pod/shop/db-0"
    assert str(place(cluster, "svc/db", "shop", as_destination=True)) == "svc/shop/db"


@pytest.mark.parametrize("kind", ["deploy", "deployment"])
def test_a_workload_is_its_first_pod(cluster: Cluster, kind: str) -> None:
    first = min(pod.key for pod in cluster.pods if pod.labels.get("app") == "web")
    assert place(cluster, f"{kind}/web").name == first
    assert place(cluster, "ds/shop/log").name == min(pod.key for pod in cluster.pods if pod.labels.get("app") == "log")


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        pytest.param("svc/web", "service", "svc/default/web", id="Service"),
        pytest.param("service/shop/db", "service", "svc/shop/db", id="Service in a namespace"),
        pytest.param("10.244.0.2", "ip", "10.244.0.2", id="IPv4"),
        pytest.param("FD00::0001", "ip", "fd00::1", id="IPv6, in its short form"),
        pytest.param("web.default.svc.cluster.local", "name", "web.default.svc.cluster.local", id="DNS name"),
        pytest.param("shop.example.", "name", "shop.example.", id="DNS name with its root"),
        pytest.param("http://shop.example/cart?id=1", "url", "http://shop.example/cart?id=1", id="URL"),
    ],
)
def test_what_only_a_destination_can_be(cluster: Cluster, text: str, kind: str, name: str) -> None:
    found = place(cluster, text, as_destination=True)
    assert (found.kind, str(found), found.netns) == (kind, name, "")
    with pytest.raises(UsageError):
        place(cluster, text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param("shop/ap1", "no pod shop/ap1", "did you mean shop/api?", id="misspelt"),
        pytest.param("pod/shop/ap1", "no pod shop/ap1", "did you mean shop/api?", id="misspelt, with its kind"),
        pytest.param("api", "no pod default/api", "did you mean default/api.v2 or shop/api?", id="another namespace"),
        pytest.param("shop/db", "no pod shop/db", "did you mean shop/db-0 or shop/db-1", id="the workload's name"),
        pytest.param("node1", "no pod default/node1", "did you mean node/node1?", id="a node without its kind"),
        pytest.param(
            "client", "no pod default/client", "did you mean external/client?", id="external without its kind"
        ),
        pytest.param("nothing-like-it", "no pod default/nothing-like-it", "", id="nothing near"),
        pytest.param("node/nod1", "no node nod1", "did you mean node1", id="node"),
        pytest.param("external/clients", "no external host clients", "did you mean client?", id="external"),
        pytest.param("external/10.0.0.1", "no external host 10.0.0.1", "", id="external address"),
        pytest.param("deploy/wbe", "no Deployment default/wbe", "did you mean default/web?", id="Deployment"),
        pytest.param("deploy/idle", "Deployment default/idle has no pods", "", id="Deployment without pods"),
        pytest.param("sts/web", "no StatefulSet default/web", "", id="another kind of workload"),
        pytest.param("svc/web", "svc/web: a Service cannot send or run anything", "name one of its pods", id="Service"),
        pytest.param("", "no pod default/", "", id="nothing"),
        pytest.param("pod/", "no pod pod/", "", id="no name"),
        pytest.param("a/b/c", "no pod a/b/c", "", id="too many parts"),
    ],
)
def test_who_is_not_there(cluster: Cluster, text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        place(cluster, text)
    assert raised.value.message == message
    assert raised.value.hint.startswith(hint)
    assert bool(raised.value.hint) == bool(hint)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        pytest.param("svc/wep", "no service default/wep", "did you mean default/web?", id="Service"),
        pytest.param("web", "no pod default/web", "did you mean svc/default/web", id="a Service without its kind"),
        pytest.param("ftp://shop/", "ftp://shop/: not an http:// or https:// URL", "", id="scheme"),
        pytest.param("http://", "http://: not an http:// or https:// URL", "", id="no host"),
        pytest.param("http://a b/", "http://a b/: not an http:// or https:// URL", "", id="blank"),
        pytest.param("http://shop?x=1", "http://shop?x=1: not an http:// or https:// URL", "", id="query without path"),
        pytest.param("http://me@shop/", "http://me@shop/: not an http:// or https:// URL", "", id="user"),
        pytest.param(
            "http://shop:99999/", "http://shop:99999/: not an http:// or https:// URL", "", id="port too high"
        ),
        pytest.param("http://shop:0/", "http://shop:0/: not an http:// or https:// URL", "", id="port 0"),
        pytest.param(
            "http://[fd00::1::2]/", "http://[fd00::1::2]/: not an http:// or https:// URL", "", id="no address"
        ),
        pytest.param("10.0.0.300", "no pod default/10.0.0.300", "", id="no address, and no name either"),
    ],
)
def test_what_is_no_destination(cluster: Cluster, text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        place(cluster, text, as_destination=True)
    assert raised.value.message == message
    assert raised.value.hint.startswith(hint)


def summary(found: Flow) -> tuple[str, str, int]:
    return found.address, found.protocol, found.port


@pytest.mark.parametrize(
    ("to", "options", "expected"),
    [
        pytest.param("svc/web", {}, ("10.96.0.50", "UDP", 53), id="a Service's first port"),
        pytest.param("svc/web", {"port": 80}, ("10.96.0.50", "TCP", 80), id="the port's protocol, the first of two"),
        pytest.param("svc/web", {"port": 80, "protocol": "udp"}, ("10.96.0.50", "UDP", 80), id="the other of two"),
        pytest.param("svc/web", {"protocol": "TCP"}, ("10.96.0.50", "TCP", 80), id="the first port of a protocol"),
        pytest.param("svc/web", {"protocol": "HTTP"}, ("10.96.0.50", "HTTP", 80), id="HTTP needs a TCP port"),
        pytest.param("svc/web", {"port": 81}, ("10.96.0.50", "TCP", 81), id="a port it does not have"),
        pytest.param("svc/web", {"protocol": "ICMP"}, ("10.96.0.50", "ICMP", 0), id="ping of a ClusterIP"),
        pytest.param("node/node2", {}, ("172.18.0.3", "ICMP", 0), id="ping without a port"),
        pytest.param("node/node2", {"port": 30080}, ("172.18.0.3", "TCP", 30080), id="TCP with a port"),
        pytest.param(
            "node/node2", {"port": 30080, "protocol": "ICMP"}, ("172.18.0.3", "ICMP", 0), id="ping for all that"
        ),
        pytest.param("external/client", {"port": 7, "protocol": "UDP"}, ("203.0.113.10", "UDP", 7), id="external"),
        pytest.param("10.0.0.1", {"port": 80, "protocol": "HTTP"}, ("10.0.0.1", "HTTP", 80), id="address"),
        pytest.param("web.default", {"port": 80}, ("web.default", "TCP", 80), id="a name stays a name"),
        pytest.param("shop/agent", {}, ("172.18.0.3", "ICMP", 0), id="a hostNetwork pod"),
    ],
)
def test_flow_defaults(cluster: Cluster, to: str, options: dict[str, Any], expected: tuple[str, str, int]) -> None:
    assert summary(flow(cluster, "shop/api", to, **options)) == expected


def test_a_headless_service_is_its_pods(cluster: Cluster) -> None:
    """Its clients get the pods' addresses, and no proxy translates a port: 80 is then port 80 of the pod."""
    first = cluster.pod("shop/db-0")
    assert first is not None
    address = str(first.ips[0])
    assert summary(flow(cluster, "shop/api", "svc/shop/db")) == (address, "TCP", 5432)
    assert summary(flow(cluster, "shop/api", "svc/shop/db", port=80)) == (address, "TCP", 80)
    assert summary(flow(cluster, "shop/api", "svc/shop/db", port=5432)) == (address, "TCP", 5432)
    assert summary(flow(cluster, "shop/api", "svc/shop/db", port=9)) == (address, "TCP", 9)


@pytest.mark.parametrize(
    ("url", "options", "address", "port", "path", "host"),
    [
        pytest.param("http://shop.example/cart?a=1", {}, "shop.example", 80, "/cart?a=1", "shop.example", id="plain"),
        pytest.param("http://shop.example:8080", {}, "shop.example", 8080, "/", "shop.example", id="port, no path"),
        pytest.param("https://shop.example/a", {}, "shop.example", 443, "/a", "shop.example", id="https"),
        pytest.param("http://10.0.0.1/", {"port": 81}, "10.0.0.1", 81, "/", "10.0.0.1", id="--port"),
        pytest.param("http://10.0.0.1:81/", {"port": 81}, "10.0.0.1", 81, "/", "10.0.0.1", id="both say the same"),
        pytest.param("http://[fd00::1]:81/x", {}, "fd00::1", 81, "/x", "fd00::1", id="IPv6"),
        pytest.param("http://web/", {"protocol": "http"}, "web", 80, "/", "web", id="a name of one label"),
    ],
)
def test_url(
    cluster: Cluster, url: str, options: dict[str, Any], address: str, port: int, path: str, host: str
) -> None:
    found = flow(cluster, "shop/api", url, **options)
    assert (found.address, found.port, found.path, found.host) == (address, port, path, host)
    assert (found.protocol, str(found.destination)) == ("HTTP", url)
    assert found.tls is url.startswith("https")


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        pytest.param("shop/api", {"protocol": "TCP"}, "TCP to shop/api needs a port", id="TCP without a port"),
        pytest.param("shop/api", {"protocol": "GRE", "port": 1}, "unknown protocol GRE", id="protocol"),
        pytest.param("http://h/", {"protocol": "UDP"}, "http://h/: a URL is asked by HTTP, not UDP", id="URL by UDP"),
        pytest.param("http://h:1/", {"port": 2}, "http://h:1/ says port 1, --port says 2", id="two ports"),
        pytest.param("svc/nobody", {}, "svc/default/nobody is headless and has no ready endpoint", id="nobody"),
        pytest.param(
            "svc/elsewhere", {}, "svc/default/elsewhere is only a DNS name for db.example.com", id="ExternalName"
        ),
    ],
)
def test_flows_that_make_no_sense(cluster: Cluster, to: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        flow(cluster, "shop/api", to, **options)
    assert raised.value.message == message


def test_addresses_of_the_primary_family(six: Cluster) -> None:
    assert summary(flow(six, "shop/api", "svc/web", port=80)) == ("fd00:10:96::50", "TCP", 80)
    for target in ("shop/api", "node/node1", "external/client"):
        assert ":" in address_of(six, place(six, target))
