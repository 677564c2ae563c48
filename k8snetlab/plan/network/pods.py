"""What every network does alike: a pod's own namespace, and how much it may send and get."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from k8snetlab.cluster import names
from k8snetlab.cluster.bandwidth import bandwidth_limits
from k8snetlab.cluster.hostports import port_mappings
from k8snetlab.cluster.model import Cluster, Node, Pod
from k8snetlab.plan.state import KernelObject, Netns, Sysctl, TokenBucket


def pods_of_nodes(cluster: Cluster) -> Mapping[str, Sequence[Pod]]:
    """Node → its pods that have a network namespace of their own; nodes without any are there too."""
    found: dict[str, list[Pod]] = defaultdict(list)
    for pod in cluster.pods:
        if not pod.host_network:
            found[pod.node].append(pod)
    return found


def pod_namespace(pod: Pod) -> Iterator[KernelObject]:
    netns = names.pod_netns(pod.namespace, pod.name)
    yield Netns(netns)
    # containerd lets containers ping and bind low ports without privileges (enable_unprivileged_icmp and _ports).
    yield Sysctl(netns, "net.ipv4.ping_group_range", "0 2147483647")
    yield Sysctl(netns, "net.ipv4.ip_unprivileged_port_start", "0")


def shaping(pod: Pod, node: Node, link: str) -> Iterator[TokenBucket]:
    """The pod's bandwidth limits: what comes to it is held back on the node's end of its cable, as the `bandwidth`
    plugin does, and what it sends on its own end (where the plugin leads it through an `ifb` on the node instead)."""
    limits = bandwidth_limits(pod.annotations)
    if limits.ingress:
        yield TokenBucket(node.name, link, limits.ingress)
    if limits.egress:
        yield TokenBucket(names.pod_netns(pod.namespace, pod.name), names.UPLINK, limits.egress)


def maps_ports(pods: Sequence[Pod]) -> bool:
    """Whether any of them has a host port."""
    return any(port_mappings(pod) for pod in pods)
