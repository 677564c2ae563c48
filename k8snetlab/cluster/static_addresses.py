"""Pods that ask for addresses of their own choice, by annotation.

`cni.projectcalico.org/ipAddrs` is Calico's (a JSON list of one address a family); `k8snetlab.dev/ip-addresses` is the
same for every network, since the CNI plugins' own ways of asking (capability `ips`) have no annotation of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from k8snetlab.cluster.addresses import parse_address
from k8snetlab.cluster.model import Family, IPAddress, LabConfig
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Problem

OWN = "k8snetlab.dev/ip-addresses"
CALICO = "cni.projectcalico.org/ipAddrs"


@dataclass(frozen=True, slots=True)
class StaticAddresses:
    """`wanted`: pod key → the addresses it asks for, one a family at most; pods that ask for none are not in it."""

    wanted: Mapping[str, tuple[IPAddress, ...]]
    annotation: Mapping[str, str]

    def refuse(self, seed: PodSeed, message: str, problems: list[Problem]) -> None:
        path = f"metadata.annotations[{self.annotation[seed.key]}]"
        problems.append(problem(seed.source, seed.subject, path, message))

    def of(self, seed: PodSeed, family: Family) -> IPAddress | None:
        return next((ip for ip in self.wanted.get(seed.key, ()) if ip.version == family), None)


def static_addresses(config: LabConfig, seeds: Iterable[PodSeed], problems: list[Problem]) -> StaticAddresses:
    """What all pods ask for. Text that is no such list is a problem, and so is an address of a family the lab lacks."""
    keys = (OWN, CALICO) if config.network == "calico" else (OWN,)
    wanted: dict[str, tuple[IPAddress, ...]] = {}
    annotation: dict[str, str] = {}
    static = StaticAddresses(wanted, annotation)
    for seed in seeds:
        key = next((key for key in keys if key in seed.annotations), None)
        if key is None or seed.spec.host_network:
            continue
        annotation[seed.key] = key
        try:
            wanted[seed.key] = _parse(seed.annotations[key], config.families)
        except ValueError as error:
            static.refuse(seed, str(error), problems)
    return static


def names_of(seed: PodSeed, annotation: str) -> tuple[str, ...]:
    """A JSON list of names; raises ValueError when the text is none."""
    return _texts(seed.annotations[annotation])


def _parse(text: str, families: tuple[Family, ...]) -> tuple[IPAddress, ...]:
    found: list[IPAddress] = []
    for part in _texts(text):
        ip = parse_address(part)
        if ip is None:
            raise ValueError(f"{part!r} is not an IP address")
        if ip.version not in families:
            raise ValueError(f"{ip} is IPv{ip.version}, which the lab has not")
        if any(other.version == ip.version for other in found):
            raise ValueError(f"{ip} is the second IPv{ip.version} address; a pod has one a family")
        found.append(ip)
    if not found:
        raise ValueError("names no address")
    return tuple(found)


def _texts(text: str) -> tuple[str, ...]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f'{text!r} is not a JSON list such as ["10.244.1.20"]')
    return tuple(values)
