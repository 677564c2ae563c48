"""What the internet's DNS says of the hosts of Ingresses and HTTPRoutes."""

from __future__ import annotations

from typing import Any

from k8snetlab.cluster.dns import internet_records

TEXT = """\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  rules:
  - {host: shop.example}
  - {host: "*.wild.example"}
  defaultBackend: {service: {name: a, port: {number: 80}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: nobodys}
spec:
  ingressClassName: nobodys
  rules: [{host: nobodys.example}]
  defaultBackend: {service: {name: a, port: {number: 80}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: eg
  addresses: [{value: 172.18.255.77}]
  listeners: [{name: http, port: 80, protocol: HTTP, hostname: "*.gw.org"}, {name: own, port: 81, protocol: TCP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: gw}], hostnames: [a.gw.org, elsewhere.org], rules: [{backendRefs: [{name: a, port: 80}]}]}
"""


def test_each_host_that_is_served_leads_to_its_load_balancer(world: Any) -> None:
    records = internet_records(world(TEXT))
    assert records["shop.example"] == records["*.wild.example"] == ("300 A 172.18.255.1",)
    assert records["a.gw.org"] == ("300 A 172.18.255.77",)
    assert records["gw.org"] == (), "what is between a name and the root exists"
    assert not {"nobodys.example", "elsewhere.org", "*.gw.org"} & records.keys()
