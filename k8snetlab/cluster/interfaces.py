"""Further interfaces of nodes, on networks that only nodes are on: storage, backup, a second fabric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_interface, ip_network

from k8snetlab.cluster import names
from k8snetlab.cluster.model import IPAddress, IPInterface, IPNetwork, LabConfig, Node, NodeInterface
from k8snetlab.cluster.problems import problem
from k8snetlab.errors import Problem
from k8snetlab.manifests.api.lab import LabInterface

MOST_NETWORKS = 60


def read_interfaces(written: Sequence[LabInterface]) -> tuple[NodeInterface, ...]:
    """As the Lab document lists them; their text has been checked when it was read."""
    return tuple(
        NodeInterface(
            name=interface.name,
            network=interface.network,
            addresses=tuple(ip_interface(part.strip()) for part in interface.address.split(",") if part.strip()),
        )
        for interface in written
    )


def check_interfaces(config: LabConfig, nodes: Sequence[Node], problems: list[Problem]) -> None:
    """What only shows when all nodes are seen: an address twice on a network, ranges that mean something else."""
    networks = {interface.network for node in nodes for interface in node.interfaces}
    if len(networks) > MOST_NETWORKS:
        message = f"its nodes are on {len(networks)} further networks; a lab has at most {MOST_NETWORKS}"
        problems.append(problem(nodes[0].source, "Lab", "spec.nodes", message))
    taken: dict[tuple[str, IPAddress], Node] = {}
    used = dict(_used(config))
    for node in nodes:
        for position, interface in enumerate(node.interfaces):
            at = f"interfaces[{position}].address"
            for address in interface.addresses:
                holder = taken.setdefault((interface.network, address.ip), node)
                objections = _objections(config, used, interface, address, None if holder is node else holder)
                problems += [problem(node.source, f"Node {node.name}", at, message) for message in objections]


def _objections(
    config: LabConfig,
    used: Mapping[IPNetwork, str],
    interface: NodeInterface,
    address: IPInterface,
    holder: Node | None,
) -> Iterator[str]:
    if holder is not None:
        yield f"{address.ip} belongs to node {holder.name} on the network {interface.network}"
    if address.version not in config.families:
        yield f"{address} is IPv{address.version}, and the lab's ipFamily is not"
    for network, owner in used.items():
        if network.version == address.version and ip_network(address.network).overlaps(network):
            yield f"{address.network} overlaps the {owner} {network}"


def _used(config: LabConfig) -> Iterator[tuple[IPNetwork, str]]:
    """What a node has a route to already, or would translate."""
    groups: tuple[tuple[str, Iterable[IPNetwork]], ...] = (
        ("pod subnet", config.pod_subnets),
        ("Service subnet", config.service_subnets),
        ("node subnet", config.node_subnets),
        ("load balancer's pool", config.load_balancer_pools),
        ("world outside,", (each for pair in names.OUTSIDE_NETWORKS.values() for each in pair)),
    )
    for owner, networks in groups:
        for network in networks:
            yield network, owner
