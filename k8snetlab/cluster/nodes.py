"""The lab's nodes: who they are, and the addresses and pod ranges they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from itertools import pairwise

from k8snetlab.cluster.config import LabDocument
from k8snetlab.cluster.interfaces import check_interfaces, read_interfaces
from k8snetlab.cluster.model import IPAddress, IPNetwork, LabConfig, Node, NodeInterface
from k8snetlab.cluster.names import WORLD
from k8snetlab.cluster.networks import facts
from k8snetlab.cluster.problems import problem
from k8snetlab.errors import Problem, Source
from k8snetlab.manifests.api import core, scheduling
from k8snetlab.manifests.api.lab import LabNode
from k8snetlab.manifests.document import Document

HOSTNAME_LABEL = "kubernetes.io/hostname"
UNREACHABLE = scheduling.Taint(key="node.kubernetes.io/unreachable", effect="NoSchedule")


@dataclass(slots=True)
class _Wanted:
    """What is known of a node before it gets an index."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[scheduling.Taint] = field(default_factory=list)
    cidrs: tuple[str, ...] = ()
    unschedulable: bool = False
    interfaces: tuple[NodeInterface, ...] = ()
    source: Source | None = None


def make_nodes(
    config: LabConfig,
    lab_document: LabDocument,
    count: int | None,
    documents: Sequence[Document],
    previous: Sequence[Node],
    problems: list[Problem],
) -> tuple[Node, ...]:
    """Nodes by index. A node of the previous cluster keeps its index, and with it its addresses and pod ranges.

    The Lab document's list says which nodes there are, else the Node documents, else `node1` … `nodeN`. `count` is the
    command line's number: it shortens such a list or fills it up with `nodeN` names.
    """
    wanted = _wanted(lab_document, count, documents, problems)
    for node in wanted:
        if node.name in WORLD:
            message = f"the name {node.name!r} belongs to the lab's own network; rename the node"
            problems.append(problem(node.source, f"Node {node.name}", "metadata.name", message))
    indexes = _indexes([node.name for node in wanted], previous)
    nodes = [_make(config, node, indexes[node.name], problems) for node in wanted]
    _check_ranges(config, nodes, problems)
    check_interfaces(config, nodes, problems)
    return tuple(sorted(nodes, key=lambda node: node.index))


def cut_off(nodes: Sequence[Node], readiness: Mapping[str, bool]) -> tuple[Node, ...]:
    """The nodes with those that are down as the control plane sees them: not ready, and tainted against new pods.

    The NoExecute taint that would move their pods after five minutes is left out: time does not pass in a lab.
    """
    return tuple(
        node
        if readiness.get(readiness_key(node.name), True)
        else replace(node, ready=False, taints=(*node.taints, UNREACHABLE))
        for node in nodes
    )


def readiness_key(node: str) -> str:
    """Under which a node's state stands among the pods': theirs begin with a namespace, which has no capitals."""
    return f"Node/{node}"


def _wanted(
    lab_document: LabDocument, count: int | None, documents: Sequence[Document], problems: list[Problem]
) -> list[_Wanted]:
    listed = lab_document.lab.spec.nodes
    if isinstance(listed, tuple):
        nodes = [_listed(node, lab_document.source) for node in listed]
        if not nodes:
            problems.append(lab_document.problem("spec.nodes", "a lab has at least one node"))
    else:
        names = [document.object.metadata.name for document in documents]
        if not names and count is None:
            if listed < 1:
                problems.append(lab_document.problem("spec.nodes", "a lab has at least one node"))
            count = listed
        nodes = [_Wanted(name) for name in names]
    nodes = _resize(nodes, count)
    by_name = {node.name: node for node in nodes}
    for position, node in enumerate(nodes):
        if by_name[node.name] is not node:
            problems.append(lab_document.problem(f"spec.nodes[{position}].name", f"Duplicate value: {node.name!r}"))
    for document in documents:
        if document.object.metadata.name in by_name:
            _merge(by_name[document.object.metadata.name], document)
        elif isinstance(listed, tuple) and count is None:
            message = "the Lab document lists the nodes, and this one is not among them"
            problems.append(problem(document.source, f"Node {document.object.metadata.name}", "", message))
    return list(by_name.values())


def _listed(node: LabNode, source: Source | None) -> _Wanted:
    interfaces = read_interfaces(node.interfaces)
    return _Wanted(
        node.name, dict(node.labels), list(node.taints), node.pod_cidrs, interfaces=interfaces, source=source
    )


def _resize(nodes: list[_Wanted], count: int | None) -> list[_Wanted]:
    if count is None:
        return nodes
    nodes = nodes[:count]
    taken = {node.name for node in nodes}
    number = 0
    while len(nodes) < count:
        number += 1
        if f"node{number}" not in taken:
            nodes.append(_Wanted(f"node{number}"))
    return nodes


def _merge(node: _Wanted, document: Document) -> None:
    written = document.object
    assert isinstance(written, core.Node)
    node.labels.update(written.metadata.labels)
    # A taint is identified by its key and effect; the Node document wins, as an edit of the object would.
    edited = {(taint.key, taint.effect) for taint in written.spec.taints}
    node.taints = [taint for taint in node.taints if (taint.key, taint.effect) not in edited] + [*written.spec.taints]
    node.cidrs = written.spec.pod_cidrs or ((written.spec.pod_cidr,) if written.spec.pod_cidr else node.cidrs)
    node.unschedulable = written.spec.unschedulable
    node.source = document.source


def _indexes(names: Sequence[str], previous: Sequence[Node]) -> Mapping[str, int]:
    kept = {node.name: node.index for node in previous}
    taken = {kept[name] for name in names if name in kept}
    indexes: dict[str, int] = {}
    free = 1
    for name in names:
        if name in kept:
            indexes[name] = kept[name]
            continue
        while free in taken:
            free += 1
        indexes[name] = free
        taken.add(free)
    return indexes


def _make(config: LabConfig, node: _Wanted, index: int, problems: list[Problem]) -> Node:
    automatic = {HOSTNAME_LABEL: node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return Node(
        name=node.name,
        index=index,
        addresses=_addresses(config, node, index, problems),
        pod_cidrs=_pod_cidrs(config, node, index, problems),
        labels={**automatic, **node.labels},
        taints=tuple(node.taints),
        unschedulable=node.unschedulable,
        interfaces=node.interfaces,
        source=node.source,
    )


def _addresses(config: LabConfig, node: _Wanted, index: int, problems: list[Problem]) -> tuple[IPAddress, ...]:
    """The first host address is the router's, so node 1 has the second (172.18.0.2)."""
    addresses: list[IPAddress] = []
    for subnet in config.node_subnets:
        if index + 2 >= subnet.num_addresses:
            message = f"the node network {subnet} has no address left for node number {index}"
            problems.append(
                problem(node.source, f"Node {node.name}", "", f"{message}; give the Lab a larger nodeSubnet")
            )
            continue
        address = ip_address(int(subnet.network_address) + 1 + index)
        pool = next((pool for pool in config.load_balancer_pools if address in pool), None)
        if pool is not None:
            message = f"its address {address} lies in the load balancer's pool {pool}"
            problems.append(problem(node.source, f"Node {node.name}", "", message))
        addresses.append(address)
    return tuple(addresses)


def _pod_cidrs(config: LabConfig, node: _Wanted, index: int, problems: list[Problem]) -> tuple[IPNetwork, ...]:
    """One range a family: the given one, else the node's own slice of the pod subnet (kube-controller-manager).

    A network with an IPAM of its own shares out the subnet itself (--allocate-node-cidrs=false).
    """
    given: dict[int, IPNetwork] = {}
    for text in node.cidrs:
        try:
            network = ip_network(text)
        except ValueError as error:
            problems.append(problem(node.source, f"Node {node.name}", "spec.podCIDRs", str(error)))
            continue
        subnet = next((subnet for subnet in config.pod_subnets if subnet.version == network.version), None)
        if subnet is None or not _inside(network, subnet):
            message = f"{network} is not inside the lab's pod subnet {subnet or config.pod_subnets[0]}"
            problems.append(problem(node.source, f"Node {node.name}", "spec.podCIDRs", message))
        given[network.version] = network
    ranges: list[IPNetwork] = []
    for subnet, size in zip(config.pod_subnets, config.node_cidr_mask_sizes, strict=True):
        if subnet.version in given:
            ranges.append(given[subnet.version])
        elif facts(config.network).ipam != "host-local":
            continue
        elif index > 1 << (size - subnet.prefixlen):
            message = f"the pod subnet {subnet} has no /{size} left for node number {index}"
            hint = "use a larger podSubnet or a larger nodeCIDRMaskSize"
            problems.append(problem(node.source, f"Node {node.name}", "spec.podCIDR", f"{message}; {hint}"))
        else:
            base = int(subnet.network_address) + ((index - 1) << (subnet.max_prefixlen - size))
            ranges.append(ip_network((base, size)))
    return tuple(ranges)


def _inside(network: IPNetwork, subnet: IPNetwork) -> bool:
    return network.prefixlen >= subnet.prefixlen and network.network_address in subnet


def _check_ranges(config: LabConfig, nodes: Sequence[Node], problems: list[Problem]) -> None:
    """No two nodes may share a part of a pod range; sorted by address, only neighbours can overlap."""
    for subnet in config.pod_subnets:
        ranges = sorted(
            (int(network.network_address), int(network.broadcast_address), node.index, node, network)
            for node in nodes
            for network in node.pod_cidrs
            if network.version == subnet.version
        )
        for (_, end, _, first, network), (start, _, _, second, other) in pairwise(ranges):
            if start <= end:
                message = f"{other} overlaps {network} of node {first.name}"
                problems.append(problem(second.source, f"Node {second.name}", "spec.podCIDR", message))
