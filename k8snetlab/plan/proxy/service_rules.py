"""The iptables rules that one Service port adds on one node (conformance 4.3).

Source: kubernetes 1.30, pkg/proxy/iptables/proxier.go, the loop over service ports in syncProxyRules. The text of each
rule is in the order in which `iptables-save` prints it: source, destination and protocol, then the matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from k8snetlab.cluster.endpoint_choice import categorize
from k8snetlab.cluster.model import Node
from k8snetlab.plan.proxy.portal import Backend, Portal
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family

RECENT_MASK = {4: "255.255.255.255", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
REJECT = {4: "REJECT --reject-with icmp-port-unreachable", 6: "REJECT --reject-with icmp6-port-unreachable"}


@dataclass(frozen=True, slots=True)
class Usable:
    """What this node may use of a port: the backends by policy, and what becomes of traffic that finds none.

    `internal` and `external` are the filter target and comment for ClusterIP and for external traffic without usable
    endpoints, None where there are some.
    """

    cluster: tuple[Backend, ...]
    local: tuple[Backend, ...]
    reachable: tuple[Backend, ...]
    any: bool
    internal: tuple[str, str] | None
    external: tuple[str, str] | None


class ServiceRules:
    """Writes Service ports into the rule set of one node and family.

    `pod_cidr` is the local traffic detector (--cluster-cidr), empty for none; `comments` is off in a large cluster.
    """

    def __init__(
        self, ruleset: Ruleset, *, node: Node, family: Family, pod_cidr: str, masquerade_all: bool, comments: bool
    ) -> None:
        self.node = node
        self.family = family
        self.host = "/32" if family == 4 else "/128"
        self.pod_cidr = pod_cidr
        self.masquerade_all = masquerade_all
        self.comments = comments
        self.ruleset = ruleset
        self.services = ruleset.chain("nat", "KUBE-SERVICES")
        self.node_ports = ruleset.chain("nat", "KUBE-NODEPORTS")
        self.no_endpoints = ruleset.chain("filter", "KUBE-SERVICES")
        self.no_external_endpoints = ruleset.chain("filter", "KUBE-EXTERNAL-SERVICES")
        self.health_checks = ruleset.chain("filter", "KUBE-NODEPORTS")
        self.firewall = ruleset.chain("filter", "KUBE-PROXY-FIREWALL")

    def write(self, portal: Portal) -> None:
        """All rules of one Service port."""
        usable = self._usable(portal)
        self._entrances(portal, usable)
        self._refusals(portal, usable)
        chains: dict[str, list[str]] = {}
        internal = portal.local_chain if portal.service.internal_local else portal.cluster_chain
        if usable.cluster:
            chains[portal.cluster_chain] = []
        if usable.local:
            chains[portal.local_chain] = []
        if usable.internal is None:
            chains[internal] = list(self._masquerade_internal(portal))
        if usable.any and portal.externally_accessible:
            chains[portal.external_chain] = list(self._external(portal, usable))
            if portal.load_balancer_ips and portal.source_ranges:
                chains[portal.firewall_chain] = list(self._source_ranges(portal))
        if usable.cluster:
            chains[portal.cluster_chain] += self._spread(portal, usable.cluster)
        if usable.local:
            chains[portal.local_chain] += self._spread(portal, usable.local)
        for backend in usable.reachable:
            chains[backend.chain] = self._endpoint(portal, backend)
        self.ruleset.set_chains("nat", chains)

    def _usable(self, portal: Portal) -> Usable:
        service = portal.service
        choice = categorize(service, portal.port, self.node, self.family)
        cluster = tuple(map(portal.backend, choice.cluster))
        local = tuple(map(portal.backend, choice.local))
        internal = external = None
        if not choice.any_endpoints:
            internal = external = (REJECT[self.family], f"{portal.name} has no endpoints")
        else:
            nothing_local = ("DROP", f"{portal.name} has no local endpoints")
            if service.internal_local and not local:
                internal = nothing_local
            if service.external_local and not local:
                external = nothing_local
        reachable = tuple(map(portal.backend, choice.reachable))
        return Usable(cluster, local, reachable, choice.any_endpoints, internal, external)

    def _to(self, ip: str, portal: Portal, comment: str) -> str:
        """The match for packets to an address and the Service's port."""
        return (
            f'-d {ip}{self.host} -p {portal.protocol} -m comment --comment "{comment}"'
            f" -m {portal.protocol} --dport {portal.port.port}"
        )

    def _entrances(self, portal: Portal, usable: Usable) -> None:
        """From an address and port to the Service's chains, before routing."""
        if usable.internal is None:
            chain = portal.local_chain if portal.service.internal_local else portal.cluster_chain
            self.services.append(f"{self._to(portal.cluster_ip, portal, f'{portal.name} cluster IP')} -j {chain}")
        if not usable.any:
            return
        for ip in portal.external_ips:
            match = self._to(ip, portal, f"{portal.name} external IP")
            self.services.append(f"{match} -j {portal.external_chain}")
        balanced = portal.firewall_chain if portal.source_ranges else portal.external_chain
        for ip in portal.load_balancer_ips:
            self.services.append(f"{self._to(ip, portal, f'{portal.name} loadbalancer IP')} -j {balanced}")
            if portal.source_ranges:
                # What KUBE-FW let through is translated by now; what still has this destination was not let through.
                comment = f"{portal.name} traffic not accepted by {portal.firewall_chain}"
                self.firewall.append(f"{self._to(ip, portal, comment)} -j DROP")
        if portal.port.node_port:
            self.node_ports.append(
                f'-p {portal.protocol} -m comment --comment "{portal.name}"'
                f" -m {portal.protocol} --dport {portal.port.node_port} -j {portal.external_chain}"
            )

    def _refusals(self, portal: Portal, usable: Usable) -> None:
        """Without endpoints: an answer at once, or silence where only another node has some."""
        if usable.internal is not None:
            target, comment = usable.internal
            self.no_endpoints.append(f"{self._to(portal.cluster_ip, portal, comment)} -j {target}")
        if usable.external is not None:
            target, comment = usable.external
            for ip in (*portal.external_ips, *portal.load_balancer_ips):
                self.no_external_endpoints.append(f"{self._to(ip, portal, comment)} -j {target}")
            if portal.port.node_port:
                self.no_external_endpoints.append(
                    f'-p {portal.protocol} -m comment --comment "{comment}" -m addrtype --dst-type LOCAL'
                    f" -m {portal.protocol} --dport {portal.port.node_port} -j {target}"
                )
        if portal.service.health_check_node_port:
            self.health_checks.append(
                f'-p tcp -m comment --comment "{portal.name} health check node port"'
                f" -m tcp --dport {portal.service.health_check_node_port} -j ACCEPT"
            )

    def _masquerade_internal(self, portal: Portal) -> Iterator[str]:
        """Who is no pod and uses a ClusterIP is masqueraded, so that the reply comes back through this node."""
        match = self._to(portal.cluster_ip, portal, f"{portal.name} cluster IP")
        if self.masquerade_all:
            yield f"{match} -j KUBE-MARK-MASQ"
        elif self.pod_cidr:
            yield f"! -s {self.pod_cidr} {match} -j KUBE-MARK-MASQ"

    def _external(self, portal: Portal, usable: Usable) -> Iterator[str]:
        outside = f"{portal.name} external destinations"
        if not portal.service.external_local:
            yield f'-m comment --comment "masquerade traffic for {outside}" -j KUBE-MARK-MASQ'
        else:
            if self.pod_cidr:
                yield f'-s {self.pod_cidr} -m comment --comment "pod traffic for {outside}" -j {portal.cluster_chain}'
            local = "-m addrtype --src-type LOCAL"
            yield f'-m comment --comment "masquerade LOCAL traffic for {outside}" {local} -j KUBE-MARK-MASQ'
            yield f'-m comment --comment "route LOCAL traffic for {outside}" {local} -j {portal.cluster_chain}'
        if usable.external is None:
            yield f"-j {portal.local_chain if portal.service.external_local else portal.cluster_chain}"

    def _source_ranges(self, portal: Portal) -> Iterator[str]:
        comment = f'-m comment --comment "{portal.name} loadbalancer IP"'
        for cidr in portal.source_ranges:
            yield f"-s {cidr} {comment} -j {portal.external_chain}"
        # A node whose own address is allowed may meet the packet with the balancer's address as its source.
        if any(address in cidr for cidr in portal.source_ranges for address in self.node.addresses):
            for ip in portal.load_balancer_ips:
                yield f"-s {ip}{self.host} {comment} -j {portal.external_chain}"
        yield f'-m comment --comment "other traffic to {portal.name} will be dropped by KUBE-PROXY-FIREWALL"'

    def _spread(self, portal: Portal, backends: Sequence[Backend]) -> Iterator[str]:
        """One of the backends: the one that this client had last, else each with equal probability."""
        seconds = portal.service.session_affinity_seconds
        arrow = [self._comment(f"{portal.name} -> {backend.text}") for backend in backends]
        if seconds:
            for backend, comment in zip(backends, arrow, strict=True):
                yield (
                    f"{comment}-m recent --rcheck --seconds {seconds} --reap --name {backend.chain}"
                    f" --mask {RECENT_MASK[self.family]} --rsource -j {backend.chain}"
                )
        left = len(backends)
        for backend, comment in zip(backends, arrow, strict=True):
            if left > 1:
                yield f"{comment}-m statistic --mode random --probability {probability(left)} -j {backend.chain}"
            else:
                yield f"{comment}-j {backend.chain}"
            left -= 1

    def _endpoint(self, portal: Portal, backend: Backend) -> list[str]:
        comment = self._comment(portal.name)
        recent = ""
        if portal.service.session_affinity_seconds:
            recent = f"-m recent --set --name {backend.chain} --mask {RECENT_MASK[self.family]} --rsource "
        return [
            # Hairpin: a pod that is sent back to itself must see another sender, or it answers itself directly.
            f"-s {backend.ip}{self.host} {comment}-j KUBE-MARK-MASQ",
            f"-p {portal.protocol} {comment}{recent}-m {portal.protocol} -j DNAT --to-destination {backend.text}",
        ]

    def _comment(self, text: str) -> str:
        return f'-m comment --comment "{text}" ' if self.comments else ""


def probability(left: int) -> str:
    """1/left as the kernel keeps it: kube-proxy writes ten decimals, xt_statistic stores 31 bits of fraction."""
    return f"{round(float(f'{1 / left:.10f}') * 0x80000000) / 0x80000000:.11f}"
