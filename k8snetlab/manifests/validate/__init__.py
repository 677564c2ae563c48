"""What the API server refuses, judged on one object at a time; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from k8snetlab.manifests.decode import Wrong
from k8snetlab.manifests.document import KubernetesObject
from k8snetlab.manifests.validate.messages import Wrongs
from k8snetlab.manifests.validate.metadata import check_metadata

# A kind's checks are imported with its first object, as its class is. A Namespace is nothing but its metadata.
_CHECKS: Mapping[str, tuple[str, str]] = {
    "Node": ("node", "check_node"),
    "Pod": ("pod", "check_pod"),
    "Service": ("service", "check_service"),
    "Endpoints": ("endpoints", "check_endpoints"),
    "EndpointSlice": ("endpoints", "check_endpoint_slice"),
    "Secret": ("secret", "check_secret"),
    "Deployment": ("workload", "check_deployment"),
    "ReplicaSet": ("workload", "check_replica_set"),
    "StatefulSet": ("workload", "check_stateful_set"),
    "DaemonSet": ("workload", "check_daemon_set"),
    "Job": ("workload", "check_job"),
    "CronJob": ("workload", "check_cron_job"),
    "NetworkPolicy": ("network_policy", "check_network_policy"),
    "ClusterNetworkPolicy": ("admin_policy", "check_cluster_network_policy"),
    "AdminNetworkPolicy": ("admin_policy", "check_admin_network_policy"),
    "BaselineAdminNetworkPolicy": ("admin_policy", "check_baseline_admin_network_policy"),
    "Ingress": ("ingress", "check_ingress"),
    "IngressClass": ("ingress", "check_ingress_class"),
    "GatewayClass": ("gateway", "check_gateway_class"),
    "Gateway": ("gateway", "check_gateway"),
    "HTTPRoute": ("gateway", "check_http_route"),
    "ReferenceGrant": ("gateway", "check_reference_grant"),
    "IPPool": ("calico", "check_ip_pool"),
    "IPReservation": ("calico", "check_ip_reservation"),
    "Lab": ("lab", "check_lab"),
    "Check": ("lab", "check_check"),
}


def validate(obj: KubernetesObject) -> list[Wrong]:
    """Everything wrong with the values of an object, as paths and messages."""
    kind = type(obj).__name__
    wrongs = list(check_metadata(obj.metadata, kind))
    if kind in _CHECKS:
        wrongs += _check_of(kind)(obj)
    return wrongs


@cache
def _check_of(kind: str) -> Callable[[Any], Wrongs]:
    module, name = _CHECKS[kind]
    check: Callable[[Any], Wrongs] = getattr(import_module(f"{__name__}.{module}"), name)
    return check
