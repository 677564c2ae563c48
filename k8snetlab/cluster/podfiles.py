"""The three files that the kubelet writes for a pod, and what a node has in their place.

After pkg/kubelet/network/dns/dns.go and pkg/kubelet/kubelet_pods.go (conformance 1.18, 16 to 20).
"""

from __future__ import annotations

from collections.abc import Iterable

from k8snetlab.cluster.addresses import address
from k8snetlab.cluster.dns import resolver_addresses
from k8snetlab.cluster.model import Cluster, IPAddress, Node, Pod
from k8snetlab.cluster.services import CLUSTER_DNS, DNS_OFFSET
from k8snetlab.dataclass import dataclass

MAX_NAMESERVERS = 3  # validation.MaxDNSNameservers
MAX_SEARCHES = 32  # MaxDNSSearchPaths
MAX_SEARCH_CHARACTERS = 2048  # MaxDNSSearchListChars
MAX_SEARCH_PATH = 253  # a longer one is no domain name
MAX_HOSTNAME = 64  # the kernel's __NEW_UTS_LEN

LOCALHOST_LINES = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = []
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}\n")
        lines += [f"nameserver {nameserver}\n" for nameserver in self.nameservers]
        if self.options:
            lines.append(f"options {' '.join(self.options)}\n")
        return "".join(lines)


def dns_address(cluster: Cluster) -> IPAddress:
    """The DNS server of the cluster: the Service kube-dns, else the tenth address of the primary Service subnet."""
    service = cluster.service(CLUSTER_DNS)
    if service is not None and service.cluster_ips:
        return service.cluster_ips[0]
    return address(cluster.config.service_subnets[0], DNS_OFFSET)


def resolv_conf(cluster: Cluster, pod: Pod) -> str:
    """The pod's /etc/resolv.conf by its dnsPolicy, with its dnsConfig merged in, within the kubelet's limits."""
    resolver = _with_config(_by_policy(cluster, pod), pod)
    searches: list[str] = []
    length = 0
    for search in resolver.searches:
        length += len(search) + bool(searches)
        if len(search) > MAX_SEARCH_PATH:
            length -= len(search) + bool(searches)
            continue
        if len(searches) == MAX_SEARCHES or length > MAX_SEARCH_CHARACTERS:
            break
        searches.append(search)
    return str(Resolver(resolver.nameservers[:MAX_NAMESERVERS], tuple(searches), resolver.options))


def node_resolv_conf(cluster: Cluster, node: Node) -> str:
    """A node's own /etc/resolv.conf: it does not ask the cluster's DNS."""
    del node
    return str(_node_resolver(cluster))


def outside_resolv_conf(cluster: Cluster) -> str:
    """That of a host outside, which asks whom a node asks."""
    return str(_node_resolver(cluster))


def _node_resolver(cluster: Cluster) -> Resolver:
    """The lab's internet has a DNS server: what a node would know from its own DHCP."""
    return Resolver(nameservers=tuple(map(str, resolver_addresses(cluster.config.families))))


def _by_policy(cluster: Cluster, pod: Pod) -> Resolver:
    policy = pod.spec.dns_policy
    if policy == "None":
        return Resolver()
    if policy == "Default" or (policy == "ClusterFirst" and pod.host_network):
        return _node_resolver(cluster)
    domain = cluster.config.cluster_domain
    own = (f"{pod.namespace}.svc.{domain}", f"svc.{domain}", domain)
    searches = _unique((*own, *_node_resolver(cluster).searches))
    return Resolver((str(dns_address(cluster)),), searches, ("ndots:5",))


def _with_config(resolver: Resolver, pod: Pod) -> Resolver:
    """Servers and searches are appended, options replace those of the same name (dns.go, appendDNSConfig)."""
    config = pod.spec.dns_config
    if config is None:
        return resolver
    options = {option.partition(":")[0]: option for option in resolver.options}
    for option in config.options:
        options[option.name] = option.name if option.value is None else f"{option.name}:{option.value}"
    return Resolver(
        _unique((*resolver.nameservers, *config.nameservers)),
        _unique((*resolver.searches, *config.searches)),
        tuple(options.values()),
    )


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def hostname(pod: Pod, cluster_domain: str = "cluster.local") -> str:
    """What `hostname` prints in the pod: a node's name with hostNetwork; the whole FQDN only if setHostnameAsFQDN."""
    if pod.host_network:
        return pod.node
    if pod.spec.set_hostname_as_fqdn:
        full = fqdn(pod, cluster_domain)
        # A longer name does not fit the kernel; the kubelet would leave the pod Pending, the lab keeps the short one.
        return full if full and len(full) <= MAX_HOSTNAME else pod.hostname
    return pod.hostname


def fqdn(pod: Pod, cluster_domain: str) -> str:
    """The pod's name in the cluster's DNS when it has a subdomain, else empty."""
    if not pod.spec.subdomain:
        return ""
    return f"{pod.hostname}.{pod.spec.subdomain}.{pod.namespace}.svc.{cluster_domain}"


def hosts_file(cluster: Cluster, pod: Pod) -> str:
    """The pod's /etc/hosts: its own addresses and name, or the node's file with hostNetwork; then hostAliases."""
    if pod.host_network:
        node = cluster.node(pod.node)
        text = "# Kubernetes-managed hosts file (host network).\n" + (node_hosts_file(cluster, node) if node else "")
    else:
        name = "\t".join(part for part in (fqdn(pod, cluster.config.cluster_domain), pod.hostname) if part)
        text = "# Kubernetes-managed hosts file.\n" + LOCALHOST_LINES + "".join(f"{ip}\t{name}\n" for ip in pod.ips)
    if pod.spec.host_aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join("\t".join((alias.ip, *alias.hostnames)) + "\n" for alias in pod.spec.host_aliases)
    return text


def node_hosts_file(cluster: Cluster, node: Node) -> str:
    """A node's /etc/hosts: itself and the other nodes, as the lab has no DNS for them."""
    others = [other for other in cluster.nodes if other.name != node.name]
    return LOCALHOST_LINES + "".join(f"{ip}\t{each.name}\n" for each in (node, *others) for ip in each.addresses)


def node_hostname(node: Node) -> str:
    return node.name
