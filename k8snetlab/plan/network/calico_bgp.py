"""Calico's BGP backend: a bird in every node, each telling the others which blocks are its own.

All nodes are one AS and by default a full mesh; with nodes that have the label `route-reflector` they are reflectors:
everybody talks to them alone, and they hand on what they hear (RFC 4456). Sources: Calico, confd's templates
bird.cfg and bird_ipam.cfg, and networking/configuring/bgp; the BIRD 2 user's guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.cluster.model import Cluster, Node
from k8snetlab.plan.families import of_family
from k8snetlab.plan.state import Family, File, Process

AS_NUMBER: Final = 64512
REFLECTOR: Final = "route-reflector"
FILES: Final = "/run/files"
_CHANNELS: Final[dict[Family, str]] = {4: "ipv4", 6: "ipv6"}


def config_file(cluster: Cluster, node: Node) -> File:
    return File(_path(node, "bird.conf"), "\n".join(_config(cluster, node)) + "\n")


def daemon(node: Node) -> Process:
    """In the foreground, with the control socket where birdc looks for it when it is run in the node."""
    files = {name: f"{FILES}/{_path(node, name)}" for name in ("bird.conf", "bird.ctl")}
    argv = ("bird", "-f", "-c", files["bird.conf"], "-s", files["bird.ctl"])
    return Process(node.name, f"{node.name}/bird", argv)


def _path(node: Node, name: str) -> str:
    """What is under NODE/run is in /run for whoever runs in the node."""
    return f"{node.name}/run/bird/{name}"


def _config(cluster: Cluster, node: Node) -> Iterator[str]:
    router = of_family(node.addresses, 4) or f"10.0.{node.index >> 8}.{node.index & 255}"
    yield f"router id {router};"
    yield "log stderr { warning, error, fatal };"
    yield "protocol device { scan time 2; }"
    yield ""
    yield "filter calico_export_to_bgp_peers {"
    yield '  if proto ~ "static*" then accept;'
    yield "  if source = RTS_BGP then accept;  # only a reflector may hand it on"
    yield "  reject;"
    yield "}"
    yield "filter calico_kernel_programming {"
    yield "  if source = RTS_BGP || dest = RTD_BLACKHOLE then accept;"
    yield "  reject;"
    yield "}"
    for family in cluster.config.families:
        channel = _CHANNELS[family]
        yield ""
        yield f"protocol kernel kernel{family} {{"
        yield "  scan time 1;"  # until the first scan the daemon writes no route
        yield f"  {channel} {{ import none; export filter calico_kernel_programming; }};"
        yield "}"
        yield f"protocol static static{family} {{"
        yield f"  {channel};"
        yield from _own_routes(cluster, node, family)
        yield "}"
        for other in cluster.nodes:
            if other is not node and _are_peers(cluster, node, other):
                yield from _session(cluster, node, other, family)


def _own_routes(cluster: Cluster, node: Node, family: Family) -> Iterator[str]:
    """The node's blocks, and single addresses that its pods have from other nodes' blocks; not what VXLAN carries."""
    from k8snetlab.plan.network.calico import borrowed

    encapsulated = {pool.name for pool in cluster.ip_pools if pool.encapsulated}
    for each in cluster.ip_ranges:
        if each.node == node.name and each.cidr.version == family and each.pool not in encapsulated:
            yield f"  route {each.cidr} blackhole;"
    for pool, ip, link in borrowed(cluster).get(node.name, ()):
        if ip.version == family and pool not in encapsulated:
            yield f'  route {ip}/{ip.max_prefixlen} via "{link}";'


def _are_peers(cluster: Cluster, node: Node, other: Node) -> bool:
    reflecting = any(_reflects(each) for each in cluster.nodes)
    return not reflecting or _reflects(node) or _reflects(other)


def _reflects(node: Node) -> bool:
    return node.labels.get(REFLECTOR) == "true"


def _session(cluster: Cluster, node: Node, other: Node, family: Family) -> Iterator[str]:
    local, peer = of_family(node.addresses, family), of_family(other.addresses, family)
    kind = "Node" if any(_reflects(each) for each in cluster.nodes) else "Mesh"
    yield f"protocol bgp {kind}_{str(peer).replace('.', '_').replace(':', '_')} {{"
    yield f'  description "{other.name}";'
    yield f"  local {local} as {AS_NUMBER};"
    yield f"  neighbor {peer} as {AS_NUMBER};"
    yield "  direct;"
    if _reflects(node) and not _reflects(other):
        yield "  rr client;"
    # All start at once: a first try without any delay would find nobody listening yet.
    yield "  connect delay time 1; connect retry time 1; error wait time 1, 3;"
    # The shortest there is (RFC 4271, 4.2): a node that is cut off is missed after three seconds, not after minutes.
    yield "  hold time 3;"
    yield f"  {_CHANNELS[family]} {{ import all; export filter calico_export_to_bgp_peers; }};"
    yield "}"
