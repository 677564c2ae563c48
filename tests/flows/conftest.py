"""One small cluster with something of every kind that a target can name."""

from __future__ import annotations

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.load import load_text

MANIFESTS = b"""
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api.v2, labels: {app: api}}
spec: {nodeName: node2, containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop}
spec: {nodeName: node2, hostNetwork: true, containers: [{name: c, image: x}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template: {metadata: {labels: {app: idle}}, spec: {containers: [{name: c, image: x}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: x, ports: [{containerPort: 5432}]}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log, namespace: shop}
spec:
  selector: {matchLabels: {app: log}}
  template: {metadata: {labels: {app: log}}, spec: {containers: [{name: c, image: x}]}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.50
  selector: {app: web}
  ports:
  - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
  - {name: http, port: 80, targetPort: 8080}
  - {name: quic, port: 80, targetPort: 8080, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80, targetPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {clusterIP: None, selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: db.example.com}
"""


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return resolve(load_text(MANIFESTS, "t.yaml"), Overrides(nodes=2))


@pytest.fixture(scope="session")
def six() -> Cluster:
    """The same cluster, IPv6 only."""
    manifests = load_text(MANIFESTS.replace(b"10.96.0.50", b"fd00:10:96::50"), "t.yaml")
    return resolve(manifests, Overrides(nodes=2, ip_family="ipv6"))
