"""kube-proxy's iptables rules in IPVS mode: the same few whatever the number of Services, since they ask ipsets.

IPVS picks and translates; the rules say what is to be masqueraded, what a load balancer's source ranges keep out, and
that an address of a Service leads to nothing else on the node. Source: kubernetes 1.33, pkg/proxy/ipvs/proxier.go,
writeIptablesRules and createAndLinkKubeChain (conformance 1.16 #4-#8).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from k8snetlab.cluster.model import Node
from k8snetlab.plan.proxy.ipvs_sets import COMMENTS, Entries, node_allowed, set_name
from k8snetlab.plan.proxy.portal import Portal
from k8snetlab.plan.ruleset import Ruleset
from k8snetlab.plan.state import Family

MARK: Final = "0x4000/0x4000"
LOOPBACK: Final[dict[Family, str]] = {4: "127.0.0.0/8", 6: "::1/128"}
REJECT: Final[dict[Family, str]] = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}
PROTOCOL_NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}

# Each jump is *prepended*, so the last one ensured comes first; here they are in the order in which they end up.
JUMPS: Final = {
    ("nat", "OUTPUT"): (("kubernetes service portals", "KUBE-SERVICES"),),
    ("nat", "PREROUTING"): (("kubernetes service portals", "KUBE-SERVICES"),),
    ("nat", "POSTROUTING"): (("kubernetes postrouting rules", "KUBE-POSTROUTING"),),
    ("filter", "INPUT"): (
        ("kubernetes ipvs access filter", "KUBE-IPVS-FILTER"),
        ("kube-proxy firewall rules", "KUBE-PROXY-FIREWALL"),
        ("kubernetes health check rules", "KUBE-NODE-PORT"),
    ),
    ("filter", "FORWARD"): (
        ("kube-proxy firewall rules", "KUBE-PROXY-FIREWALL"),
        ("kubernetes forwarding rules", "KUBE-FORWARD"),
    ),
    ("filter", "OUTPUT"): (("kubernetes ipvs access filter", "KUBE-IPVS-OUT-FILTER"),),
}
CHAINS: Final = {
    "nat": ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ"),
    "filter": (
        "KUBE-FORWARD", "KUBE-NODE-PORT", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
    ),
}  # fmt: skip
# Set, table, chain, target, what of the packet is looked up, protocol: one rule each while the set has entries. The
# exceptions (LOCAL, RETURN) come before the rule that they are exceptions from.
BY_SET: Final = (
    ("KUBE-LOOP-BACK", "nat", "KUBE-POSTROUTING", "MASQUERADE", "dst,dst,src", ""),
    ("KUBE-LOAD-BALANCER", "nat", "KUBE-SERVICES", "KUBE-LOAD-BALANCER", "dst,dst", ""),
    ("KUBE-LOAD-BALANCER-LOCAL", "nat", "KUBE-LOAD-BALANCER", "RETURN", "dst,dst", ""),
    ("KUBE-NODE-PORT-LOCAL-TCP", "nat", "KUBE-NODE-PORT", "RETURN", "dst", "tcp"),
    ("KUBE-NODE-PORT-TCP", "nat", "KUBE-NODE-PORT", "KUBE-MARK-MASQ", "dst", "tcp"),
    ("KUBE-NODE-PORT-LOCAL-UDP", "nat", "KUBE-NODE-PORT", "RETURN", "dst", "udp"),
    ("KUBE-NODE-PORT-UDP", "nat", "KUBE-NODE-PORT", "KUBE-MARK-MASQ", "dst", "udp"),
    ("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "nat", "KUBE-NODE-PORT", "RETURN", "dst,dst", "sctp"),
    ("KUBE-NODE-PORT-SCTP-HASH", "nat", "KUBE-NODE-PORT", "KUBE-MARK-MASQ", "dst,dst", "sctp"),
    ("KUBE-LOAD-BALANCER-FW", "filter", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "dst,dst", ""),
    ("KUBE-LOAD-BALANCER-SOURCE-CIDR", "filter", "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
    ("KUBE-LOAD-BALANCER-SOURCE-IP", "filter", "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
)


def write_rules(
    ruleset: Ruleset,
    node: Node,
    family: Family,
    entries: Entries,
    portals: Iterable[Portal],
    *,
    pod_cidr: str,
    masquerade_all: bool,
) -> None:
    """kube-proxy's whole rule set for a node and family; `pod_cidr` is the local traffic detector, empty for none."""
    for (table, built_in), jumps in JUMPS.items():
        chain = ruleset.chain(table, built_in)
        chain += [f'-m comment --comment "{comment}" -j {target}' for comment, target in jumps]
    for table, names in CHAINS.items():
        for name in names:
            ruleset.chain(table, name)
    # Node ports are no business of the loopback in this mode: IPVS does not serve 127.0.0.1 (conformance 1.6 #4).
    ruleset.chain("nat", "KUBE-SERVICES").append(f"-s {LOOPBACK[family]} -j RETURN")
    for name, table, chain_name, target, lookup, protocol in BY_SET:
        if entries[name]:
            match = f"-p {protocol} " if protocol else ""
            ruleset.chain(table, chain_name).append(f"{match}{_in_set(name, family, lookup)} -j {target}")
    services = ruleset.chain("nat", "KUBE-SERVICES")
    services += _masquerade_cluster_ips(family, entries, pod_cidr, masquerade_all)
    services += _external_ips(family, entries)
    services.append("-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT")
    services += [  # must come last: what is a Service's is let through, whatever other rules of nat say
        f"-m set --match-set {set_name(name, family)} dst,dst -j ACCEPT"
        for name in ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER")
        if entries[name]
    ]
    ruleset.chain("nat", "KUBE-LOAD-BALANCER").append("-j KUBE-MARK-MASQ")
    ruleset.chain("nat", "KUBE-POSTROUTING").extend(
        (
            f"-m mark ! --mark {MARK} -j RETURN",
            "-j MARK --set-xmark 0x4000/0x0",  # xor: the mark has done its duty
            '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        )
    )
    ruleset.chain("nat", "KUBE-MARK-MASQ").append(f"-j MARK --set-xmark {MARK}")
    _write_filter(ruleset, node, family, portals)


def _masquerade_cluster_ips(family: Family, entries: Entries, pod_cidr: str, masquerade_all: bool) -> Iterator[str]:
    """Who is no pod is masqueraded, so that the reply comes back through this node."""
    if not entries["KUBE-CLUSTER-IP"]:
        return
    if masquerade_all:
        yield f"{_in_set('KUBE-CLUSTER-IP', family, 'dst,dst')} -j KUBE-MARK-MASQ"
    elif pod_cidr:
        yield f"! -s {pod_cidr} {_in_set('KUBE-CLUSTER-IP', family, 'dst,dst')} -j KUBE-MARK-MASQ"
    else:
        # A process of the node that uses a ClusterIP gets that address for its source too, it being on kube-ipvs0.
        yield f"{_in_set('KUBE-CLUSTER-IP', family, 'src,dst')} -j KUBE-MARK-MASQ"


def _external_ips(family: Family, entries: Entries) -> Iterator[str]:
    for name, masquerade in (("KUBE-EXTERNAL-IP", True), ("KUBE-EXTERNAL-IP-LOCAL", False)):
        if entries[name]:
            match = _in_set(name, family, "dst,dst")
            if masquerade:
                yield f"{match} -j KUBE-MARK-MASQ"
            # From off the machine: neither from a bridge's port (a pod) nor from a process of the node.
            yield f"{match} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
            yield f"{match} -m addrtype --dst-type LOCAL -j ACCEPT"


def _write_filter(ruleset: Ruleset, node: Node, family: Family, portals: Iterable[Portal]) -> None:
    ruleset.chain("filter", "KUBE-SOURCE-RANGES-FIREWALL").append("-j DROP")
    ruleset.chain("filter", "KUBE-IPVS-OUT-FILTER").extend(_no_node_access(node, family, portals))
    ruleset.chain("filter", "KUBE-FORWARD").extend(
        (
            f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {MARK} -j ACCEPT',
            '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED'
            " -j ACCEPT",
        )
    )
    health_checks = _in_set("KUBE-HEALTH-CHECK-NODE-PORT", family, "dst")
    ruleset.chain("filter", "KUBE-NODE-PORT").append(f"{health_checks} -j ACCEPT")
    access = ruleset.chain("filter", "KUBE-IPVS-FILTER")
    for name, lookup in (
        ("KUBE-LOAD-BALANCER", "dst,dst"),
        ("KUBE-CLUSTER-IP", "dst,dst"),
        ("KUBE-EXTERNAL-IP", "dst,dst"),
        ("KUBE-EXTERNAL-IP-LOCAL", "dst,dst"),
        ("KUBE-HEALTH-CHECK-NODE-PORT", "dst"),
    ):
        access.append(f"-m set --match-set {set_name(name, family)} {lookup} -j RETURN")
    # The addresses are the node's own now, and so would be its servers on 0.0.0.0, by any of them (kubernetes #72236).
    access.append(
        f"-m conntrack --ctstate NEW -m set --match-set {set_name('KUBE-IPVS-IPS', family)} dst"
        f" -j REJECT --reject-with {REJECT[family]}"
    )


def _no_node_access(node: Node, family: Family, portals: Iterable[Portal]) -> Iterator[str]:
    """Source ranges that do not hold the node's address: its packets have the balancer's for source and destination."""
    length = 32 if family == 4 else 128
    for portal in portals:
        if portal.source_ranges and not node_allowed(portal, node):
            for ip in portal.load_balancer_ips:
                yield (
                    f"-s {ip}/{length} -m ipvs --vproto {PROTOCOL_NUMBERS[portal.protocol]} --vaddr {ip}"
                    f" --vport {portal.port.port} -j DROP"
                )


def _in_set(name: str, family: Family, lookup: str) -> str:
    return f'-m comment --comment "{COMMENTS[name]}" -m set --match-set {set_name(name, family)} {lookup}'
