"""kube-proxy's nftables layout: a chain for each policy of a Service port, one for each endpoint (conformance 1.17).

Source: kubernetes, pkg/proxy/nftables/proxier.go, the loop over service ports in syncProxyRules and
writeServiceToEndpointRules; the text of each rule is the one nft prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from k8snetlab.cluster.endpoint_choice import categorize
from k8snetlab.cluster.model import Node
from k8snetlab.dataclass import dataclass
from k8snetlab.plan.proxy.nft_draft import Draft
from k8snetlab.plan.proxy.nft_names import endpoint_base, port_base
from k8snetlab.plan.proxy.portal import Portal
from k8snetlab.plan.state import Family

MARK = "jump mark-for-masquerade"
REJECT = "goto reject-chain"
DROP = "drop"


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint in rules. `affinity` is its set of clients; `rules`, of its chain, are the same on every node."""

    ip: str
    port: int
    chain: str
    affinity: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServicePortal:
    """A Service port with its names in nftables; `targets` by endpoint."""

    portal: Portal
    targets: dict[tuple[object, int], Target]

    @property
    def base(self) -> str:
        """What the names of its chains end in."""
        service = self.portal.service
        return port_base(service.namespace, service.name, self.portal.protocol, self.portal.port.name)

    @property
    def sticky(self) -> bool:
        return self.portal.service.session_affinity_seconds > 0


@dataclass(frozen=True, slots=True)
class Usable:
    """What a node may use of a port: the endpoints by policy, and the verdict on traffic that finds none, if so."""

    cluster: tuple[Target, ...]
    local: tuple[Target, ...]
    reachable: tuple[Target, ...]
    any: bool
    internal: str | None
    external: str | None


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Whose traffic to a ClusterIP is masqueraded: everybody's, or that of who is not in `pod_cidr` (empty: nobody's).

    `pod_cidr` is the local traffic detector, --cluster-cidr.
    """

    pod_cidr: str
    everybody: bool


@dataclass(frozen=True, slots=True)
class Destinations:
    """The chains that traffic of a Service port goes to: for its ClusterIP, its other addresses, its node port."""

    internal: str
    external: str
    node_port: str


def service_portal(portal: Portal, family: Family, *, chains: bool) -> ServicePortal:
    """Names and endpoint rules, worked out once for all nodes; without `chains` there are none, only targets."""
    service = portal.service
    if not chains:
        plain = {key: Target(backend.ip, key[1], "", "", ()) for key, backend in portal.backends.items()}
        return ServicePortal(portal, plain)
    ip, sticky = "ip" if family == 4 else "ip6", service.session_affinity_seconds > 0
    targets = {}
    for key, backend in portal.backends.items():
        base = endpoint_base(service.namespace, service.name, portal.protocol, portal.port.name, backend.ip, key[1])
        affinity = f"affinity-{base}"
        rules = (
            # Hairpin: a pod that is sent back to itself must see another sender, or it answers itself directly.
            f"{ip} saddr {backend.ip} {MARK}",
            *((f"update @{affinity} {{ {ip} saddr }}",) if sticky else ()),
            f"meta l4proto {portal.protocol} dnat to {backend.text}",
        )
        targets[key] = Target(backend.ip, key[1], f"endpoint-{base}", affinity, rules)
    return ServicePortal(portal, targets)


def usable(item: ServicePortal, node: Node, family: Family) -> Usable:
    """What this node may use. None anywhere: refuse; none here for a Local policy: drop (conformance 1.17 #7)."""
    service = item.portal.service
    choice = categorize(service, item.portal.port, node, family)
    internal = external = None
    if not choice.any_endpoints:
        internal = external = REJECT
    elif not choice.local:
        internal = DROP if service.internal_local else None
        external = DROP if service.external_local else None
    cluster, local, reachable = (
        tuple(item.targets[endpoint.ip, endpoint.port] for endpoint in endpoints)
        for endpoints in (choice.cluster, choice.local, choice.reachable)
    )
    return Usable(cluster, local, reachable, choice.any_endpoints, internal, external)


def write_chains(draft: Draft, item: ServicePortal, use: Usable, masquerade: Masquerade) -> Destinations:
    """The chains and affinity sets of one Service port."""
    service = item.portal.service
    base = item.base
    cluster, local, external = f"service-{base}", f"local-{base}", f"external-{base}"
    internal = local if service.internal_local else cluster
    rules: dict[str, list[str]] = {}
    if use.internal is None:
        rules[internal] = list(_masquerade_internal(draft, item, masquerade))
    if use.cluster:
        rules.setdefault(cluster, []).extend(_spread(draft, item, use.cluster))
    if use.local:
        rules.setdefault(local, []).extend(_spread(draft, item, use.local))
    if use.any and item.portal.externally_accessible:
        policy = local if service.external_local else cluster
        to_policy = [f"goto {policy}"] if use.external is None else []
        rules[external] = [*external_rules(draft, item, masquerade, cluster), *to_policy]
    for name, chain_rules in rules.items():
        draft.chain(name, chain_rules)
    for target in use.reachable:
        draft.chain(target.chain, target.rules)
        if item.sticky:
            draft.set(
                target.affinity,
                f"type {draft.address_type}",
                flags="dynamic,timeout",
                timeout=service.session_affinity_seconds,
            )
    return Destinations(internal, external, external)


def external_rules(draft: Draft, item: ServicePortal, masquerade: Masquerade, everywhere: str) -> Iterator[str]:
    """What traffic for an address reached from outside meets before the policy's endpoints.

    With policy Local pods and processes of the node are led past the policy, to the chain `everywhere`, as if they had
    gone out to a load balancer and come back in.
    """
    if not item.portal.service.external_local:
        yield MARK
        return
    if masquerade.pod_cidr:
        yield f'{draft.ip} saddr {masquerade.pod_cidr} goto {everywhere} comment "short-circuit pod traffic"'
    yield f'fib saddr type local {MARK} comment "masquerade local traffic"'
    yield f'fib saddr type local goto {everywhere} comment "short-circuit local traffic"'


def _masquerade_internal(draft: Draft, item: ServicePortal, masquerade: Masquerade) -> Iterator[str]:
    """Who is no pod and uses a ClusterIP is masqueraded, so that the reply comes back through this node."""
    if masquerade.everybody:
        yield f"{draft.ip} daddr {item.portal.cluster_ip} {MARK}"
    elif masquerade.pod_cidr:
        yield f"{draft.ip} daddr {item.portal.cluster_ip} {draft.ip} saddr != {masquerade.pod_cidr} {MARK}"


def _spread(draft: Draft, item: ServicePortal, targets: Sequence[Target]) -> Iterable[str]:
    """One of the endpoints: the one that this client had last, else each with equal probability."""
    if item.sticky:
        for target in targets:
            yield f"{draft.ip} saddr @{target.affinity} goto {target.chain}"
    choices = ", ".join(f"{number} : goto {target.chain}" for number, target in enumerate(targets))
    yield f"numgen random mod {len(targets)} vmap {{ {choices} }}"
