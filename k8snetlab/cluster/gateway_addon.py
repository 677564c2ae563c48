"""The proxy of Ingresses and Gateways as objects of the cluster: one pod, and a load balancer for each entrance.

All Ingresses share one address, as behind one ingress controller; every Gateway has its own, as Gateway API wants it.
They are told apart by the port of the proxy that the Service leads to. Client addresses are kept (externalTrafficPolicy
Local), as in ingress-nginx' own manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from k8snetlab.cluster.model import ADDON_LABEL
from k8snetlab.errors import Source
from k8snetlab.manifests.api import apps, core
from k8snetlab.manifests.api.meta import Labels, LabelSelector, ObjectMeta
from k8snetlab.manifests.api.scheduling import Toleration
from k8snetlab.manifests.document import Document

ADDON: Final = "gateway"
IMAGE: Final = "host/envoy"
FOLDER: Final = "/run/gateway"  # of the lab, where the proxy's files are
BOOTSTRAP: Final = f"{FOLDER}/bootstrap.json"
_ARGS: Final = ("-c", BOOTSTRAP, "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
_WANTED_ADDRESS: Final = "metallb.io/loadBalancerIPs"
_SOURCE: Final = Source("add-on/gateway", 1)


def gateway_addon(documents: Sequence[Document]) -> Iterator[Document]:
    """Nothing, unless there is an Ingress or a Gateway to serve."""
    kinds = {document.kind for document in documents}
    if not kinds & {"Ingress", "Gateway"}:
        return
    services = [*_ingress_service(documents), *_gateway_services(documents)]
    if services:
        yield from (Document(service, _SOURCE) for service in services)
        yield Document(_deployment(), _SOURCE)


def _of_kind(documents: Sequence[Document], kind: str) -> list[Any]:
    return [document.object for document in documents if document.kind == kind]


def _ingress_service(documents: Sequence[Document]) -> Iterator[core.Service]:
    from k8snetlab.cluster.routing.classes import ingress_choice
    from k8snetlab.cluster.routing.ingress import wants_https
    from k8snetlab.cluster.routing.table import INGRESS_PORTS, INGRESS_SERVICE

    classes = _of_kind(documents, "IngressClass")
    served = [each for each in _of_kind(documents, "Ingress") if ingress_choice(each, classes, {}).served]
    if served:
        plain, secure = INGRESS_PORTS
        ports = {plain: plain, secure: secure} if wants_https(served) else {plain: plain}
        yield _service(INGRESS_SERVICE, ports)


def _gateway_services(documents: Sequence[Document]) -> Iterator[core.Service]:
    from k8snetlab.cluster.routing.classes import gateway_choice
    from k8snetlab.cluster.routing.gateways import PROTOCOLS
    from k8snetlab.cluster.routing.table import gateway_service, target_ports

    classes = _of_kind(documents, "GatewayClass")
    served = {
        f"{each.metadata.namespace}/{each.metadata.name}": each
        for each in _of_kind(documents, "Gateway")
        if gateway_choice(each, classes).served
    }
    targets = target_ports((key, listener.port) for key, each in served.items() for listener in each.spec.listeners)
    for key, gateway in served.items():
        numbers = sorted({each.port for each in gateway.spec.listeners if each.protocol in PROTOCOLS})
        if not numbers:
            continue
        made_for = gateway.spec.infrastructure
        annotations = dict(made_for.annotations) if made_for else {}
        if addresses := [each.value for each in gateway.spec.addresses if each.type == "IPAddress" and each.value]:
            annotations[_WANTED_ADDRESS] = ",".join(addresses)
        labels = {"gateway.networking.k8s.io/gateway-name": gateway.metadata.name}
        labels |= dict(made_for.labels) if made_for else {}
        ports = {number: targets[key, number] for number in numbers}
        yield _service(gateway_service(key), ports, labels, annotations)


def _service(
    key: str, ports: dict[int, int], labels: Labels | None = None, annotations: Labels | None = None
) -> core.Service:
    namespace, name = key.split("/")
    return core.Service(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            labels={**(labels or {}), ADDON_LABEL: ADDON},
            annotations=annotations or {},
        ),
        spec=core.ServiceSpec(
            type="LoadBalancer",
            selector={ADDON_LABEL: ADDON},
            ports=tuple(
                core.ServicePort(name=f"port-{port}", port=port, target_port=target) for port, target in ports.items()
            ),
            external_traffic_policy="Local",
            allocate_load_balancer_node_ports=False,
        ),
    )


def _deployment() -> apps.Deployment:
    from k8snetlab.cluster.routing.table import SYSTEM_NAMESPACE

    labels: Labels = {ADDON_LABEL: ADDON}
    return apps.Deployment(
        metadata=ObjectMeta(name=ADDON, namespace=SYSTEM_NAMESPACE, labels=labels),
        spec=apps.DeploymentSpec(
            replicas=1,
            selector=LabelSelector(match_labels=labels),
            template=core.PodTemplateSpec(
                metadata=ObjectMeta(labels=labels),
                spec=core.PodSpec(
                    containers=(core.Container(name="envoy", image=IMAGE, args=_ARGS),),
                    tolerations=(Toleration(operator="Exists"),),
                ),
            ),
        ),
    )
