"""The checks of Ingresses and Gateways: one for each host and path, each with one certain answer."""

from __future__ import annotations

from textwrap import dedent

import pytest

from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.flows.model import Check
from k8snetlab.manifests.load import load_text
from k8snetlab.oracle.derive import derive

BACKENDS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: none, port: 81, targetPort: nobody}]
---
"""
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i, annotations: {NOTES}}
spec:
  tls: [{hosts: [x.com], secretName: s}]
  rules:
  - host: x.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /healthz, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /gone, pathType: Exact, backend: {service: {name: gone, port: {number: 80}}}}
  - host: "*.x.com"
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
"""
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: eg, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: gw}]
  hostnames: [shop.example]
  rules: RULES
"""
TO_WEB = "backendRefs: [{name: web, port: 80}]"


def checks(text: str, kind: str) -> list[Check]:
    cluster = resolve(load_text(dedent(BACKENDS + text).encode(), "t.yaml"), Overrides(), with_addons=True)
    return [check for check in derive(cluster) if check.type == kind]


def urls(found: list[Check]) -> list[str]:
    return [f"http{'s' if each.flow.tls else ''}://{each.flow.host}{each.flow.path}" for each in found]


def test_each_host_and_path_of_an_ingress() -> None:
    found = checks(INGRESS.replace("NOTES", ""), "external-to-ingress")
    assert urls(found) == [
        "http://x.com/",
        "https://x.com/",
        "http://x.com/healthz/below",  # the lab's server says something else at /healthz itself
        "https://x.com/healthz/below",
        "http://x.com/gone",
        "https://x.com/gone",
        "http://any.x.com/",
    ]
    first, gone = found[0], found[4]
    assert first.source == "pod"
    assert len(first.sources) == 1
    assert len(first.servers) == 2
    assert all(server.startswith("default/web-") for server in first.servers)
    assert (gone.expected, gone.status, gone.servers) == ("refused", 503, ())


def test_a_redirect_is_checked_with_its_target() -> None:
    notes = "nginx.ingress.kubernetes.io/ssl-redirect: 'true'"
    first = checks(INGRESS.replace("NOTES", notes), "external-to-ingress")[0]
    assert (first.expected, first.status, first.location) == ("ok", 308, "https://x.com/")


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        pytest.param(f"[{{{TO_WEB}}}]", ["GET http://shop.example/ {}"], id="everything"),
        pytest.param(
            f"[{{matches: [{{path: {{value: /a}}, method: POST, headers: [{{name: X-A, value: '1'}}]}}], {TO_WEB}}}]",
            ["POST http://shop.example/a {'x-a': '1'}"],
            id="path, method and header",
        ),
        pytest.param(
            f"[{{matches: [{{queryParams: [{{name: q, value: 'a b'}}]}}], {TO_WEB}}}]",
            ["GET http://shop.example/?q=a%20b {}"],
            id="a parameter",
        ),
        pytest.param(
            "[{backendRefs: [{name: web, port: 80}, {name: gone, port: 80}]}]", [], id="no certain answer: no check"
        ),
        pytest.param("[{backendRefs: [{name: web, port: 81}]}]", ["GET http://shop.example/ {}"], id="503 is certain"),
        pytest.param(f"[{{matches: [{{method: CONNECT}}], {TO_WEB}}}]", [], id="CONNECT"),
    ],
)
def test_each_match_of_a_route(rules: str, wanted: list[str]) -> None:
    found = checks(GATEWAY.replace("RULES", rules), "external-to-gateway")
    said = [f"{each.flow.method} http://{each.flow.host}{each.flow.path} {dict(each.flow.headers)}" for each in found]
    assert said == wanted


POLICY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [FROM]}
"""


@pytest.mark.parametrize(
    ("peers", "expected"),
    [
        pytest.param("", "timeout", id="nobody"),
        pytest.param(
            "{from: [{ipBlock: {cidr: 203.0.113.0/24}}]}", "timeout", id="the client, whom the pod never sees"
        ),
        pytest.param("{from: [{namespaceSelector: {}}]}", "ok", id="pods of all namespaces, the proxy among them"),
        pytest.param(
            "{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: k8snetlab-system}}}]}",
            "ok",
            id="the proxy's namespace",
        ),
        pytest.param("{from: [{podSelector: {}}]}", "timeout", id="its own namespace only"),
    ],
)
def test_a_policy_of_the_backend_is_about_the_proxy(peers: str, expected: str) -> None:
    policy = POLICY.replace("[FROM]", f"[{peers}]")
    found = checks(INGRESS.replace("NOTES", "") + policy, "external-to-ingress")
    root, gone = found[0], found[4]
    assert root.expected == expected
    assert bool(root.because) is (expected == "timeout")
    assert (gone.expected, gone.status) == ("refused", 503), "the proxy answers that by itself"


def test_a_policy_of_the_proxy_itself_is_about_the_client() -> None:
    policy = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: k8snetlab-system}
spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}
"""
    found = checks(INGRESS.replace("NOTES", "") + policy, "external-to-ingress")
    assert {each.expected for each in found} == {"timeout"}
