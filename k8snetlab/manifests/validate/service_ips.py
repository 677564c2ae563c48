"""The addresses a Service asks for, and of which families (core validation, ValidateServiceClusterIPsRelatedFields)."""

from __future__ import annotations

from k8snetlab.manifests.api.core import ServiceSpec
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import family, ip, parse_ip
from k8snetlab.manifests.validate.messages import Wrongs, check, duplicate, forbidden, invalid

HEADLESS = "None"
_SPEC: Path = ("spec",)
_IPS: Path = ("spec", "clusterIPs")
_TWO = "may only hold up to 2 values"


def check_cluster_ips(spec: ServiceSpec) -> Wrongs:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy must agree with each other and with the type."""
    if spec.type == "ExternalName":
        yield from _check_unset(spec)
        return
    yield from _check_headless(spec)
    yield from _check_families(spec)
    yield from _check_addresses(spec)


def _check_unset(spec: ServiceSpec) -> Wrongs:
    given = {
        "clusterIPs": spec.cluster_ips,
        "ipFamilies": spec.ip_families,
        "ipFamilyPolicy": spec.ip_family_policy,
    }
    for key, value in given.items():
        if value:
            yield forbidden((*_SPEC, key), "may not be set for ExternalName services")
    if spec.cluster_ip:
        yield forbidden((*_SPEC, "clusterIP"), "may not be set for ExternalName services")


def _check_headless(spec: ServiceSpec) -> Wrongs:
    """Without an address there is nothing for a node port to lead to."""
    if HEADLESS not in (spec.cluster_ip, *spec.cluster_ips[:1]):
        return
    if spec.type in ("NodePort", "LoadBalancer"):
        path = (*_SPEC, "clusterIP") if spec.cluster_ip == HEADLESS else (*_IPS, 0)
        yield invalid(path, HEADLESS, f"may not be set to 'None' for {spec.type} services")


def _check_families(spec: ServiceSpec) -> Wrongs:
    path = (*_SPEC, "ipFamilies")
    if len(spec.ip_families) > 2:
        yield invalid(path, list(spec.ip_families), _TWO)
    if len(set(spec.ip_families)) < len(spec.ip_families):
        yield duplicate((*path, 1), spec.ip_families[1])
    if spec.ip_family_policy == "SingleStack":
        detail = "must be 'PreferDualStack' or 'RequireDualStack' when multiple {} are specified"
        at = (*_SPEC, "ipFamilyPolicy")
        if len(spec.ip_families) == 2:
            yield invalid(at, spec.ip_family_policy, detail.format("ip families"))
        elif len(spec.cluster_ips) == 2:
            yield invalid(at, spec.ip_family_policy, detail.format("cluster ips"))


def _check_addresses(spec: ServiceSpec) -> Wrongs:
    if spec.cluster_ip and spec.cluster_ips and spec.cluster_ips[0] != spec.cluster_ip:
        yield invalid(_IPS, list(spec.cluster_ips), "first value must match `clusterIP`")
    if len(spec.cluster_ips) > 2:
        yield invalid(_IPS, list(spec.cluster_ips), _TWO)
    places: list[tuple[Path, str]] = [((*_IPS, index), text) for index, text in enumerate(spec.cluster_ips)]
    if spec.cluster_ip and not spec.cluster_ips:
        places = [((*_SPEC, "clusterIP"), spec.cluster_ip)]
    for index, (path, text) in enumerate(places):
        if text == HEADLESS:
            if index > 0 or len(places) > 1:
                yield invalid(_IPS, list(spec.cluster_ips), "'None' must be the first and only value")
                return
            continue
        address = parse_ip(text)
        if address is None:
            yield from check(path, text, ip(text) if path[-1] != "clusterIP" else _cluster_ip_rule(text))
        elif index < len(spec.ip_families) and family(address) != spec.ip_families[index]:
            detail = f'ip "{text}" is of family {family(address)}, `ipFamilies` asks for {spec.ip_families[index]}'
            yield invalid(path, text, detail)
    parsed = [parse_ip(text) for text in spec.cluster_ips[:2]]
    if len(parsed) == 2 and parsed[0] and parsed[1] and family(parsed[0]) == family(parsed[1]):
        yield invalid(_IPS, list(spec.cluster_ips), "may specify no more than one IP for each IP family")


def _cluster_ip_rule(text: str) -> str:
    hint = ' (for a headless service write "None")' if text.lower() == "none" else ""
    return f"{ip(text)}{hint}"
