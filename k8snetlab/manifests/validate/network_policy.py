"""NetworkPolicy (networking validation, ValidateNetworkPolicySpec)."""

from __future__ import annotations

from k8snetlab.manifests.api.networking import IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import cidr, parse_cidr
from k8snetlab.manifests.validate.messages import Wrongs, check, check_port, forbidden, invalid, required
from k8snetlab.manifests.validate.metadata import check_selector
from k8snetlab.manifests.validate.names import port_name

_SPEC: Path = ("spec",)


def check_network_policy(policy: NetworkPolicy) -> Wrongs:
    """A policy: whom it selects, and the peers and ports of each rule."""
    spec = policy.spec
    yield from check_selector(spec.pod_selector, (*_SPEC, "podSelector"))
    if len(spec.policy_types) > 2:
        detail = "may not specify more than two policyTypes"
        yield invalid((*_SPEC, "policyTypes"), list(spec.policy_types), detail)
    for index, ingress in enumerate(spec.ingress):
        yield from _check_rule(ingress.from_, ingress.ports, (*_SPEC, "ingress", index), "from")
    for index, egress in enumerate(spec.egress):
        yield from _check_rule(egress.to, egress.ports, (*_SPEC, "egress", index), "to")


def _check_rule(
    peers: tuple[NetworkPolicyPeer, ...], ports: tuple[NetworkPolicyPort, ...], at: Path, key: str
) -> Wrongs:
    for index, port in enumerate(ports):
        yield from _check_port(port, (*at, "ports", index))
    for index, peer in enumerate(peers):
        yield from _check_peer(peer, (*at, key, index))


def _check_peer(peer: NetworkPolicyPeer, at: Path) -> Wrongs:
    selects = peer.pod_selector is not None or peer.namespace_selector is not None
    if peer.ip_block is not None:
        if selects:
            yield forbidden(at, "may not specify both ipBlock and another peer")
        yield from _check_ip_block(peer.ip_block, (*at, "ipBlock"))
    elif not selects:
        # An empty peer would be read by some as everybody and by others as nobody.
        yield required(at, "must specify a peer")
    yield from check_selector(peer.pod_selector, (*at, "podSelector"))
    yield from check_selector(peer.namespace_selector, (*at, "namespaceSelector"))


def _check_ip_block(block: IPBlock, at: Path) -> Wrongs:
    """Host bits may be set in a CIDR; an exception must be smaller than it and lie within."""
    if not block.cidr:
        yield required((*at, "cidr"))
        return
    yield from check((*at, "cidr"), block.cidr, cidr(block.cidr))
    outer = parse_cidr(block.cidr)
    for index, text in enumerate(block.except_):
        path = (*at, "except", index)
        inner = parse_cidr(text)
        if inner is None:
            yield from check(path, text, cidr(text))
        elif outer is not None:
            inside = inner.version == outer.version and inner.network_address in outer
            if not inside or inner.prefixlen <= outer.prefixlen:
                yield invalid(path, text, "must be a strict subset of `cidr`")


def _check_port(port: NetworkPolicyPort, at: Path) -> Wrongs:
    if isinstance(port.port, int):
        yield from check_port((*at, "port"), port.port)
    elif port.port is not None:
        yield from check((*at, "port"), port.port, port_name(port.port))
    if port.end_port is None:
        return
    path = (*at, "endPort")
    if port.port is None:
        yield required((*at, "port"), "may not be omitted when `endPort` is set")
    elif isinstance(port.port, str):
        yield invalid(path, port.end_port, "may not be specified when `port` is non-numeric")
    elif port.end_port < port.port:
        yield invalid(path, port.end_port, "must be greater than or equal to `port`")
    else:
        yield from check_port(path, port.end_port)
