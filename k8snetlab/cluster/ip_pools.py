"""The pools that pods' addresses come from: Calico's IPPools, or the pod subnet as the one pool of each family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network

from k8snetlab.cluster.addresses import parse_network, parse_range
from k8snetlab.cluster.config import POD_SUBNETS, LabDocument
from k8snetlab.cluster.model import Family, IPAddress, IPNetwork, IPPool, LabConfig
from k8snetlab.cluster.networks import facts
from k8snetlab.cluster.problems import problem
from k8snetlab.errors import Problem
from k8snetlab.manifests.api import calico
from k8snetlab.manifests.document import Document

BLOCKS = {4: 26, 6: 122}  # Calico's default block sizes


def make_pools(
    config: LabConfig, lab_document: LabDocument, documents: Sequence[Document], problems: list[Problem]
) -> tuple[IPPool, ...]:
    """By name. IPPool documents count with Calico only; a family without any has the default pool, as at its start."""
    written: list[IPPool] = []
    if config.network == "calico":
        written = [_written(document) for document in documents]
        written = [pool for pool in written if pool.cidr.version in config.families]
        _check(config, lab_document, written, problems)
    having = {pool.cidr.version for pool in written}
    default = [_default(config, subnet) for subnet in config.pod_subnets if subnet.version not in having]
    return tuple(sorted((*written, *default), key=lambda pool: pool.name))


def adopt_pools(lab_document: LabDocument, documents: Sequence[Document]) -> LabDocument:
    """With Calico and no podSubnet in the Lab document, the pods' subnet is the smallest that holds all its IPPools."""
    spec = lab_document.lab.spec
    if spec.network != "calico" or spec.pod_subnet:
        return lab_document
    choices: dict[str, tuple[Family, ...]] = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
    families = choices[spec.ip_family]
    covers = [_cover(documents, family) or ip_network(POD_SUBNETS[family]) for family in families]
    return replace(
        lab_document, lab=replace(lab_document.lab, spec=replace(spec, pod_subnet=",".join(map(str, covers))))
    )


def reservations(documents: Sequence[Document]) -> tuple[tuple[IPAddress, IPAddress], ...]:
    """What IPReservations keep from pods, as first and last addresses."""
    found = [document.object for document in documents]
    return tuple(
        parse_range(text)
        for each in found
        if isinstance(each, calico.IPReservation)
        for text in each.spec.reserved_cidrs
    )


def _cover(documents: Sequence[Document], family: Family) -> IPNetwork | None:
    """The smallest range that all IPPools of a family lie in; None when there are none."""
    pools = [document.object for document in documents]
    cidrs = [parse_network(pool.spec.cidr) for pool in pools if isinstance(pool, calico.IPPool)]
    found = [cidr for cidr in cidrs if cidr is not None and cidr.version == family]
    if not found:
        return None
    cover = found[0]
    while not all(_inside(cidr, cover) for cidr in found):
        cover = cover.supernet()
    return cover


def _default(config: LabConfig, subnet: IPNetwork) -> IPPool:
    """The pool calico/node makes when it finds none; with the other networks, the pod subnet itself."""
    if facts(config.network).ipam != "blocks":
        name = f"podSubnet-ipv{subnet.version}" if len(config.families) > 1 else "podSubnet"
        blocks = config.node_cidr_mask_sizes[config.pod_subnets.index(subnet)]
        return IPPool(name=name, cidr=subnet, blocks=blocks, encapsulated=config.backend == "vxlan")
    return IPPool(
        name=f"default-ipv{subnet.version}-ippool",
        cidr=subnet,
        blocks=max(BLOCKS[subnet.version], subnet.prefixlen),
        encapsulated=config.backend == "vxlan",
    )


def _written(document: Document) -> IPPool:
    pool = document.object
    assert isinstance(pool, calico.IPPool)
    cidr = parse_network(pool.spec.cidr)
    assert cidr is not None, "validated"
    return IPPool(
        name=pool.metadata.name,
        cidr=cidr,
        blocks=pool.spec.block_size or max(BLOCKS[cidr.version], cidr.prefixlen),
        node_selector=pool.spec.node_selector,
        nat_outgoing=pool.spec.nat_outgoing,
        # All nodes of a lab are on one subnet, where CrossSubnet encapsulates nothing.
        encapsulated=pool.spec.vxlan_mode == "Always",
        disabled=pool.spec.disabled,
        manual=pool.spec.assignment_mode == "Manual",
        unheeded=tuple(_unheeded(pool.spec)),
        source=document.source,
    )


def _unheeded(spec: calico.IPPoolSpec) -> Iterator[str]:
    if spec.ipip_mode == "Always":
        yield "ipipMode Always (there is no IPIP tunnel; vxlanMode has one)"
    if spec.namespace_selector not in ("", "all()"):
        yield f"namespaceSelector {spec.namespace_selector}"


def _check(config: LabConfig, lab_document: LabDocument, pools: Sequence[IPPool], problems: list[Problem]) -> None:
    """Pools must lie in the pod subnet, which tells kube-proxy what is inside the cluster, and not overlap."""
    for position, pool in enumerate(pools):
        subject = f"IPPool {pool.name}"
        subnet = next(subnet for subnet in config.pod_subnets if subnet.version == pool.cidr.version)
        if not _inside(pool.cidr, subnet):
            given = "the lab's podSubnet" if lab_document.lab.spec.pod_subnet else "the pod subnet"
            problems.append(problem(pool.source, subject, "spec.cidr", f"{pool.cidr} is not inside {given} {subnet}"))
        for other in pools[:position]:
            if pool.cidr.version == other.cidr.version and pool.cidr.overlaps(other.cidr):
                message = f"{pool.cidr} overlaps {other.cidr} of IPPool {other.name}"
                problems.append(problem(pool.source, subject, "spec.cidr", message))


def _inside(network: IPNetwork, subnet: IPNetwork) -> bool:
    return (
        network.version == subnet.version
        and network.prefixlen >= subnet.prefixlen
        and (network.network_address in subnet)
    )
