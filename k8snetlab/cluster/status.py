"""Objects as `kubectl get -o json` would show them: what the manifests said, and the status the cluster gave it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from k8snetlab.cluster.endpoint_slices import endpoints_object, generated_slices
from k8snetlab.cluster.ip_usage import rendered_pools, rendered_ranges
from k8snetlab.cluster.model import Cluster, Node, Pod, Service, Workload
from k8snetlab.cluster.podnames import template_hash
from k8snetlab.manifests.api import apps, core
from k8snetlab.manifests.api.meta import ObjectMeta
from k8snetlab.manifests.encode import encode, encode_value

Rendered = dict[str, Any]
API_VERSIONS = {"Job": "batch/v1", "CronJob": "batch/v1"}  # of an owner; all others are apps/v1

WORKLOAD_KINDS = {
    "deployments": "Deployment",
    "replicasets": "ReplicaSet",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "jobs": "Job",
    "cronjobs": "CronJob",
}

ADMIN_KINDS = {
    "clusternetworkpolicies": "ClusterNetworkPolicy",
    "adminnetworkpolicies": "AdminNetworkPolicy",
    "baselineadminnetworkpolicies": "BaselineAdminNetworkPolicy",
}


def render(cluster: Cluster, kind: str, namespace: str | None = None, name: str | None = None) -> list[Rendered]:
    """The objects of one kind (plural, lower case, as in `KINDS`), by namespace and name; None means all.

    Raises `KeyError` for a kind that is not in `KINDS`.
    """
    found = [
        rendered
        for rendered in KINDS[kind](cluster)
        if (name is None or rendered["metadata"].get("name") == name)
        and (namespace is None or rendered["metadata"].get("namespace", namespace) == namespace)
    ]
    if kind in ("nodes", "ipranges"):
        return found  # by index, not by name: node10 comes after node9
    return sorted(found, key=lambda each: (each["metadata"].get("namespace", ""), each["metadata"].get("name", "")))


def _nodes(cluster: Cluster) -> Iterator[Rendered]:
    for node in cluster.nodes:
        yield _node(node)


def _node(node: Node) -> Rendered:
    cidrs = [str(cidr) for cidr in node.pod_cidrs]
    written = core.Node(
        metadata=ObjectMeta(name=node.name, labels=node.labels),
        spec=core.NodeSpec(
            pod_cidr=cidrs[0] if cidrs else "",
            pod_cidrs=tuple(cidrs),
            taints=node.taints,
            unschedulable=node.unschedulable,
        ),
    )
    addresses = [{"type": "InternalIP", "address": str(ip)} for ip in node.addresses]
    status = {
        "addresses": [*addresses, {"type": "Hostname", "address": node.name}],
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"}
            if node.ready
            else {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
        ],
    }
    return {**encode(written), "status": status}


def _pods(cluster: Cluster) -> Iterator[Rendered]:
    nodes = {node.name: node for node in cluster.nodes}
    for pod in cluster.pods:
        yield _pod(pod, nodes[pod.node])


def _pod(pod: Pod, node: Node) -> Rendered:
    metadata: Rendered = encode_value(
        ObjectMeta(name=pod.name, namespace=pod.namespace, labels=pod.labels, annotations=pod.annotations)
    )
    if pod.owner:
        kind, _, owner = pod.owner.partition("/")
        version = API_VERSIONS.get(kind, "apps/v1")
        metadata["ownerReferences"] = [{"apiVersion": version, "kind": kind, "name": owner, "controller": True}]
    spec: Rendered = encode_value(pod.spec)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "nodeName": pod.node},
        "status": _pod_status(pod, node),
    }


def _pod_status(pod: Pod, node: Node) -> Rendered:
    """`reason` is what kubectl prints in place of the phase; the time at which a deletion began is not kept."""
    ready = "True" if pod.ready else "False"
    conditions = [
        *({"type": gate.condition_type, "status": ready} for gate in pod.spec.readiness_gates),
        {"type": "PodScheduled", "status": "True"},
        {"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", "status": ready},
        {"type": "Ready", "status": ready},
    ]
    status: Rendered = {
        "phase": pod.phase,
        "conditions": conditions,
        "hostIP": str(node.addresses[0]),
        "hostIPs": [{"ip": str(ip)} for ip in node.addresses],
        "podIP": str(pod.ips[0]),
        "podIPs": [{"ip": str(ip)} for ip in pod.ips],
        "containerStatuses": [
            {"name": container.name, "image": container.image, "ready": pod.ready, "restartCount": 0}
            for container in pod.containers
        ],
    }
    if pod.terminating:
        status["reason"] = "Terminating"
    return status


def _services(cluster: Cluster) -> Iterator[Rendered]:
    for service in cluster.services:
        written = core.Service(metadata=_service_metadata(service), spec=service.spec)
        ingress = encode_value(service.load_balancer_status)
        balancer = {"loadBalancer": {"ingress": ingress} if ingress else {}}
        yield {**encode(written), "status": balancer}


def _service_metadata(service: Service) -> ObjectMeta:
    return ObjectMeta(
        name=service.name, namespace=service.namespace, labels=service.labels, annotations=service.annotations
    )


def _endpoints(cluster: Cluster) -> Iterator[Rendered]:
    for service in cluster.services:
        if service.spec.type != "ExternalName":
            yield encode(endpoints_object(cluster, service))


def _endpoint_slices(cluster: Cluster) -> Iterator[Rendered]:
    for written in cluster.endpoint_slices:
        yield encode(written)
    for service in cluster.services:
        for slice_ in generated_slices(cluster, service):
            yield encode(slice_)


def _workloads(kind: str) -> Callable[[Cluster], Iterator[Rendered]]:
    def rendered(cluster: Cluster) -> Iterator[Rendered]:
        owned: Counter[tuple[str, str]] = Counter()
        ready: Counter[tuple[str, str]] = Counter()
        for pod in cluster.pods:
            owned[pod.namespace, pod.owner] += 1
            ready[pod.namespace, pod.owner] += pod.ready
        for workload in cluster.workloads:
            if workload.kind == kind:
                owner = workload.namespace, owner_of_pods(workload)
                yield {**encode(workload.spec), "status": _workload_status(workload, owned[owner], ready[owner])}

    return rendered


def owner_of_pods(workload: Workload) -> str:
    """`Kind/name` as the workload's pods have it in `owner`: a Deployment's pods belong to its ReplicaSet."""
    if isinstance(workload.spec, apps.Deployment):
        return f"ReplicaSet/{workload.name}-{template_hash(workload.spec.spec.template)}"
    return f"{workload.kind}/{workload.name}"


def _workload_status(workload: Workload, pods: int, ready: int) -> Rendered:
    match workload.kind:
        case "Deployment" | "StatefulSet":
            return {"replicas": pods, "readyReplicas": ready, "availableReplicas": ready, "updatedReplicas": pods}
        case "ReplicaSet":
            return {"replicas": pods, "readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": pods}
        case "DaemonSet":
            return {
                "desiredNumberScheduled": workload.replicas,
                "currentNumberScheduled": pods,
                "numberReady": ready,
                "numberAvailable": ready,
                "updatedNumberScheduled": pods,
                "numberMisscheduled": 0,
            }
        case "Job":
            return {"active": pods, "ready": ready}
        case _:
            return {}


def _namespaces(cluster: Cluster) -> Iterator[Rendered]:
    for name, labels in cluster.namespaces.items():
        written = core.Namespace(metadata=ObjectMeta(name=name, labels=labels))
        yield {**encode(written), "status": {"phase": "Active"}}


def _as_written(field: str) -> Callable[[Cluster], Iterator[Rendered]]:
    def rendered(cluster: Cluster) -> Iterator[Rendered]:
        written: Sequence[Any] = getattr(cluster, field)
        for each in written:
            yield encode(each)

    return rendered


def _admin_policies(kind: str) -> Callable[[Cluster], Iterator[Rendered]]:
    def rendered(cluster: Cluster) -> Iterator[Rendered]:
        return (encode(each) for each in cluster.admin_policies if type(each).__name__ == kind)

    return rendered


def _of_gateway(function: str) -> Callable[[Cluster], Iterator[Rendered]]:
    """Of the module that knows routing, imported when it is needed."""

    def rendered(cluster: Cluster) -> Iterator[Rendered]:
        found: Iterator[Rendered] = getattr(import_module("k8snetlab.cluster.gateway_status"), function)(cluster)
        return found

    return rendered


KINDS: Mapping[str, Callable[[Cluster], Iterator[Rendered]]] = {
    "nodes": _nodes,
    "namespaces": _namespaces,
    "ipranges": rendered_ranges,
    "ippools": rendered_pools,
    "pods": _pods,
    "services": _services,
    "endpoints": _endpoints,
    "endpointslices": _endpoint_slices,
    **{plural: _workloads(kind) for plural, kind in WORKLOAD_KINDS.items()},
    "networkpolicies": _as_written("network_policies"),
    **{plural: _admin_policies(kind) for plural, kind in ADMIN_KINDS.items()},
    "ingresses": _of_gateway("ingresses"),
    "ingressclasses": _as_written("ingress_classes"),
    "gatewayclasses": _of_gateway("gateway_classes"),
    "gateways": _of_gateway("gateways"),
    "httproutes": _of_gateway("http_routes"),
    "referencegrants": _of_gateway("reference_grants"),
}
