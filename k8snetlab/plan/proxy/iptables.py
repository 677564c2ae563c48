"""kube-proxy's iptables mode: the rules of one node, in one family, as `iptables-save` prints them.

After kubernetes 1.30, pkg/proxy/iptables/proxier.go, syncProxyRules: the same chains, comments, marks and order. This
module has what is there without any Service; `service_rules` has what each Service port adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.network.addresses import node_addresses
from k8snetlab.plan.proxy.portal import Portal, portals
from k8snetlab.plan.proxy.service_rules import ServiceRules
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family, IPAddress, KernelObject, Sysctl

MASQUERADE_MARK: Final = "0x4000/0x4000"
LARGE_CLUSTER_ENDPOINTS: Final = 1000  # above this many, rules to endpoints have no comments
LOOPBACK: Final[dict[Family, IPAddress]] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}

# Jumps from built-in chains. kube-proxy and kubelet each *prepend* theirs, so the last one ensured comes first; here
# they are in the order in which they end up.
_NEW: Final = "-m conntrack --ctstate NEW "
_FIREWALL_JUMP: Final = f'{_NEW}-m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL'
_PORTALS_JUMP: Final = f'{_NEW}-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
_EXTERNAL_JUMP: Final = (
    f'{_NEW}-m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES'
)
_NAT_JUMP: Final = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
JUMPS: Final = {
    ("filter", "INPUT"): (
        "-j KUBE-FIREWALL",
        _FIREWALL_JUMP,
        '-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
        _EXTERNAL_JUMP,
    ),
    ("filter", "FORWARD"): (
        _FIREWALL_JUMP,
        '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
        _PORTALS_JUMP,
        _EXTERNAL_JUMP,
    ),
    ("filter", "OUTPUT"): ("-j KUBE-FIREWALL", _FIREWALL_JUMP, _PORTALS_JUMP),
    ("nat", "PREROUTING"): (_NAT_JUMP,),
    ("nat", "OUTPUT"): (_NAT_JUMP,),
    ("nat", "POSTROUTING"): ('-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',),
}
FILTER_CHAINS: Final = (
    "KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-FIREWALL",
)  # fmt: skip
NAT_CHAINS: Final = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
FORWARD_RULES: Final = (
    # A reply outside the window must not reach the client untranslated: it would answer with a reset.
    "-m conntrack --ctstate INVALID -j DROP",
    f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {MASQUERADE_MARK} -j ACCEPT',
    '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
)
POSTROUTING_RULES: Final = (
    f"-m mark ! --mark {MASQUERADE_MARK} -j RETURN",
    "-j MARK --set-xmark 0x4000/0x0",  # xor: the mark has done its duty
    '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
)
# route_localnet lets packets to 127.0.0.0/8 in from outside: this shuts the door again (CVE-2020-8558).
LOCALNET_RULE: Final = (
    '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections"'
    " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
)
NODE_PORTS_COMMENT: Final = (
    '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
)


def is_large(cluster: Cluster, family: Family) -> bool:
    """kube-proxy's "large cluster mode" (conformance 1.15 #6)."""
    services = (service for service in cluster.services if service.proxied())
    endpoints = (each for service in services for port in service.ports for each in port.endpoints)
    return sum(each.ip.version == family for each in endpoints) > LARGE_CLUSTER_ENDPOINTS


class IptablesProxy:
    """The planner of one cluster: what is the same on every node is worked out once. `whole` is the cluster of which it
    is a part."""

    def __init__(self, cluster: Cluster, whole: Cluster | None = None) -> None:
        self.cluster = cluster
        self._large = {family: is_large(whole or cluster, family) for family in cluster.config.families}
        self._portals: dict[Family, tuple[Portal, ...]] = {
            family: tuple(portals(cluster, family)) for family in cluster.config.families
        }

    def sysctls(self, node: Node) -> Iterator[Sysctl]:
        """For node ports on 127.0.0.1: without it the kernel takes DNATed packets from loopback for Martians."""
        if 4 in self.cluster.config.families and self._localhost_node_ports():
            yield Sysctl(node.name, "net.ipv4.conf.all.route_localnet", "1")

    def rules(self, node: Node, family: Family, ruleset: Ruleset) -> None:
        """Write kube-proxy's whole rule set for a node and family."""
        for table in ("mangle", "filter", "nat"):  # kube-proxy looks at this chain to see that somebody flushed a table
            ruleset.chain(table, "KUBE-PROXY-CANARY")
        for (table, name), jumps in JUMPS.items():
            ruleset.chain(table, name).extend(jumps)
        for name in FILTER_CHAINS:
            ruleset.chain("filter", name)
        for name in NAT_CHAINS:
            ruleset.chain("nat", name)
        ruleset.chain("filter", "KUBE-FORWARD").extend(FORWARD_RULES)
        if family == 4 and self._localhost_node_ports():
            ruleset.chain("filter", "KUBE-FIREWALL").append(LOCALNET_RULE)
        ruleset.chain("nat", "KUBE-POSTROUTING").extend(POSTROUTING_RULES)
        ruleset.chain("nat", "KUBE-MARK-MASQ").append(f"-j MARK --set-xmark {MASQUERADE_MARK}")

        config = self.cluster.config
        service_rules = ServiceRules(
            ruleset,
            node=node,
            family=family,
            pod_cidr=str(of_family(config.pod_subnets, family) or ""),
            masquerade_all=config.masquerade_all,
            comments=not self._large[family],
        )
        for portal in self._portals[family]:
            service_rules.write(portal)
        ruleset.chain("nat", "KUBE-SERVICES").extend(self._node_port_dispatch(node, family))

    def objects(self, node: Node, family: Family) -> Iterator[KernelObject]:  # noqa: ARG002
        """Everything this mode makes is in `rules` and `sysctls`."""
        return iter(())

    def _node_port_dispatch(self, node: Node, family: Family) -> Iterator[str]:
        """The last rules of KUBE-SERVICES: what is for this node itself may be for a node port."""
        chosen = [cidr for cidr in self.cluster.config.node_port_addresses if cidr.version == family]
        if not chosen or any(cidr.prefixlen == 0 for cidr in chosen):
            negated = ""
            if family == 6:  # no route_localnet there: never on ::1
                negated = "! -d ::1/128 "
            elif not self._localhost_node_ports():
                negated = "! -d 127.0.0.0/8 "
            yield f"{negated}{NODE_PORTS_COMMENT} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
            return
        length = 32 if family == 4 else 128
        addresses = node_addresses(self.cluster, node, family)
        if family == 4:
            addresses = (LOOPBACK[4], *addresses)
        for address in addresses:
            if any(address in cidr for cidr in chosen):
                yield f"-d {address}/{length} {NODE_PORTS_COMMENT} -j KUBE-NODEPORTS"

    def _localhost_node_ports(self) -> bool:
        """--localhost-nodeports is on by default; --nodeport-addresses may leave the loopback out."""
        chosen = [cidr for cidr in self.cluster.config.node_port_addresses if cidr.version == 4]
        return not chosen or any(LOOPBACK[4] in cidr for cidr in chosen)
