"""Where the pods of a cluster are: their namespaces, and which of them must be introduced on their bridge. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Family
from k8snetlab.flows.matrix import Pair
from k8snetlab.kernel.extern_learned import Member
from k8snetlab.plan.network.bridged import MESHED_PODS
from k8snetlab.plan.world import UPLINK_INDEX


def namespaces(cluster: Cluster) -> Mapping[str, str]:
    """Pod key → network namespace; a hostNetwork pod's is its node's."""
    return {pod.key: pod.node if pod.host_network else names.pod_netns(pod.namespace, pod.name) for pod in cluster.pods}


def bridges(cluster: Cluster, pairs: Sequence[Pair], family: Family) -> list[list[Member]]:
    """The pods of the pairs by node, where they are not permanent neighbours already (`plan.network.bridge`)."""
    wanted = {pair.sender for pair in pairs} | {pair.receiver for pair in pairs}
    crowds = defaultdict(list)
    for pod in cluster.pods:
        if not pod.host_network:
            crowds[pod.node].append(pod)
    return [
        [
            Member(names.pod_netns(pod.namespace, pod.name), UPLINK_INDEX, ip, names.mac_of(pod.ips[0]))
            for pod in crowd
            if pod.key in wanted
            for ip in pod.ips
            if ip.version == family
        ]
        for crowd in crowds.values()
        if len(crowd) > MESHED_PODS
    ]
