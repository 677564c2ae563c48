"""The cluster's DNS as kernel objects: where servers listen and what they know, or the files of another program."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster import names
from k8snetlab.cluster.addons import DNS_IMAGE
from k8snetlab.cluster.dns import Zone, cluster_records, internet_records, resolver_addresses
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.state import DnsName, DnsServer, File, KernelObject

CLUSTER, INTERNET = "cluster", "internet"


def dns(cluster: Cluster) -> Iterator[KernelObject]:
    """The internet's server always; the cluster's unless it has none or brings its own."""
    yield DnsServer(names.INTERNET, f"external/{names.INTERNET}", INTERNET)
    yield from _view(INTERNET, internet_records(cluster))
    servers = [pod for pod in cluster.pods if pod.addon == "dns" and pod.phase == "Running"]
    if not servers:
        return
    if cluster.config.dns != "embedded":
        yield from _files(cluster)
        return
    upstreams = resolver_addresses(cluster.config.families)
    for pod in servers:
        if any(container.image == DNS_IMAGE for container in pod.containers):
            netns = names.pod_netns(pod.namespace, pod.name)
            yield DnsServer(netns, pod.key, CLUSTER, upstreams, cluster.config.dns_pods == "insecure")
    yield from _view(CLUSTER, cluster_records(cluster))


def _view(view: str, zone: Zone) -> Iterator[DnsName]:
    return (DnsName(view, name, records) for name, records in zone.items())


def _files(cluster: Cluster) -> Iterator[File]:
    if cluster.config.dns == "knot":
        from k8snetlab.plan.knot import files
    else:
        from k8snetlab.plan.coredns import files
    yield from files(cluster)


def listen_entry(server: DnsServer) -> dict[str, object]:
    """How the DNS server is told where to listen, one entry of `listen`."""
    return {
        "netns": server.netns,
        "pod": server.pod,
        "view": server.view,
        "upstreams": [str(address) for address in server.upstreams],
        "echo_pods": server.echo_pods,
    }
