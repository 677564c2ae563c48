"""What reading manifests yields: typed objects, each with where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source

if (
    TYPE_CHECKING
):  # making the classes costs most of a short command's time: a kind's module is imported when it is read
    from k8snetlab.manifests.api import admin_policy, apps, calico, core, gateway, lab, networking, secret

    KubernetesObject = (
        core.Namespace
        | core.Node
        | core.Pod
        | core.Service
        | core.Endpoints
        | core.EndpointSlice
        | secret.Secret
        | apps.Deployment
        | apps.ReplicaSet
        | apps.StatefulSet
        | apps.DaemonSet
        | apps.Job
        | apps.CronJob
        | networking.NetworkPolicy
        | networking.Ingress
        | networking.IngressClass
        | admin_policy.ClusterNetworkPolicy
        | admin_policy.AdminNetworkPolicy
        | admin_policy.BaselineAdminNetworkPolicy
        | gateway.GatewayClass
        | gateway.Gateway
        | gateway.HTTPRoute
        | gateway.ReferenceGrant
        | calico.IPPool
        | calico.IPReservation
        | lab.Lab
        | lab.Check
    )
else:
    KubernetesObject = object


@dataclass(frozen=True, slots=True)
class Document:
    """One object and where it came from. `source` is kept out of the object so that equal objects compare equal."""

    object: KubernetesObject
    source: Source

    @property
    def kind(self) -> str:
        return type(self.object).__name__

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name: what must be unique."""
        return self.kind, self.object.metadata.namespace, self.object.metadata.name


@dataclass(frozen=True, slots=True)
class Manifests:
    """All documents in the order read, and how many documents of each other kind were read and ignored."""

    documents: tuple[Document, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
