"""Inside the lab: read the kernel and the servers, and make both equal to a plan.

These functions run in the child that `enter.run_in` has put into the lab's namespaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from k8snetlab.kernel.identity import Identity
from k8snetlab.lab import servers
from k8snetlab.lab.diff import diff
from k8snetlab.plan.state import Drift, IptablesChain, KernelObject, LearnedRoute, Plan, Process

Progress = Callable[[str, int, int], None]  # of what, done, to do


def observe(plan: Plan) -> frozenset[KernelObject]:
    """Everything the lab contains, seen from a plan: of the sysctls only those it sets, since each has some value."""
    from k8snetlab.kernel.observe import observe as observe_kernel

    families = {item.family for item in plan.objects if isinstance(item, IptablesChain)}
    kernel = observe_kernel(plan.objects, families)
    return kernel | servers.observe(plan.objects)


def drift_from(plan: Plan) -> Drift:
    return diff(plan, observe(plan))


def build(plan: Plan, identities: Mapping[str, Identity], *, progress: Progress) -> None:
    """Make everything in an empty lab."""
    change(plan, Drift(missing=plan.objects), identities, progress=progress)


def mend(plan: Plan, identities: Mapping[str, Identity], *, progress: Progress) -> Drift:
    """Make what is missing, remove what is extra; returns what there was to do."""
    drift = drift_from(plan)
    if drift:
        change(plan, drift, identities, progress=progress)
    return drift


def change(plan: Plan, drift: Drift, identities: Mapping[str, Identity], *, progress: Progress) -> None:
    """Make what is missing and remove what is extra, towards `plan`. The lab's servers start while the kernel works."""
    from k8snetlab.kernel.apply import apply as apply_kernel

    told = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told  # a message costs both processes 20 µs: ten a second are enough for an eye
        if done == total or monotonic() - told > 0.1:
            told = monotonic()
            progress("namespaces", done, total)

    servers.start_servers(drift.missing)
    # A program that is to go would keep its namespace alive; one that is to come needs its namespace.
    servers.apply((), tuple(item for item in drift.extra if isinstance(item, Process)))
    apply_kernel(drift.missing, drift.extra, plan.objects, tell)
    gone = tuple(item for item in drift.extra if not isinstance(item, Process))
    servers.apply(drift.missing, gone, identities.get)
    learned = [item for item in drift.missing if isinstance(item, LearnedRoute)]
    unlearned = [item for item in drift.extra if isinstance(item, LearnedRoute)]
    if learned or unlearned:
        from k8snetlab.kernel.learned import wait

        wait(learned, unlearned)
