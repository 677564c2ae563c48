"""Calico's IPPool and IPReservation, as its API server judges them (libcalico-go, lib/validator/v3)."""

from __future__ import annotations

from k8snetlab.manifests.api.calico import IPPool, IPReservation
from k8snetlab.manifests.calico_selector import SelectorError, parse_selector
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import cidr, parse_cidr
from k8snetlab.manifests.validate.messages import Wrongs, check, forbidden, invalid

_SPEC: Path = ("spec",)
_BLOCKS = {4: (20, 32), 6: (116, 128)}


def check_ip_pool(pool: IPPool) -> Wrongs:
    """A range, blocks that fit it, and one kind of tunnel at most."""
    spec = pool.spec
    yield from check((*_SPEC, "cidr"), spec.cidr, cidr(spec.cidr))
    network = parse_cidr(spec.cidr)
    if network is not None and spec.block_size is not None:
        smallest, largest = _BLOCKS[network.version]
        if not smallest <= spec.block_size <= largest:
            detail = f"must be between {smallest} and {largest} for an IPv{network.version} pool"
            yield invalid((*_SPEC, "blockSize"), spec.block_size, detail)
        elif network.prefixlen > spec.block_size:
            yield invalid((*_SPEC, "cidr"), spec.cidr, f"is smaller than its blocks, /{spec.block_size}")
    for key, text in (("nodeSelector", spec.node_selector), ("namespaceSelector", spec.namespace_selector)):
        try:
            parse_selector(text)
        except SelectorError as error:
            yield invalid((*_SPEC, key), text, str(error))
    if spec.ipip_mode not in ("", "Never") and spec.vxlan_mode not in ("", "Never"):
        yield forbidden((*_SPEC, "vxlanMode"), "may not be set together with `ipipMode`")
    if network is not None and network.version == 6 and spec.ipip_mode not in ("", "Never"):
        yield forbidden((*_SPEC, "ipipMode"), "may not be set for an IPv6 pool")


def check_ip_reservation(reservation: IPReservation) -> Wrongs:
    for index, text in enumerate(reservation.spec.reserved_cidrs):
        yield from check((*_SPEC, "reservedCIDRs", index), text, None if parse_cidr(text) else cidr(text))
