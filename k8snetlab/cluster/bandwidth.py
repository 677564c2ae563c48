"""Pod bandwidth limits: the annotations `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`.

A quantity of bits a second, as `10M`. Source: Kubernetes, "Network Plugins", traffic shaping; pkg/util/bandwidth.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from k8snetlab.cluster.problems import problem
from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Problem

if TYPE_CHECKING:
    from k8snetlab.cluster.workloads import PodSeed

INGRESS = "kubernetes.io/ingress-bandwidth"
EGRESS = "kubernetes.io/egress-bandwidth"
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_SCALES = {"": 1, **{f"{c}": 1000 ** (n + 1) for n, c in enumerate("kMGTP")}} | {
    f"{c}i": 1024 ** (n + 1) for n, c in enumerate("KMGTP")
}
_LEAST, _MOST = 1000, 10**15  # pkg/util/bandwidth, validateBandwidthIsReasonable: 1k to 1P


@dataclass(frozen=True, slots=True)
class BandwidthLimits:
    """Bits a second, 0 for none: `ingress` is what comes to the pod, `egress` what it sends."""

    ingress: int = 0
    egress: int = 0


def bandwidth_limits(annotations: Mapping[str, str]) -> BandwidthLimits:
    """Those of a pod whose annotations are known to be right."""
    if INGRESS not in annotations and EGRESS not in annotations:
        return BandwidthLimits()
    return BandwidthLimits(*(_parse(annotations[key]) if key in annotations else 0 for key in (INGRESS, EGRESS)))


def check_bandwidth(seeds: Iterable[PodSeed], problems: list[Problem]) -> None:
    for seed in seeds:
        for key in (INGRESS, EGRESS):
            if key in seed.annotations:
                try:
                    _parse(seed.annotations[key])
                except ValueError as error:
                    path = f"metadata.annotations[{key}]"
                    problems.append(problem(seed.source, seed.subject, path, str(error)))


def _parse(text: str) -> int:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a quantity of bits a second, such as 10M")
    rate = int(float(match[1]) * _SCALES[match[2] or ""])
    if not _LEAST <= rate <= _MOST:
        raise ValueError(f"{text!r} must be between 1k and 1P bits a second")
    return rate
