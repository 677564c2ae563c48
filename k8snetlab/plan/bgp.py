"""Load balancer addresses in mode bgp: every node that may announces them to the router, which spreads connections.

BIRD 2 speaks for MetalLB's speaker on each node and for the router. A node only announces, from static routes that
never reach its own kernel: what arrives for an address is rewritten by the Service's rules before it is routed. The
router only listens, and puts what it hears into its kernel, several next hops into one route.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_network
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Family, IPAddress, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.state import File, KernelObject, LearnedRoute, Process, Sysctl
from k8snetlab.plan.world import router_address

NODE_AS: Final = 64512
ROUTER_AS: Final = 64513
# A peer that is cut off is missed after three intervals of BFD; BGP's own hold time is minutes.
_COMMON: Final = f"""\
log stderr {{ warning, error, fatal, bug }};
protocol device {{ }}
protocol bfd {{ interface "{names.UPLINK}" {{ interval 100 ms; multiplier 3; }}; }}
"""
_SESSION: Final = "direct; bfd on; connect delay time 1; connect retry time 1; error wait time 1, 3;"


def bgp(cluster: Cluster, announced: Mapping[IPAddress, tuple[Node, ...]]) -> Iterator[KernelObject]:
    """The speakers with their configurations, and the routes that the router must have learned from them."""
    if not announced:
        return
    # Else all connections of one client took the same node: by default only addresses count (L3).
    if 4 in cluster.config.families:
        yield Sysctl(names.ROUTER, "net.ipv4.fib_multipath_hash_policy", "1")
    if 6 in cluster.config.families:
        yield Sysctl(names.ROUTER, "net.ipv6.fib_multipath_hash_policy", "1")
    yield from _speaker(names.ROUTER, _router(cluster))
    for node in cluster.nodes:
        mine = [address for address, nodes in announced.items() if node in nodes]
        yield from _speaker(node.name, _node(cluster, node, mine))
    for address, nodes in announced.items():
        family = _family(address)
        hops = sorted(hop for node in nodes if (hop := of_family(node.addresses, family)) is not None)
        yield LearnedRoute(names.ROUTER, ip_network(address), tuple(hops))


def _speaker(netns: str, configuration: str) -> Iterator[KernelObject]:
    """BIRD reads its file again when that changes (SIGHUP), without losing its sessions."""
    folder = f"bgp-{netns}"
    yield File(f"{folder}/bird.conf", configuration)
    socket = f"/run/files/{folder}/bird.ctl"
    yield Process(netns, f"bgp/{netns}", ("bird", "-f", "-c", f"/run/files/{folder}/bird.conf", "-s", socket))


def _router(cluster: Cluster) -> str:
    lines = ["router id 0.0.0.1;", _COMMON.rstrip()]
    for family in cluster.config.families:
        lines.append(
            f"protocol kernel kernel{family} {{ merge paths on;"
            f" ipv{family} {{ import none; export where source = RTS_BGP; }}; }}"
        )
        own = router_address(cluster, family)
        for node in cluster.nodes:
            peer = of_family(node.addresses, family)
            if peer is not None:
                lines.append(
                    f"protocol bgp node{node.index}_{family} {{ local {own} as {ROUTER_AS};"
                    f" neighbor {peer} as {NODE_AS}; passive; {_SESSION} ipv{family} {{ import all; export none; }}; }}"
                )
    return "\n".join(lines) + "\n"


def _node(cluster: Cluster, node: Node, addresses: list[IPAddress]) -> str:
    # The identifier has the form of an IPv4 address even where there is none.
    lines = [f"router id {IPv4Address(node.index + 1)};", _COMMON.rstrip()]
    for family in cluster.config.families:
        own = of_family(node.addresses, family)
        if own is None:
            continue
        routes = "".join(f" route {ip_network(ip)} unreachable;" for ip in addresses if ip.version == family)
        lines.append(f"protocol static announced{family} {{ ipv{family};{routes} }}")
        lines.append(
            f"protocol bgp router{family} {{ local {own} as {NODE_AS};"
            f" neighbor {router_address(cluster, family)} as {ROUTER_AS}; {_SESSION}"
            f' ipv{family} {{ import none; export where proto = "announced{family}"; next hop self; }}; }}'
        )
    return "\n".join(lines) + "\n"


def _family(address: IPAddress) -> Family:
    return 4 if address.version == 4 else 6
