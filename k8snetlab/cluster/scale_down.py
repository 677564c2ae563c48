"""Which pods of a ReplicaSet stay when there are more than it wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from k8snetlab.cluster.model import Pod

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_PHASES: Final = ("Pending", "Unknown", "Running")
_GONE: Final = ("Succeeded", "Failed")


def survivors(pods: Sequence[Pod], wanted: int) -> list[Pod]:
    """The pods that a ReplicaSet with these active pods keeps when it wants `wanted`, in order of their ordinals.

    pkg/controller/controller_utils.go, ActivePodsWithRanks.Less: first goes who is in an earlier phase, then who is not
    ready, who costs less to delete, who shares its node with more of its siblings (counted once, beforehand), and who
    is newer. Times are not kept here: of two pods the one with the higher ordinal came later.
    """
    active = [pod for pod in pods if pod.phase not in _GONE and not pod.terminating]
    crowd = Counter(pod.node for pod in active)

    def rank(pod: Pod) -> tuple[int, bool, int, int, int]:
        return _PHASES.index(pod.phase), pod.ready, deletion_cost(pod), -crowd[pod.node], -pod.ordinal

    kept = sorted(active, key=rank)[max(len(active) - wanted, 0) :]
    return sorted(kept, key=lambda pod: pod.ordinal)


def deletion_cost(pod: Pod) -> int:
    """What the annotation says; 0 where it is missing or no 32-bit number (GetDeletionCostFromPodAnnotations)."""
    text = pod.annotations.get(DELETION_COST, "0")
    digits = text.removeprefix("-")
    written_as_go_does = digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")
    return int(text) if written_as_go_does and -(2**31) <= int(text) < 2**31 else 0
