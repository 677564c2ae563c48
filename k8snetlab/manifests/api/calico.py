"""Calico's own kinds for addresses: IPPool and IPReservation. Source: Calico, reference/resources."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import ObjectMeta

Mode = Literal["Always", "CrossSubnet", "Never", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPoolSpec:
    IGNORED: ClassVar = ("allowedUses", "disableBGPExport", "nat-outgoing", "ipip")

    cidr: str
    block_size: int | None = None
    node_selector: str = "all()"
    namespace_selector: str = ""
    nat_outgoing: bool = False
    ipip_mode: Mode = "Never"
    vxlan_mode: Mode = "Never"
    disabled: bool = False
    assignment_mode: Literal["Automatic", "Manual"] = "Automatic"


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool:
    metadata: ObjectMeta
    spec: IPPoolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class IPReservationSpec:
    reserved_cidrs: tuple[str, ...] = field(default=(), metadata={"key": "reservedCIDRs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IPReservation:
    metadata: ObjectMeta
    spec: IPReservationSpec = IPReservationSpec()
