"""Which Ingresses and Gateways the lab serves: the classes that exist, the default one, and well-known ones.

The lab stands in for whatever controller a class names. Manifests often rely on a class that the controller's own
installation brings, so the usual ones count as installed unless the manifests say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from k8snetlab.cluster.creation_order import CreationOrder, creation_key
from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.gateway import Gateway, GatewayClass
from k8snetlab.manifests.api.networking import Ingress, IngressClass

DEFAULT_ANNOTATION: Final = "ingressclass.kubernetes.io/is-default-class"
CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"  # the form before the field existed

# What the installation of each controller calls its class.
INSTALLED_INGRESS_CLASSES: Final = frozenset({
    "nginx", "nginx-internal", "public", "traefik", "haproxy", "contour", "kong", "istio", "cilium", "alb", "gce",
    "gce-internal", "azure-application-gateway", "azure-alb-external", "webapprouting.kubernetes.azure.com",
    "openshift-default", "apisix", "higress", "tyk",
})  # fmt: skip
INSTALLED_GATEWAY_CLASSES: Final = frozenset({
    "istio", "cilium", "nginx", "eg", "envoy", "envoy-gateway", "contour", "kong", "traefik", "haproxy", "apisix",
    "kgateway", "gloo-gateway", "higress", "azure-alb-external", "amazon-vpc-lattice",
    "gke-l7-global-external-managed", "gke-l7-regional-external-managed", "gke-l7-rilb", "gke-l7-gxlb",
    "amazon-alb",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """The class that an object is of, empty when none; `served`, and if not, `reason` says why."""

    name: str
    served: bool
    reason: str = ""
    assumed: bool = False  # no object of that class is there


def default_class(classes: Sequence[IngressClass], creation_order: CreationOrder) -> str:
    """The newest of those marked as default; of several as old the first by name (IngressClass, "Default Ingress
    class"; admission plugin DefaultIngressClass)."""
    marked = [each.metadata.name for each in classes if each.metadata.annotations.get(DEFAULT_ANNOTATION) == "true"]
    return min(
        marked, key=lambda name: (-creation_order.get(creation_key("IngressClass", "", name), 0), name), default=""
    )


def ingress_choice(ingress: Ingress, classes: Sequence[IngressClass], creation_order: CreationOrder) -> ClassChoice:
    """Which class an Ingress is of. Without any class in the manifests, one that names none is the lab's to serve."""
    annotated = ingress.metadata.annotations.get(CLASS_ANNOTATION)
    wanted = ingress.spec.ingress_class_name or annotated
    known = {each.metadata.name for each in classes}
    if wanted is None:
        name = default_class(classes, creation_order)
        if name or not classes:
            return ClassChoice(name, served=True)
        return ClassChoice("", served=False, reason="it names no class and no IngressClass is the default")
    if wanted in known:
        return ClassChoice(wanted, served=True)
    if wanted in INSTALLED_INGRESS_CLASSES:
        return ClassChoice(wanted, served=True, assumed=True)
    return ClassChoice(wanted, served=False, reason=f"there is no IngressClass {wanted}")


def gateway_choice(gateway: Gateway, classes: Sequence[GatewayClass]) -> ClassChoice:
    wanted = gateway.spec.gateway_class_name
    if any(each.metadata.name == wanted for each in classes):
        return ClassChoice(wanted, served=True)
    if wanted in INSTALLED_GATEWAY_CLASSES:
        return ClassChoice(wanted, served=True, assumed=True)
    return ClassChoice(wanted, served=False, reason=f"there is no GatewayClass {wanted}")
