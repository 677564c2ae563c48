"""Which class stands for which kind, and what to say of a kind or version that is close to one but is not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

from k8snetlab.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """An understood kind: its API group ("" is the core group), the versions of it that are read, the preferred first.

    `aliases` are further apiVersions under which the same object is written. `module` is where in `api` its class is;
    it is imported when the first object of the kind is read.
    """

    name: str
    module: str
    group: str
    versions: tuple[str, ...] = ("v1",)
    namespaced: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def cls(self) -> type[Any]:
        """The class of its objects."""
        return getattr(import_module(f"k8snetlab.manifests.api.{self.module}"), self.name)  # type: ignore[no-any-return]

    @property
    def api_versions(self) -> tuple[str, ...]:
        """What may stand as apiVersion."""
        own = (f"{self.group}/{version}" if self.group else version for version in self.versions)
        return (*own, *self.aliases)


POLICY = "policy.networking.k8s.io"
GATEWAY = "gateway.networking.k8s.io"
LAB = "k8snetlab.dev"
CALICO = "projectcalico.org"
CALICO_STORE = ("crd.projectcalico.org/v1",)  # how Calico keeps its objects in etcd; without its API server, the way in

_UNDERSTOOD = (
    Kind("Namespace", "core", "", namespaced=False),
    Kind("Node", "core", "", namespaced=False),
    Kind("Pod", "core", ""),
    Kind("Service", "core", ""),
    Kind("Endpoints", "core", ""),
    Kind("EndpointSlice", "core", "discovery.k8s.io"),
    Kind("Secret", "secret", ""),
    Kind("Deployment", "apps", "apps"),
    Kind("ReplicaSet", "apps", "apps"),
    Kind("StatefulSet", "apps", "apps"),
    Kind("DaemonSet", "apps", "apps"),
    Kind("Job", "apps", "batch"),
    Kind("CronJob", "apps", "batch"),
    Kind("NetworkPolicy", "networking", "networking.k8s.io"),
    Kind("Ingress", "networking", "networking.k8s.io"),
    Kind("IngressClass", "networking", "networking.k8s.io", namespaced=False),
    Kind("ClusterNetworkPolicy", "admin_policy", POLICY, ("v1alpha2", "v1beta1"), namespaced=False),
    Kind("AdminNetworkPolicy", "admin_policy", POLICY, ("v1alpha1",), namespaced=False),
    Kind("BaselineAdminNetworkPolicy", "admin_policy", POLICY, ("v1alpha1",), namespaced=False),
    Kind("GatewayClass", "gateway", GATEWAY, ("v1", "v1beta1"), namespaced=False),
    Kind("Gateway", "gateway", GATEWAY, ("v1", "v1beta1")),
    Kind("HTTPRoute", "gateway", GATEWAY, ("v1", "v1beta1")),
    Kind("ReferenceGrant", "gateway", GATEWAY, ("v1beta1", "v1")),
    Kind("IPPool", "calico", CALICO, ("v3",), namespaced=False, aliases=CALICO_STORE),
    Kind("IPReservation", "calico", CALICO, ("v3",), namespaced=False, aliases=CALICO_STORE),
    Kind("Lab", "lab", LAB, namespaced=False),
    Kind("Check", "lab", LAB),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _UNDERSTOOD})

# Kinds of the same groups that are not understood, some of them spelled much like one that is.
_OTHER_KINDS = frozenset({
    "Binding", "ComponentStatus", "ConfigMap", "Event", "LimitRange", "PersistentVolume", "PersistentVolumeClaim",
    "PodTemplate", "ReplicationController", "ResourceQuota", "ServiceAccount", "ControllerRevision",
    "IPAddress", "ServiceCIDR", "BackendTLSPolicy", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute", "BackendLBPolicy",
    "ListenerSet", "XListenerSet", "XBackendTrafficPolicy",
})  # fmt: skip

# Calico has many other kinds, of which two are named much like one that is understood.
_OUR_GROUPS = frozenset(kind.group for kind in _UNDERSTOOD) - {CALICO} | {"extensions"}


def find_kind(api_version: str, kind: str) -> Kind | None:
    """The understood kind, or None for one that is to be ignored; ValueError with the reason if it must be refused.

    A kind of the same name in somebody else's group (Istio's Gateway, Knative's Service) is not ours to judge.
    """
    group = api_version.rpartition("/")[0]
    known = KINDS.get(kind)
    if known and api_version in known.api_versions:
        return known
    if known and _is_kubernetes(group):
        raise ValueError(f'no matches for kind "{kind}" in version "{api_version}"; use {known.api_versions[0]}')
    if known is None and group in _OUR_GROUPS and kind not in _OTHER_KINDS:
        close = [name for name in KINDS if name.lower() == kind.lower()]
        close = close or difflib.get_close_matches(kind, KINDS, n=1, cutoff=0.8)
        if close or group == LAB:
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f'no matches for kind "{kind}" in version "{api_version}"{hint}')
    return None


def _is_kubernetes(group: str) -> bool:
    """Groups without a dot, or under k8s.io, belong to Kubernetes itself."""
    return "." not in group or group.endswith(".k8s.io") or group == LAB
