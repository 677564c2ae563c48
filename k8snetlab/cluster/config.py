"""The Lab document and the command line become a `LabConfig`: defaults filled in, text parsed, subnets checked.

The defaults are those of kubeadm (Services), flannel (pods) and kind's node network.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from k8snetlab.cluster.addresses import parse_range
from k8snetlab.cluster.model import Family, IPAddress, IPNetwork, LabConfig
from k8snetlab.cluster.networks import facts
from k8snetlab.cluster.problems import problem
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Problem, Source, UsageError
from k8snetlab.manifests.api import lab

POD_SUBNETS: dict[Family, str] = {4: "10.244.0.0/16", 6: "fd00:10:244::/56"}
SERVICE_SUBNETS: dict[Family, str] = {4: "10.96.0.0/12", 6: "fd00:10:96::/112"}
NODE_SUBNETS: dict[Family, str] = {4: "172.18.0.0/16", 6: "fd00:172:18::/64"}
NETWORKS_WITHOUT_POLICY = frozenset({"flannel"})
IPV6_NODE_MASK = 64  # kube-controller-manager's --node-cidr-mask-size-ipv6
WORLD_SUBNETS = {"external clients": "203.0.113.0/24", "internet": "198.51.100.0/24"}  # RFC 5737, design section 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line says; it wins over the Lab document."""

    nodes: int | None = None
    network: lab.NetworkName | None = None
    backend: lab.Backend | None = None
    proxy_mode: lab.ProxyMode | None = None
    ip_family: lab.IPFamily | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class LabDocument:
    """The Lab document after the command line has had its say, and where problems with it are reported."""

    lab: lab.Lab
    source: Source | None

    def problem(self, path: str, message: str) -> Problem:
        return problem(self.source, f"Lab {self.lab.metadata.name}".rstrip(), path, message)


def override(document: lab.Lab | None, source: Source | None, overrides: Overrides) -> LabDocument:
    """Merge the two; raises `UsageError` when the command line alone is wrong."""
    if overrides.nodes is not None and overrides.nodes < 1:
        raise UsageError(f"--nodes {overrides.nodes}: a lab has at least one node")
    given = document or lab.Lab()
    spec = given.spec
    spec = replace(
        spec,
        network=overrides.network or spec.network,
        backend=overrides.backend or _written_backend(spec, overrides),
        kube_proxy_mode=overrides.proxy_mode or spec.kube_proxy_mode,
        ip_family=overrides.ip_family or spec.ip_family,
    )
    metadata = given.metadata
    if overrides.name:
        metadata = replace(metadata, name=overrides.name)
    return LabDocument(lab.Lab(metadata=metadata, spec=spec), source)


def _written_backend(spec: lab.LabSpec, overrides: Overrides) -> lab.Backend | None:
    """The document's, unless the command line asks for another network, which has no such backend."""
    other = overrides.network not in (None, spec.network)
    return None if other and spec.backend not in facts(overrides.network or spec.network).backends else spec.backend


def _backend(document: LabDocument, problems: list[Problem]) -> lab.Backend:
    spec = document.lab.spec
    known = facts(spec.network).backends
    if spec.backend is None or spec.backend in known:
        return spec.backend or known[0]
    some = f"it has {', '.join(known)}" if len(known) > 1 else f"its only one is {known[0]}"
    problems.append(document.problem("spec.backend", f"network {spec.network} has no backend {spec.backend}; {some}"))
    return known[0]


def configure(document: LabDocument, problems: list[Problem]) -> LabConfig:
    """Fill in and check; problems are appended, and what could not be understood falls back to its default."""
    spec = document.lab.spec
    families = _families(spec)
    pods = _subnets(
        document, "podSubnet", spec.pod_subnet, POD_SUBNETS | dict(facts(spec.network).pod_subnets), families, problems
    )
    nodes = _subnets(document, "nodeSubnet", spec.node_subnet, NODE_SUBNETS, families, problems)
    config = LabConfig(
        name=document.lab.metadata.name or "default",
        network=spec.network,
        backend=_backend(document, problems),
        proxy_mode=spec.kube_proxy_mode,
        iptables_backend=spec.iptables_backend,
        nftables_layout=spec.nftables_layout,
        ipvs_scheduler=spec.ipvs_scheduler,
        policy_engine=_policy_engine(spec),
        families=families,
        pod_subnets=pods,
        service_subnets=_subnets(document, "serviceSubnet", spec.service_subnet, SERVICE_SUBNETS, families, problems),
        node_subnets=nodes,
        node_cidr_mask_sizes=_mask_sizes(document, pods, problems),
        node_port_range=_port_range(document, problems),
        cluster_domain=spec.cluster_domain.strip("."),
        mtu=spec.mtu,
        fabric_mtu=spec.fabric_mtu,
        masquerade_all=spec.masquerade_all,
        reserved=_reserved(document, problems),
        node_port_addresses=_networks(document, "nodePortAddresses", spec.node_port_addresses, problems),
        load_balancer_pools=_pools(document, nodes, problems),
        load_balancer_mode=spec.load_balancer.mode,
        dns=_dns(spec.dns),
        dns_pods=spec.dns.pods if isinstance(spec.dns, lab.LabDNS) else "insecure",
        coredns=spec.dns.coredns if isinstance(spec.dns, lab.LabDNS) else "",
    )
    if config.policy_engine == "nftables" and config.proxy_mode == "ipvs":
        message = "nftables cannot follow what IPVS translates behind its input hook; use iptables with ipvs"
        problems.append(document.problem("spec.policyEngine", message))
    if (config.network, config.backend, config.load_balancer_mode) == ("calico", "bgp", "bgp"):
        message = "Calico's own BGP has the nodes' port 179 already; use mode l2, or Calico's backend vxlan or none"
        problems.append(document.problem("spec.loadBalancer.mode", message))
    _check_overlaps(document, config, problems)
    return config


def _dns(given: Literal["none", "knot"] | lab.LabDNS) -> Literal["embedded", "none", "knot", "coredns"]:
    if isinstance(given, lab.LabDNS):
        return "coredns" if given.coredns else "embedded"
    return given


def _policy_engine(spec: lab.LabSpec) -> lab.PolicyEngine:
    """The one asked for, else the one that speaks the proxy's language; flannel enforces no policies (its README)."""
    if spec.network in NETWORKS_WITHOUT_POLICY:
        return "none"
    return spec.policy_engine or ("nftables" if spec.kube_proxy_mode == "nftables" else "iptables")


def _families(spec: lab.LabSpec) -> tuple[Family, ...]:
    """The primary family first: in a dual-stack lab the one the first given subnet starts with, else IPv4."""
    if spec.ip_family != "dual":
        return (4,) if spec.ip_family == "ipv4" else (6,)
    first = next((text for text in (spec.pod_subnet, spec.service_subnet) if text), "")
    return (6, 4) if ":" in first.partition(",")[0] else (4, 6)


def _subnets(
    document: LabDocument,
    field: str,
    text: str,
    defaults: dict[Family, str],
    families: tuple[Family, ...],
    problems: list[Problem],
) -> tuple[IPNetwork, ...]:
    found: dict[int, IPNetwork] = {}
    for network in _networks(document, field, tuple(part for part in text.split(",") if part), problems):
        if network.version not in families:
            message = f"{network} is IPv{network.version}, but the lab's ipFamily is {document.lab.spec.ip_family}"
            problems.append(document.problem(f"spec.{field}", message))
        elif network.version in found:
            problems.append(document.problem(f"spec.{field}", f"{network} is the second subnet of its IP family"))
        else:
            found[network.version] = network
    return tuple(found.get(family) or ip_network(defaults[family]) for family in families)


def _networks(
    document: LabDocument, field: str, texts: tuple[str, ...], problems: list[Problem]
) -> tuple[IPNetwork, ...]:
    networks: list[IPNetwork] = []
    for text in texts:
        try:
            networks.append(ip_network(text.strip()))
        except ValueError as error:
            problems.append(document.problem(f"spec.{field}", str(error)))
    return tuple(networks)


def _reserved(document: LabDocument, problems: list[Problem]) -> tuple[tuple[IPAddress, IPAddress], ...]:
    found = []
    for position, text in enumerate(document.lab.spec.ipam.reserved):
        try:
            found.append(parse_range(text))
        except ValueError as error:
            problems.append(document.problem(f"spec.ipam.reserved[{position}]", str(error)))
    return tuple(found)


def _mask_sizes(document: LabDocument, pods: tuple[IPNetwork, ...], problems: list[Problem]) -> tuple[int, ...]:
    spec = document.lab.spec
    given = spec.node_cidr_mask_size
    sizes = []
    for subnet in pods:
        # One number serves both families: beyond 32 it can only be meant for IPv6.
        size = min(given, 32) if subnet.version == 4 else (given if given > 32 else IPV6_NODE_MASK)
        # A node needs a network address, a gateway and room for a pod.
        if not subnet.prefixlen <= size <= subnet.max_prefixlen - 2 and facts(spec.network).ipam == "host-local":
            message = f"a /{size} for each node does not fit the pod subnet {subnet}"
            problems.append(document.problem("spec.nodeCIDRMaskSize", message))
            size = max(subnet.prefixlen, min(size, subnet.max_prefixlen - 2))
        sizes.append(size)
    return tuple(sizes)


def _port_range(document: LabDocument, problems: list[Problem]) -> tuple[int, int]:
    text = document.lab.spec.node_port_range
    low, _, high = text.partition("-")
    if low.strip().isdecimal() and high.strip().isdecimal() and 0 < int(low) <= int(high) <= 65535:
        return int(low), int(high)
    problems.append(document.problem("spec.nodePortRange", f"{text!r} is not a range such as 30000-32767"))
    return 30000, 32767


def _pools(document: LabDocument, nodes: tuple[IPNetwork, ...], problems: list[Problem]) -> tuple[IPNetwork, ...]:
    """The load balancer's addresses; for a family the document names none of, the end of its node network."""
    given = document.lab.spec.load_balancer
    found = _networks(document, "loadBalancer.pool", tuple(part for part in given.pool.split(",") if part), problems)
    for pool in found:
        if given.mode == "l2" and not any(_contains(subnet, pool) for subnet in nodes):
            inside = " and ".join(str(subnet) for subnet in nodes)
            message = f"{pool} is outside the node network {inside}, where nobody would answer ARP for it"
            problems.append(document.problem("spec.loadBalancer.pool", f"{message}; use mode bgp or another pool"))
    named = {pool.version for pool in found}
    return found + tuple(_end_of(subnet) for subnet in nodes if subnet.version not in named)


def _end_of(subnet: IPNetwork) -> IPNetwork:
    prefix = max(24 if subnet.version == 4 else 112, min(subnet.prefixlen + 2, subnet.max_prefixlen))
    last = int(subnet.broadcast_address) >> (subnet.max_prefixlen - prefix) << (subnet.max_prefixlen - prefix)
    return IPv4Network((last, prefix)) if subnet.version == 4 else IPv6Network((last, prefix))


def _check_overlaps(document: LabDocument, config: LabConfig, problems: list[Problem]) -> None:
    """Pods, Services, nodes and the world outside must be told apart by their addresses alone."""
    ranges: list[tuple[str, IPNetwork]] = [
        *(("podSubnet", subnet) for subnet in config.pod_subnets),
        *(("serviceSubnet", subnet) for subnet in config.service_subnets),
        *(("nodeSubnet", subnet) for subnet in config.node_subnets),
        *((name, ip_network(text)) for name, text in WORLD_SUBNETS.items()),
    ]
    for position, (name, subnet) in enumerate(ranges):
        for other_name, other in ranges[position + 1 :]:
            if subnet.version == other.version and subnet.overlaps(other):
                message = f"{subnet} overlaps the lab's {other_name} {other}"
                problems.append(document.problem(f"spec.{name}", message))
    for pool in config.load_balancer_pools:
        if any(_contains(subnet, pool) for subnet in config.node_subnets):
            continue
        for name, subnet in ranges:
            if subnet.version == pool.version and subnet.overlaps(pool):
                message = f"{pool} overlaps the lab's {name} {subnet}"
                problems.append(document.problem("spec.loadBalancer.pool", message))


def _contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)
