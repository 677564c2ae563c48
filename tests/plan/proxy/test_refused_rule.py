"""From a refused line, as each tool words it, back to the Service."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.proxy.chains import chain_hash
from k8snetlab.plan.proxy.refused_rule import refused_service

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {ipFamily: dual}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  ipFamilyPolicy: PreferDualStack
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  externalIPs: [192.0.2.80]
  loadBalancerIP: 172.18.255.80
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: web-8, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.8
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30008}]
---
apiVersion: v1
kind: Service
metadata: {name: hidden, namespace: shop, labels: {service.kubernetes.io/headless: ""}}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
"""
WEB = chain_hash("shop/web:http", "tcp")
SEP = chain_hash("shop/web:http", "tcp", "10.244.0.2:8080")
SEP6 = chain_hash("shop/web:http", "tcp", "[fd00:10:244::2]:8080")


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        pytest.param('-t nat -A KUBE-NODEPORTS -m comment --comment "shop/web:http" -j X', "shop/web", id="comment"),
        pytest.param('-t nat -A A -m comment --comment "shop/web-8 -> 10.244.0.2:8080"', "shop/web-8", id="no name"),
        pytest.param(f"-t nat -A KUBE-SVC-{WEB} -j ACCEPT", "shop/web", id="chain of a Service"),
        pytest.param(f"-t nat -A KUBE-SEP-{SEP} -p tcp -m tcp -j DNAT", "shop/web", id="chain of an endpoint"),
        pytest.param(f"-t nat -A KUBE-SEP-{SEP6} -p tcp -m tcp -j DNAT", "shop/web", id="chain of an IPv6 endpoint"),
        pytest.param("Service shop/web-8: ip daddr 10.96.0.80 drop", "shop/web-8", id="nft: already said"),
        pytest.param("add chain ip kube-proxy service-ULMVA6XW-shop/web/tcp/http", "shop/web", id="nft: chain"),
        pytest.param("10.96.0.8 . tcp . 80 : goto x", "shop/web-8", id="nft: element"),
        pytest.param("tcp . 30008 : goto x", "shop/web-8", id="nft: node port"),
        pytest.param("add KUBE-CLUSTER-IP 10.96.0.80,tcp:80", "shop/web", id="ipset"),
        pytest.param("add KUBE-NODE-PORT-TCP 30080", "shop/web", id="ipset: node port"),
        pytest.param("virtual server -t 172.18.255.80:80 -s rr", "shop/web", id="ipvs"),
        pytest.param("real server -t [fd00:10:96::80]:80 -r [fd00:10:244::2]:8080", "shop/web", id="ipvs: IPv6"),
        pytest.param("address 192.0.2.80/32 dev kube-ipvs0", "shop/web", id="address of kube-ipvs0"),
        pytest.param("-t filter -A FORWARD -s 10.244.0.0/16 -j ACCEPT", None, id="the network's"),
        pytest.param("virtual server -t 10.96.0.9:80 -s rr", None, id="nobody's: the proxy does not look at it"),
        pytest.param("", None, id="nothing said"),
    ],
)  # fmt: skip
def test_whose_it_is(resolved: Callable[..., Cluster], refused: str, expected: str | None) -> None:
    found = refused_service(resolved(MANIFESTS), refused)
    assert (found.key if found else None) == expected
