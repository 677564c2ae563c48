"""kube-proxy's IPVS mode: the kernel's own load balancer, the addresses it serves, and the rules and sets around it.

After kubernetes 1.33, pkg/proxy/ipvs/proxier.go, syncProxyRules. IPVS sees what is addressed to the node itself, so
every address of a Service becomes one of the node's, on the link `kube-ipvs0` (conformance 1.16). What differs from the
other modes and is meant: a policy Local without local endpoints uses all there are (1.7 #10; with an internal policy
only, there are none to use), ping to a ClusterIP is refused (since 1.27), no node port is served on 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from ipaddress import ip_address, ip_interface
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.endpoint_choice import categorize
from k8snetlab.cluster.model import Cluster, Endpoint, Node, Service
from k8snetlab.plan.families import of_family
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy import ipvs_rules, ipvs_sets
from k8snetlab.plan.proxy.portal import Portal, portals
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Address, Dummy, Family, IPAddress, KernelObject, RealServer, Sysctl, VirtualServer

DEVICE_INDEX: Final = 24  # after eth0, cni0 and the two VXLAN tunnel ends
DEVICE_MAC: Final = "0e:58:00:00:00:06"
DEVICE_MTU: Final = 1500

parse_address = cache(ip_address)


class IpvsProxy:
    """The planner of one cluster: what is the same on every node is worked out once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._portals: dict[Family, tuple[Portal, ...]] = {
            family: tuple(portals(cluster, family, chains=False)) for family in cluster.config.families
        }
        self._collected: dict[tuple[str, Family], ipvs_sets.Entries] = {}

    def sysctls(self, node: Node) -> Iterator[Sysctl]:
        """What kube-proxy sets when it starts (conformance 1.13 #8); conn_reuse_mode it leaves as it is since 5.9."""
        # Without it netfilter does not see what IPVS has translated, and nothing can be masqueraded.
        yield Sysctl(node.name, "net.ipv4.vs.conntrack", "1")
        # A connection to a backend that is gone ends, and a client that stuck to it moves on.
        yield Sysctl(node.name, "net.ipv4.vs.expire_nodest_conn", "1")
        yield Sysctl(node.name, "net.ipv4.vs.expire_quiescent_template", "1")

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """Write kube-proxy's iptables rules for a node and family."""
        config = self.cluster.config
        ipvs_rules.write_rules(
            ruleset, node, family, self._entries(node, family), self._portals[family],
            pod_cidr=str(of_family(config.pod_subnets, family) or ""), masquerade_all=config.masquerade_all,
        )  # fmt: skip

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:
        """The sets, the link with the Services' addresses, the virtual servers with their backends."""
        yield from ipvs_sets.sets(node, family, self._entries(node, family))
        yield Dummy(node.name, names.IPVS_LINK, DEVICE_INDEX, DEVICE_MAC, DEVICE_MTU)
        for address in self._bound(node, family):
            yield Address(node.name, names.IPVS_LINK, ip_interface(address))
        node_port_addresses = self._node_port_addresses(node, family)
        for portal in self._portals[family]:
            yield from self._servers(node, family, portal, node_port_addresses)

    def _servers(
        self, node: Node, family: Family, portal: Portal, node_port_addresses: Iterable[IPAddress]
    ) -> Iterator[VirtualServer | RealServer]:
        """A virtual server for each address and port by which one Service port is reached."""
        service, port = portal.service, portal.port
        choice = categorize(service, port, node, family)
        internal = (choice.local if service.internal_local else ()) or choice.cluster
        external = (choice.local if service.external_local else ()) or choice.cluster
        yield from self._server(node, portal, parse_address(portal.cluster_ip), port.port, internal)
        for ip in (*portal.external_ips, *portal.load_balancer_ips):
            yield from self._server(node, portal, parse_address(ip), port.port, external)
        if port.node_port:
            for address in node_port_addresses:
                yield from self._server(node, portal, address, port.node_port, external)

    def _server(
        self, node: Node, portal: Portal, address: IPAddress, port: int, endpoints: Iterable[Endpoint]
    ) -> Iterator[VirtualServer | RealServer]:
        scheduler = self.cluster.config.ipvs_scheduler
        protocol = portal.port.protocol
        yield VirtualServer(
            node.name, protocol, address, port, scheduler, portal.service.session_affinity_seconds,
            # Else Maglev hashing would send all connections of a client to one backend, with or without affinity.
            hash_port=scheduler == "mh",
        )  # fmt: skip
        for endpoint in endpoints:
            yield RealServer(node.name, protocol, address, port, endpoint.ip, endpoint.port)

    def _entries(self, node: Node, family: Family) -> ipvs_sets.Entries:
        found = self._collected.get((node.name, family))
        if found is None:
            bound = self._bound(node, family)
            found = ipvs_sets.collect(self._portals[family], node, self._node_port_addresses(node, family), bound)
            self._collected[node.name, family] = found
        return found

    def _bound(self, node: Node, family: Family) -> list[IPAddress]:
        """The addresses on kube-ipvs0: of all Services, but for those that another link of the node has already."""
        own = set(node_addresses(self.cluster, node, family))
        services: dict[str, Service] = {portal.service.key: portal.service for portal in self._portals[family]}
        found: dict[IPAddress, None] = {}
        for service in services.values():
            outside = (*service.external_ips, *service.load_balancer_ips)
            found |= {address: None for address in service.cluster_ips if address.version == family}
            found |= {address: None for address in outside if address.version == family and address not in own}
        return list(found)

    def _node_port_addresses(self, node: Node, family: Family) -> tuple[IPAddress, ...]:
        """All of the node's, or those chosen by --nodeport-addresses; never the loopback's."""
        chosen = [cidr for cidr in self.cluster.config.node_port_addresses if cidr.version == family]
        addresses = node_addresses(self.cluster, node, family)
        if not chosen:
            return addresses
        return tuple(address for address in addresses if any(address in cidr for cidr in chosen))
