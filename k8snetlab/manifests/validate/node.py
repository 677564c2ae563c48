"""Node (core validation, ValidateNode)."""

from __future__ import annotations

from k8snetlab.manifests.api.core import Node
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import cidr, family, parse_cidr
from k8snetlab.manifests.validate.messages import Wrongs, check, invalid
from k8snetlab.manifests.validate.placement import check_taints

_SPEC: Path = ("spec",)


def check_node(node: Node) -> Wrongs:
    """Taints and pod ranges."""
    yield from check_taints(node.spec.taints, (*_SPEC, "taints"))
    single, several = node.spec.pod_cidr, node.spec.pod_cidrs
    if single and several and several[0] != single:
        detail = "field must match the first entry of `podCIDRs`"
        yield invalid((*_SPEC, "podCIDR"), single, detail)
    elif single and not several:
        yield from check((*_SPEC, "podCIDR"), single, cidr(single))
    yield from check_pod_cidrs(several, (*_SPEC, "podCIDRs"))


def check_pod_cidrs(ranges: tuple[str, ...], at: Path) -> Wrongs:
    """At most one range of each family."""
    families: set[str] = set()
    for index, text in enumerate(ranges):
        network = parse_cidr(text)
        if network is None:
            yield from check((*at, index), text, cidr(text))
        elif family(network) in families:
            yield invalid((*at, index), text, "may specify no more than one CIDR for each IP family")
        else:
            families.add(family(network))
