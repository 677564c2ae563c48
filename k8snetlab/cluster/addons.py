"""What a running cluster has without anybody's manifests: its DNS and its API server, as kubeadm installs them.

They are ordinary objects, so they are scheduled, get addresses and endpoints, and are reached by the same rules as all
others. A label marks them; what the user's manifests bring themselves is not added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from typing import Final

from k8snetlab.cluster.gateway_addon import gateway_addon
from k8snetlab.cluster.model import ADDON_LABEL, LabConfig, Node
from k8snetlab.cluster.services import API_SERVER, CLUSTER_DNS
from k8snetlab.errors import Source
from k8snetlab.manifests.api import apps, core
from k8snetlab.manifests.api.meta import Labels, LabelSelector, ObjectMeta
from k8snetlab.manifests.api.scheduling import (
    Affinity,
    PodAffinity,
    PodAffinityTerm,
    Toleration,
    WeightedPodAffinityTerm,
)
from k8snetlab.manifests.document import Document, KubernetesObject

API_PORT: Final = 6443
DNS_PORT: Final = 53
DNS_REPLICAS: Final = 2  # kubeadm's
DNS_IMAGE: Final = "k8snetlab.dev/dns"  # the lab's own DNS server, which the pod server leaves port 53 to
API_IMAGE: Final = "k8snetlab.dev/kube-apiserver"
KNOT_CONF: Final = "/run/files/dns/knot.conf"
COREFILE: Final = "/run/files/dns/Corefile"

_NAMESPACE, _DNS_NAME = CLUSTER_DNS.split("/")
_DNS_LABELS: Final = {"k8s-app": "kube-dns"}
_PORTS: Final = (("dns", "UDP", DNS_PORT), ("dns-tcp", "TCP", DNS_PORT), ("metrics", "TCP", 9153))


def addons(config: LabConfig, nodes: Sequence[Node], documents: Sequence[Document]) -> Iterator[Document]:
    """The documents to add to those of the user, for a cluster of these nodes."""
    given = {document.key for document in documents}
    namespace, name = API_SERVER.split("/")
    if ("Service", namespace, name) not in given:
        for written in _api_server(nodes[0], namespace, name):
            document = Document(written, Source("add-on/kube-apiserver", 1))
            if document.key not in given:
                yield document
    yield from gateway_addon(documents)
    if config.dns != "none" and ("Service", _NAMESPACE, _DNS_NAME) not in given:
        for written in (_dns_service(), _dns_deployment(config)):
            document = Document(written, Source("add-on/dns", 1))
            if document.key not in given:
                yield document


def _api_server(node: Node, namespace: str, name: str) -> Iterator[KubernetesObject]:
    """A Service without selector, whose slice the API server itself keeps, and the static pod behind it."""
    labels = {ADDON_LABEL: "kube-apiserver", "component": "apiserver", "provider": "kubernetes"}
    yield core.Service(
        metadata=ObjectMeta(name=name, namespace=namespace, labels=labels),
        spec=core.ServiceSpec(ports=(core.ServicePort(name="https", port=443, target_port=API_PORT),)),
    )
    address = node.addresses[0]
    yield core.EndpointSlice(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            labels={ADDON_LABEL: "kube-apiserver", "kubernetes.io/service-name": name},
        ),
        address_type="IPv4" if isinstance(address, IPv4Address) else "IPv6",
        endpoints=(core.SliceEndpoint(addresses=(str(address),)),),
        ports=(core.SlicePort(name="https", port=API_PORT, protocol="TCP"),),
    )
    pod_labels = {ADDON_LABEL: "kube-apiserver", "component": "kube-apiserver", "tier": "control-plane"}
    yield core.Pod(
        metadata=ObjectMeta(name=f"kube-apiserver-{node.name}"[:253], namespace=_NAMESPACE, labels=pod_labels),
        spec=core.PodSpec(
            containers=(core.Container(name="kube-apiserver", image=API_IMAGE, ports=_container_ports(API_PORT)),),
            node_name=node.name,
            host_network=True,
        ),
    )


def _container_ports(port: int) -> tuple[core.ContainerPort, ...]:
    return (core.ContainerPort(container_port=port),)


def _dns_service() -> core.Service:
    """It gets the tenth address, as every Service of this name does."""
    labels = {
        ADDON_LABEL: "dns",
        **_DNS_LABELS,
        "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS",
    }
    ports = tuple(
        core.ServicePort(name=name, protocol=protocol, port=port, target_port=port)  # type: ignore[arg-type]
        for name, protocol, port in _PORTS
    )
    return core.Service(
        metadata=ObjectMeta(name=_DNS_NAME, namespace=_NAMESPACE, labels=labels),
        spec=core.ServiceSpec(selector=_DNS_LABELS, ports=ports),
    )


def _dns_deployment(config: LabConfig) -> apps.Deployment:
    labels: Labels = {ADDON_LABEL: "dns", **_DNS_LABELS}
    selector = LabelSelector(match_labels=_DNS_LABELS)
    apart = PodAffinityTerm(label_selector=selector, topology_key="kubernetes.io/hostname")
    preferred = (WeightedPodAffinityTerm(weight=100, pod_affinity_term=apart),)
    return apps.Deployment(
        metadata=ObjectMeta(name="coredns", namespace=_NAMESPACE, labels=labels),
        spec=apps.DeploymentSpec(
            replicas=DNS_REPLICAS,
            selector=selector,
            template=core.PodTemplateSpec(
                metadata=ObjectMeta(labels=labels),
                spec=core.PodSpec(
                    containers=(_dns_container(config),),
                    affinity=Affinity(
                        pod_anti_affinity=PodAffinity(preferred_during_scheduling_ignored_during_execution=preferred)
                    ),
                    # kubeadm's tolerates the control plane's taint; a lab whose nodes all have one needs names as well.
                    tolerations=(Toleration(operator="Exists"),),
                    dns_policy="Default",
                ),
            ),
        ),
    )


def _dns_container(config: LabConfig) -> core.Container:
    ports = tuple(
        core.ContainerPort(name=name, protocol=protocol, container_port=port)  # type: ignore[arg-type]
        for name, protocol, port in _PORTS
    )
    match config.dns:
        case "knot":
            return core.Container(name="knot", image="host/knotd", args=("-c", KNOT_CONF), ports=ports[:2])
        case "coredns":
            args = ("-conf", COREFILE)
            return core.Container(name="coredns", image=f"host/{config.coredns}", args=args, ports=ports)
        case _:
            return core.Container(
                name="coredns",
                image=DNS_IMAGE,
                ports=ports,
                liveness_probe=core.Probe(http_get=core.HTTPGetAction(path="/health", port=8080)),
                readiness_probe=core.Probe(http_get=core.HTTPGetAction(path="/ready", port=8181)),
            )
