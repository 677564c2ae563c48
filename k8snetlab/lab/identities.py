"""Who a program in the lab is: the host name, resolv.conf and hosts of a pod, a node or an external host."""

from __future__ import annotations

from k8snetlab.cluster import podfiles
from k8snetlab.cluster.model import Cluster, Node, Pod
from k8snetlab.flows.model import Place
from k8snetlab.kernel.identity import Identity


def of_pod(cluster: Cluster, pod: Pod) -> Identity:
    """As the kubelet would set it (cluster.podfiles)."""
    return Identity(
        podfiles.hostname(pod, cluster.config.cluster_domain),
        podfiles.resolv_conf(cluster, pod),
        podfiles.hosts_file(cluster, pod),
    )


def of_node(cluster: Cluster, node: Node) -> Identity:
    return Identity(
        podfiles.node_hostname(node),
        podfiles.node_resolv_conf(cluster, node),
        podfiles.node_hosts_file(cluster, node),
        f"/run/files/{node.name}/run",
    )


def of_external(cluster: Cluster, name: str) -> Identity:
    """A host outside the cluster: of that it knows no name, and asks the internet's DNS server."""
    return Identity(name, podfiles.outside_resolv_conf(cluster), podfiles.LOCALHOST_LINES)


def of_place(cluster: Cluster, place: Place) -> Identity:
    """Of a place that has a namespace: a pod, a node or an external host."""
    if place.kind == "pod" and (pod := cluster.pod(place.name)):
        return of_pod(cluster, pod)
    if place.kind == "node" and (node := cluster.node(place.name)):
        return of_node(cluster, node)
    return of_external(cluster, place.name)
