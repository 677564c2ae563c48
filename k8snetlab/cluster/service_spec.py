"""The API server's defaults for a Service: families, policies, target ports. Nothing is allocated here."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from k8snetlab.cluster.addresses import parse_address
from k8snetlab.cluster.model import Family, IPAddress
from k8snetlab.manifests.api import core

FamilyName = Literal["IPv4", "IPv6"]
FAMILY_NAMES: dict[Family, FamilyName] = {4: "IPv4", 6: "IPv6"}
DEFAULT_AFFINITY_SECONDS = 10800  # core/v1 DefaultClientIPServiceAffinitySeconds


def given_cluster_ips(spec: core.ServiceSpec) -> tuple[str, ...]:
    """clusterIPs as written, or the one clusterIP; `("None",)` when headless."""
    return spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())


def is_headless(spec: core.ServiceSpec) -> bool:
    return given_cluster_ips(spec) == ("None",)


def families_of(spec: core.ServiceSpec, lab: tuple[Family, ...]) -> tuple[tuple[Family, ...], str]:
    """The Service's IP families, primary first, and what is wrong with them (empty when nothing).

    After pkg/registry/core/service/storage/alloc.go: families come from ipFamilies, then from given addresses, then
    from the cluster; the policy says whether a second one is added. A headless Service without selector asks for
    both families, where there are two.
    """
    wanted: list[Family] = [6 if name == "IPv6" else 4 for name in spec.ip_families]
    if not wanted and not is_headless(spec):
        addresses = [parse_address(text) for text in given_cluster_ips(spec)]
        wanted = [_family(address) for address in addresses if address is not None]
    for family in wanted:
        if family not in lab:
            return lab[:1], f"{FAMILY_NAMES[family]} is not configured on this lab"
    policy = spec.ip_family_policy
    if policy is None and is_headless(spec) and not spec.selector and not wanted:
        policy = "PreferDualStack"
    if policy is None:
        policy = "SingleStack" if len(wanted) < 2 else "RequireDualStack"
    if policy == "RequireDualStack" and len(lab) < 2:
        return lab[:1], "RequireDualStack: this lab is not configured for dual-stack"
    if policy == "SingleStack":
        if len(wanted) > 1:
            return tuple(wanted[:1]), "SingleStack: only one IP family may be given"
        return tuple(wanted) or lab[:1], ""
    families = wanted or list(lab)
    return tuple(dict.fromkeys([*families, *lab])), ""


def _family(address: IPAddress) -> Family:
    return 4 if address.version == 4 else 6


def with_defaults(spec: core.ServiceSpec, families: tuple[Family, ...]) -> core.ServiceSpec:
    """The spec as the API server stores it, still without allocated addresses and ports."""
    if spec.type == "ExternalName":
        return spec
    external = spec.type in ("NodePort", "LoadBalancer") or bool(spec.external_ips)
    policy = spec.ip_family_policy
    if policy is None:
        policy = "SingleStack" if len(families) < 2 else "RequireDualStack"
    allocates = spec.allocate_load_balancer_node_ports
    return replace(
        spec,
        ports=tuple(_with_target(port) for port in spec.ports),
        ip_families=tuple(FAMILY_NAMES[family] for family in families),
        ip_family_policy=policy,
        external_traffic_policy=(spec.external_traffic_policy or "Cluster") if external else None,
        internal_traffic_policy=spec.internal_traffic_policy or "Cluster",
        session_affinity_config=_affinity_config(spec),
        allocate_load_balancer_node_ports=(allocates is not False) if spec.type == "LoadBalancer" else None,
    )


def _with_target(port: core.ServicePort) -> core.ServicePort:
    return port if port.target_port is not None else replace(port, target_port=port.port)


def affinity_seconds(spec: core.ServiceSpec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    seconds = config.client_ip.timeout_seconds if config and config.client_ip else None
    return DEFAULT_AFFINITY_SECONDS if seconds is None else seconds


def _affinity_config(spec: core.ServiceSpec) -> core.SessionAffinityConfig | None:
    if spec.session_affinity != "ClientIP":
        return None
    return core.SessionAffinityConfig(client_ip=core.ClientIPConfig(timeout_seconds=affinity_seconds(spec)))
