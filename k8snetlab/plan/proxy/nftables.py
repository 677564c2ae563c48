"""kube-proxy's nftables mode: the table `kube-proxy` of one node, in one family (conformance 1.17).

After kubernetes' pkg/proxy/nftables/proxier.go, setupNFTables and syncProxyRules. This module has what is there without
any Service; `nft_entrances` has the elements that lead to a Service port's chains, and these are either as kube-proxy
lays them out (`nft_chains`) or a few shared ones (`nft_flat`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Final

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy import nft_flat
from k8snetlab.plan.proxy.nft_chains import Masquerade, ServicePortal, service_portal, usable, write_chains
from k8snetlab.plan.proxy.nft_draft import Draft, addresses_text
from k8snetlab.plan.proxy.nft_entrances import write_entrances
from k8snetlab.plan.proxy.portal import portals
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, IPAddress, KernelObject, Sysctl

TABLE: Final = "kube-proxy"
# name, type, hook, priority. Filtering follows translation (-100), so that what was led to an endpoint passes and what
# was not meets the checks; only the firewall is about the destinations that the sender wrote.
BASE_CHAINS: Final = (
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-forward", "filter", "forward", 0),
    ("filter-input", "filter", "input", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
    ("nat-prerouting", "nat", "prerouting", -100),
)
JUMPS: Final[dict[str, tuple[str, ...]]] = {
    "filter-prerouting-pre-dnat": ("ct state new jump firewall-check",),
    "filter-output-pre-dnat": ("ct state new jump firewall-check",),
    "filter-forward": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    "filter-input": ("ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"),
    "filter-output": ("ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"),
    "nat-output": ("jump services",),
    "nat-postrouting": ("jump masquerading",),
    "nat-prerouting": ("jump services",),
}
MARK_RULES: Final = ("meta mark set meta mark | 0x00004000",)
MASQUERADE_RULES: Final = (
    "meta mark & 0x00004000 == 0x00000000 return",
    "meta mark set meta mark ^ 0x00004000",  # the mark has done its duty
    "masquerade fully-random",
)
# name and comment; those with a port alone are keyed by protocol and port, the others by address, protocol and port.
MAPS: Final = (
    ("firewall-ips", "destinations that are subject to LoadBalancerSourceRanges"),
    ("no-endpoint-nodeports", "vmap to drop or reject packets to service nodeports with no endpoints"),
    ("no-endpoint-services", "vmap to drop or reject packets to services with no endpoints"),
    ("service-ips", "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    ("service-nodeports", "NodePort traffic"),
)
NODE_PORT: Final = "meta l4proto . th dport"


class NftablesProxy:
    """The planner of one cluster: what is the same on every node is worked out once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.flat = cluster.config.nftables_layout == "flat"

    @cached_property
    def _portals(self) -> dict[Family, tuple[ServicePortal, ...]]:
        return {
            family: tuple(
                # Session affinity needs a memory for each endpoint: such a Service has its own chains in any layout.
                service_portal(portal, family, chains=not self.flat or portal.service.session_affinity_seconds > 0)
                for portal in portals(self.cluster, family, chains=False)
            )
            for family in self.cluster.config.families
        }

    def sysctls(self, node: Node) -> Iterator[Sysctl]:  # noqa: ARG002
        """None: node ports on 127.0.0.1 are not supported in this mode (conformance 1.6 #4)."""
        return iter(())

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """No iptables rules."""

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:
        """The whole table of a node and family."""
        config = self.cluster.config
        draft = Draft(node.name, family, TABLE, "rules for kube-proxy")
        self._write_frame(draft, node)
        masquerade = Masquerade(str(of_family(config.pod_subnets, family) or ""), config.masquerade_all)
        if self.flat:
            nft_flat.write_frame(draft)
        for item in self._portals[family]:
            use = usable(item, node, family)
            if self.flat and not item.sticky:
                to = nft_flat.write_service(draft, item, use, masquerade)
            else:
                to = write_chains(draft, item, use, masquerade)
            write_entrances(draft, node, item, use, to, comments=self.flat)
        return draft.objects()

    def _write_frame(self, draft: Draft, node: Node) -> None:
        """What is there without any Service."""
        draft.set("cluster-ips", f"type {draft.address_type}", comment="Active ClusterIPs")
        for name, comment in MAPS:
            key = "inet_proto . inet_service" if name.endswith("nodeports") else _key(draft)
            draft.set(name, f"type {key} : verdict", kind="map", comment=comment)
        for name, kind, hook, priority in BASE_CHAINS:
            line = f"type {kind} hook {hook} priority {priority}; policy accept;"
            draft.chain(name, JUMPS[name], hook=line)
        destination = f"{draft.ip} daddr . meta l4proto . th dport"
        draft.chain("firewall-check", (f"{destination} vmap @firewall-ips",))
        draft.chain("service-endpoints-check", (f"{destination} vmap @no-endpoint-services",))
        draft.chain("cluster-ips-check", self._cluster_ips_check(draft))
        draft.chain("reject-chain", ("reject",), comment="helper for @no-endpoint-services / @no-endpoint-nodeports")
        draft.chain("mark-for-masquerade", MARK_RULES)
        draft.chain("masquerading", (*(nft_flat.hairpin_rules(draft) if self.flat else ()), *MASQUERADE_RULES))
        self._write_node_ports(draft, node, destination)

    def _write_node_ports(self, draft: Draft, node: Node, destination: str) -> None:
        """On which addresses of the node node ports are open: by default on its primary one (conformance 1.6 #5)."""
        no_localhost = f"{draft.ip} daddr != {'127.0.0.0/8' if draft.family == 4 else '::1'}"
        addresses = self._node_port_addresses(node, draft.family)
        if addresses is None:
            mine, checked = f"fib daddr type local {no_localhost}", no_localhost
        else:
            mine = checked = f"{draft.ip} daddr @nodeport-ips"
            draft.set("nodeport-ips", f"type {draft.address_type}", comment="IPs that accept NodePort traffic")
            for address in addresses:
                draft.element("nodeport-ips", str(address))
        draft.chain("services", (f"{destination} vmap @service-ips", f"{mine} {NODE_PORT} vmap @service-nodeports"))
        draft.chain("nodeport-endpoints-check", (f"{checked} {NODE_PORT} vmap @no-endpoint-nodeports",))

    def _cluster_ips_check(self, draft: Draft) -> Iterator[str]:
        """What still has a ClusterIP for its destination after translation (conformance 1.4 #8, NFT 9)."""
        yield f'{draft.ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"'
        subnets = [subnet for subnet in self.cluster.config.service_subnets if subnet.version == draft.family]
        if subnets:
            ranges = addresses_text(subnets)
            yield f'{draft.ip} daddr {ranges} drop comment "Drop traffic to unallocated ClusterIPs"'

    def _node_port_addresses(self, node: Node, family: Family) -> tuple[IPAddress, ...] | None:
        """The addresses chosen by --nodeport-addresses, the primary one without any of this family; None for all."""
        chosen = [cidr for cidr in self.cluster.config.node_port_addresses if cidr.version == family]
        if any(cidr.prefixlen == 0 for cidr in chosen):
            return None
        addresses = node_addresses(self.cluster, node, family)
        if not chosen:
            return addresses[:1]
        return tuple(address for address in addresses if any(address in cidr for cidr in chosen))


def _key(draft: Draft) -> str:
    return f"{draft.address_type} . inet_proto . inet_service"
