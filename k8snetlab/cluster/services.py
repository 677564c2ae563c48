"""Addresses and ports of Services: what the API server allocates and the load balancer's controller assigns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from k8snetlab.cluster.addresses import address, parse_address
from k8snetlab.cluster.allocators import NumberPool, cluster_ip_pool, node_port_pool
from k8snetlab.cluster.model import Family, IPAddress, LabConfig, Service
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.service_spec import families_of, given_cluster_ips, is_headless, with_defaults
from k8snetlab.errors import Problem, Source
from k8snetlab.manifests.api import core
from k8snetlab.manifests.document import Document

DNS_OFFSET = 10  # kubeadm: the cluster's DNS is the tenth address of the Service subnet
API_SERVER = "default/kubernetes"  # always has the first address (conformance EP.13)
CLUSTER_DNS = "kube-system/kube-dns"

PortHolder = tuple[str, int]  # protocol, number


@dataclass(slots=True)
class Draft:
    """A Service while its addresses and ports are being found."""

    service: core.Service
    source: Source
    spec: core.ServiceSpec
    families: tuple[Family, ...]
    before: Service | None
    ips: dict[Family, IPAddress]
    node_ports: list[int]
    health_port: int = 0
    kept: bool = False  # written as it was when `before` was made: that is still right, but for its endpoints

    @property
    def key(self) -> str:
        return f"{self.service.metadata.namespace}/{self.service.metadata.name}"

    @property
    def subject(self) -> str:
        return f"Service {self.key}"

    @property
    def wants_ip(self) -> bool:
        return self.spec.type != "ExternalName" and not is_headless(self.spec)

    @property
    def wants_node_ports(self) -> bool:
        if self.spec.type == "LoadBalancer":
            return self.spec.allocate_load_balancer_node_ports is not False
        return self.spec.type == "NodePort"

    @property
    def wants_health_port(self) -> bool:
        return self.spec.type == "LoadBalancer" and self.spec.external_traffic_policy == "Local"


def draft_services(
    documents: Sequence[Document],
    config: LabConfig,
    previous: Mapping[str, Service],
    problems: list[Problem],
    same: Collection[int] = frozenset(),
) -> list[Draft]:
    """Every Service with its addresses and ports, by namespace and name.

    What a Service of the previous cluster has it keeps; then come the values that manifests give, then the rest. So a
    new Service that asks for what another one holds is refused, as the API server would. `same` are the ids of the
    documents that the previous cluster was made from too, with this very config.
    """
    drafts = [
        _kept_draft(document, previous) if id(document) in same else _draft(document, config, previous, problems)
        for document in documents
    ]
    drafts.sort(key=lambda draft: (draft.service.metadata.namespace, draft.service.metadata.name))
    _allocate_ips(drafts, config, problems)
    _allocate_ports(drafts, config, problems)
    return drafts


def _kept_draft(document: Document, previous: Mapping[str, Service]) -> Draft:
    service = document.object
    assert isinstance(service, core.Service)
    before = previous[f"{service.metadata.namespace}/{service.metadata.name}"]
    families: tuple[Family, ...] = tuple(6 if name == "IPv6" else 4 for name in before.spec.ip_families)
    if before.spec.type == "ExternalName":
        return Draft(service, document.source, before.spec, families, None, {}, [0] * len(before.ports))
    return Draft(service, document.source, before.spec, families, before, {}, [0] * len(before.ports), kept=True)


def _draft(document: Document, config: LabConfig, previous: Mapping[str, Service], problems: list[Problem]) -> Draft:
    service = document.object
    assert isinstance(service, core.Service)
    families, wrong = families_of(service.spec, config.families)
    key = f"{service.metadata.namespace}/{service.metadata.name}"
    if wrong and service.spec.type != "ExternalName":
        problems.append(problem(document.source, f"Service {key}", "spec.ipFamilies", wrong))
    spec = with_defaults(service.spec, families)
    before = previous.get(key)
    if before is not None and before.spec.type == "ExternalName":
        before = None  # the only type that has no address: all is allocated anew
    return Draft(service, document.source, spec, families, before, {}, [0] * len(spec.ports))


# --- ClusterIPs -------------------------------------------------------------------------------------------------------


def _allocate_ips(drafts: Sequence[Draft], config: LabConfig, problems: list[Problem]) -> None:
    pools = {_family_of(subnet.version): cluster_ip_pool(subnet) for subnet in config.service_subnets}
    for position, subnet in enumerate(config.service_subnets):
        pool = pools[_family_of(subnet.version)]
        pool.reserve(int(subnet.network_address) + 1, API_SERVER)
        if position == 0 and int(subnet.network_address) + DNS_OFFSET in pool:
            pool.reserve(int(subnet.network_address) + DNS_OFFSET, CLUSTER_DNS)
    wanting = [draft for draft in drafts if draft.wants_ip]
    for draft in wanting:
        _keep_ips(draft, pools)
    for draft in wanting:
        _reserve_given_ips(draft, pools, problems)
    for draft in drafts:
        if draft.before is not None and draft.spec.type != "ExternalName":
            _check_immutable(draft, problems)
    for draft in wanting:
        for family in draft.families:
            if family not in draft.ips:
                _allocate_ip(draft, family, pools[family], config, problems)


def _family_of(version: int) -> Family:
    return 4 if version == 4 else 6


def _keep_ips(draft: Draft, pools: Mapping[Family, NumberPool]) -> None:
    for ip in draft.before.cluster_ips if draft.before else ():
        family = _family_of(ip.version)
        pool = pools.get(family)
        if family in draft.families and pool is not None and int(ip) in pool and not pool.reserve(int(ip), draft.key):
            draft.ips[family] = ip


def _reserve_given_ips(draft: Draft, pools: Mapping[Family, NumberPool], problems: list[Problem]) -> None:
    for position, text in enumerate(given_cluster_ips(draft.spec)):
        path = f"spec.clusterIPs[{position}]" if draft.spec.cluster_ips else "spec.clusterIP"
        ip = parse_address(text)
        if ip is None or _family_of(ip.version) not in pools:
            problems.append(problem(draft.source, draft.subject, path, f"Invalid value: {text!r}: not an address here"))
            continue
        family = _family_of(ip.version)
        if draft.before is not None and family in draft.ips:
            continue  # `_check_immutable` speaks for this one
        pool = pools[family]
        if int(ip) not in pool:
            low, high = (type(ip)(number) for number in (pool.low, pool.high))
            message = f"Invalid value: {text!r}: the provided IP is not in the valid range {low}-{high}"
            problems.append(problem(draft.source, draft.subject, path, message))
            continue
        holder = pool.reserve(int(ip), draft.key)
        if holder:
            message = f"Invalid value: {text!r}: the provided IP is already allocated to {holder}"
            problems.append(problem(draft.source, draft.subject, path, message))
        draft.ips[family] = ip


def _check_immutable(draft: Draft, problems: list[Problem]) -> None:
    """A ClusterIP may be added or dropped only by way of ExternalName (core validation, ValidateServiceClusterIPs)."""
    assert draft.before is not None
    given = given_cluster_ips(draft.spec)[:1]
    held = str(draft.before.cluster_ips[0]) if draft.before.cluster_ips else "None"
    became_headless = given == ("None",) and held != "None"
    changed = bool(given) and given != ("None",) and (held == "None" or parse_address(given[0]) != parse_address(held))
    appeared = not given and held == "None"
    if became_headless or changed or appeared:
        shown = given[0] if given else ""
        message = f"Invalid value: {shown!r}: field is immutable; it is {held} in the running lab"
        hint = "delete the Service first"
        problems.append(problem(draft.source, draft.subject, "spec.clusterIP", f"{message}, {hint}"))


def _allocate_ip(draft: Draft, family: Family, pool: NumberPool, config: LabConfig, problems: list[Problem]) -> None:
    subnet = next(subnet for subnet in config.service_subnets if subnet.version == family)
    number = int(subnet.network_address) + 1 if draft.key == API_SERVER else None
    if draft.key == CLUSTER_DNS and family == config.families[0]:
        number = int(subnet.network_address) + DNS_OFFSET
    if number is None or number not in pool or pool.reserve(number, draft.key):
        number = pool.allocate(draft.key)
    if number is None:
        message = f"no address left in the Service subnet {subnet}; give the Lab a larger serviceSubnet"
        problems.append(problem(draft.source, draft.subject, "spec.clusterIP", message))
        return
    draft.ips[family] = address(subnet, number - int(subnet.network_address))


# --- nodePorts --------------------------------------------------------------------------------------------------------


def _allocate_ports(drafts: Sequence[Draft], config: LabConfig, problems: list[Problem]) -> None:
    """One pool for all: a number may be shared by different protocols, but only when manifests say so."""
    pool = node_port_pool(config.node_port_range)
    holders: dict[PortHolder, str] = {}
    for draft in drafts:
        _keep_ports(draft, pool, holders)
    for draft in drafts:
        _reserve_given_ports(draft, pool, holders, problems)
    for draft in drafts:
        if draft.wants_node_ports:
            _allocate_node_ports(draft, pool, problems)
        if draft.wants_health_port and not draft.health_port:
            draft.health_port = _next_port(draft, "spec.healthCheckNodePort", pool, problems)


def _take(pool: NumberPool, holders: dict[PortHolder, str], protocol: str, number: int, key: str) -> str:
    """Who holds the number for this protocol already; empty when it is now `key`'s."""
    holder = holders.setdefault((protocol, number), key)
    pool.reserve(number, key)
    return "" if holder == key else holder


def _keep_ports(draft: Draft, pool: NumberPool, holders: dict[PortHolder, str]) -> None:
    if draft.before is None:
        return
    held = {(port.port, port.protocol): port.node_port for port in draft.before.ports}
    named = {(port.name, port.protocol): port.node_port for port in draft.before.ports if port.name}
    for position, port in enumerate(draft.spec.ports if draft.wants_node_ports else ()):
        number = held.get((port.port, port.protocol)) or named.get((port.name, port.protocol)) or 0
        if (
            port.node_port in (0, number)
            and number in pool
            and not _take(pool, holders, port.protocol, number, draft.key)
        ):
            draft.node_ports[position] = number
    number = draft.before.health_check_node_port
    given = draft.spec.health_check_node_port
    if (
        draft.wants_health_port
        and given in (0, number)
        and number in pool
        and not _take(pool, holders, "TCP", number, draft.key)
    ):
        draft.health_port = number


def _reserve_given_ports(
    draft: Draft, pool: NumberPool, holders: dict[PortHolder, str], problems: list[Problem]
) -> None:
    may_have = draft.spec.type in ("NodePort", "LoadBalancer")
    seen: set[PortHolder] = set()
    wanted = [
        (position, f"spec.ports[{position}].nodePort", port.protocol, port.node_port)
        for position, port in enumerate(draft.spec.ports if may_have else ())
    ]
    if draft.wants_health_port:
        wanted.append((-1, "spec.healthCheckNodePort", "TCP", draft.spec.health_check_node_port))
    for position, path, protocol, number in wanted:
        if not number:
            continue
        if number not in pool:
            message = f"Invalid value: {number}: the provided port is not in the valid range {pool.low}-{pool.high}"
            problems.append(problem(draft.source, draft.subject, path, message))
            continue
        holder = _take(pool, holders, protocol, number, draft.key)
        if not holder and (protocol, number) in seen:
            holder = f"another port of {draft.key}"
        seen.add((protocol, number))
        if holder:
            message = f"Invalid value: {number}: the provided port is already allocated to {holder}"
            problems.append(problem(draft.source, draft.subject, path, message))
        if position < 0:
            draft.health_port = number
        else:
            draft.node_ports[position] = number


def _allocate_node_ports(draft: Draft, pool: NumberPool, problems: list[Problem]) -> None:
    """Ports of one number and different protocols share a nodePort (service/storage/alloc.go, allocNodePorts)."""
    shared: dict[int, list[int]] = {}
    for position, port in enumerate(draft.spec.ports):
        siblings = shared.setdefault(port.port, [])
        if not draft.node_ports[position]:
            free = [number for number in siblings if number and not _clashes(draft, position, number)]
            draft.node_ports[position] = (
                free[0] if free else _next_port(draft, f"spec.ports[{position}].nodePort", pool, problems)
            )
        siblings.append(draft.node_ports[position])


def _clashes(draft: Draft, position: int, number: int) -> bool:
    protocol = draft.spec.ports[position].protocol
    return any(
        taken == number and port.protocol == protocol
        for taken, port in zip(draft.node_ports, draft.spec.ports, strict=True)
    )


def _next_port(draft: Draft, path: str, pool: NumberPool, problems: list[Problem]) -> int:
    number = pool.allocate(draft.key)
    if number is None:
        message = f"no port left in the nodePort range {pool.low}-{pool.high}; give the Lab a larger nodePortRange"
        problems.append(problem(draft.source, draft.subject, path, message))
        return 0
    return number


def complete_spec(draft: Draft) -> core.ServiceSpec:
    """The spec with all that was allocated written into it."""
    if draft.spec.type == "ExternalName":
        return draft.spec
    addresses = tuple(str(draft.ips[family]) for family in draft.families if family in draft.ips)
    if is_headless(draft.spec):
        addresses = ("None",)
    return replace(
        draft.spec,
        cluster_ip=addresses[0] if addresses else "",
        cluster_ips=addresses,
        ports=tuple(
            replace(port, node_port=number) if number != port.node_port else port
            for port, number in zip(draft.spec.ports, draft.node_ports, strict=True)
        ),
        health_check_node_port=draft.health_port,
    )
