"""One port of one Service in one IP family, as kube-proxy sees it: where it is reached and by which chains.

Everything here is the same on every node; what differs by node is which endpoints may be used.
"""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.cluster.model import Cluster, Endpoint, Family, Service, ServicePort
from k8snetlab.dataclass import dataclass
from k8snetlab.plan.families import of_family
from k8snetlab.plan.proxy.chains import chain_hash, endpoint_text, port_name
from k8snetlab.plan.state import IPNetwork


@dataclass(frozen=True, slots=True)
class Backend:
    """An endpoint in rules: its address, `ip:port`, and its chain."""

    ip: str
    text: str
    chain: str


@dataclass(frozen=True, slots=True)
class Portal:
    """`name` is `namespace/name:port`, `protocol` in lower case; addresses are texts of one family.

    `backends` is by endpoint, for all endpoints of the family whatever their state.
    """

    service: Service
    port: ServicePort
    name: str
    protocol: str
    hash: str
    cluster_ip: str
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[IPNetwork, ...]
    backends: dict[tuple[object, int], Backend]

    @property
    def cluster_chain(self) -> str:
        """All endpoints: the Cluster policy."""
        return f"KUBE-SVC-{self.hash}"

    @property
    def local_chain(self) -> str:
        """The endpoints of this node: the Local policy."""
        return f"KUBE-SVL-{self.hash}"

    @property
    def external_chain(self) -> str:
        """Traffic for an address that is reached from outside."""
        return f"KUBE-EXT-{self.hash}"

    @property
    def firewall_chain(self) -> str:
        """Traffic for a load balancer's address with loadBalancerSourceRanges."""
        return f"KUBE-FW-{self.hash}"

    @property
    def externally_accessible(self) -> bool:
        return bool(self.port.node_port or self.load_balancer_ips or self.external_ips)

    def backend(self, endpoint: Endpoint) -> Backend:
        return self.backends[endpoint.ip, endpoint.port]


def portals(cluster: Cluster, family: Family, *, chains: bool = True) -> Iterator[Portal]:
    """Every Service port that kube-proxy serves in a family, in the cluster's order.

    Without `chains` the hash and the backends' chains are empty: for modes that have no use for iptables' names.
    """
    for service in cluster.services:
        cluster_ip = of_family(service.cluster_ips, family) if service.proxied() else None
        if cluster_ip is None:
            continue
        external = tuple(str(ip) for ip in service.external_ips if ip.version == family)
        balancer = tuple(str(ip) for ip in service.load_balancer_ips if ip.version == family)
        ranges = tuple(cidr for cidr in service.load_balancer_source_ranges if cidr.version == family)
        for port in service.ports:
            name = port_name(service.namespace, service.name, port.name)
            protocol = port.protocol.lower()
            backends: dict[tuple[object, int], Backend] = {}
            for endpoint in port.endpoints:
                if endpoint.ip.version == family:
                    ip = str(endpoint.ip)
                    text = endpoint_text(ip, endpoint.port, family)
                    chain = f"KUBE-SEP-{chain_hash(name, protocol, text)}" if chains else ""
                    backends[endpoint.ip, endpoint.port] = Backend(ip, text, chain)
            yield Portal(
                service, port, name, protocol, chain_hash(name, protocol) if chains else "", str(cluster_ip),
                external, balancer, ranges, backends,
            )  # fmt: skip
