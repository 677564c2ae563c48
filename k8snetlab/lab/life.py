"""The life of a lab, as the commands tell it: up, change, status, down.

`up` and `change` belong between `locked(name)` and its end, since what they are given was computed from the record they
replace:

    with locked(name) as lab:
        previous = lab.record()
        …
        drift = up(lab, record)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from k8snetlab.errors import KernelError, LabError
from k8snetlab.lab import holder, publish, store
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.lock import WAIT_SECONDS
from k8snetlab.lab.lock import locked as lock
from k8snetlab.lab.rundir import lab_names
from k8snetlab.lab.start import start
from k8snetlab.lab.store import Record

# `list` and `down` need neither the vocabulary of the kernel nor Kubernetes' (50 ms): imported where they are needed.
if TYPE_CHECKING:
    from k8snetlab.kernel.identity import Identity
    from k8snetlab.lab.converge import Progress
    from k8snetlab.plan.controls import ControlPoint
    from k8snetlab.plan.state import Drift, Plan


@dataclass(slots=True)
class OwnedLab:
    """A lab whose lock we hold: `holder` is None until it runs."""

    name: str
    holder: Holder | None
    _record: Record | None = None

    def record(self) -> Record | None:
        """What the running lab was made from; None when it does not run, or was killed before that was written."""
        if self._record is None and self.holder is not None:
            self._record = store.load(self.holder.state)
        return self._record


def labs() -> tuple[Holder, ...]:
    """The labs that run, by name. Sweeps away what dead ones have left, where nobody is at work on them."""
    running = []
    for name in lab_names():
        found = holder.find(name)
        if found is None:
            _sweep(name)
        else:
            running.append(found)
    return tuple(running)


def find(name: str) -> Holder | None:
    """The holder of the lab, or None when it does not run."""
    return holder.find(name)


@contextmanager
def locked(
    name: str, *, wait: float = WAIT_SECONDS, on_wait: Callable[[int], None] | None = None
) -> Iterator[OwnedLab]:
    """Own a lab for a change, running or not; see `lock.locked`."""
    with lock(name, wait=wait, on_wait=on_wait):
        yield OwnedLab(name, holder.find(name))


def up(
    lab: OwnedLab,
    record: Record,
    *,
    progress: Progress | None = None,
    rootless: bool = False,
) -> Drift:
    """Make the lab equal to `record.plan`, starting it when it does not run; returns what there was to do.

    A running lab is observed, and only the difference reaches the kernel. When it fails, a lab that did not run before
    is gone again, and one that did says so and stays unclean.
    """
    new = lab.holder is None
    lab._record = None
    running = lab.holder = lab.holder or start(lab.name, rootless=rootless)
    try:
        with _blaming(record):
            return _bring(running, record, progress or _silent, new=new)
    except BaseException as error:
        if new:
            holder.stop(running)
            lab.holder = None
        elif isinstance(error, LabError):
            error.hint = error.hint or f"lab {lab.name} is only partly changed; run up again"
        raise


def change(
    lab: OwnedLab,
    record: Record,
    *,
    progress: Progress | None = None,
) -> Drift:
    """Make a running lab equal to `record.plan` by what differs from its stored plan, without looking at the kernel.

    When the last change was interrupted the stored plan is not what the kernel has: then it is an `up`.
    """
    stored = lab.record()
    if lab.holder is None or stored is None or not stored.clean:
        return up(lab, record, progress=progress)
    from k8snetlab.lab import converge
    from k8snetlab.lab.diff import diff

    drift = diff(record.plan, stored.plan.objects)
    lab._record = None
    store.save(lab.holder.state, replace(record, clean=False))
    if drift:
        with _blaming(record):
            run_in(lab.holder, converge.change, record.plan, drift, _identities(record), progress=progress or _silent)
    _publish(lab.holder, record.plan)
    store.mark(lab.holder.state, clean=True)
    return drift


@contextmanager
def controlled(lab: OwnedLab, points: Sequence[ControlPoint]) -> Iterator[None]:
    """For the body, a running lab has the rules of the prober's controls. Killed meanwhile, it is unclean and has too
    much: the next command that changes it mends it."""
    from k8snetlab.kernel import controls

    assert lab.holder is not None
    nodes = {point.netns for point in points}
    store.mark(lab.holder.state, clean=False)
    try:
        run_in(lab.holder, controls.plant, points)
        yield
    finally:
        run_in(lab.holder, controls.lift, nodes)
        store.mark(lab.holder.state, clean=True)


@contextmanager
def borrowed(lab: OwnedLab, record: Record) -> Iterator[Callable[[Plan], Drift]]:
    """Bring a running lab to other plans for a while: the body gets a function that does so by what differs.

    Afterwards the lab is as `record` has it, however the body ends. The record is not touched but for being unclean
    meanwhile: when this process is killed, the next command that changes the lab looks at the kernel and mends it.
    """
    from k8snetlab.lab import converge
    from k8snetlab.lab.diff import diff

    assert lab.holder is not None
    holder, current, torn = lab.holder, record.plan, False
    store.mark(holder.state, clean=False)

    def become(plan: Plan) -> Drift:
        nonlocal current, torn
        drift = diff(plan, current.objects)
        if drift:
            torn = True
            run_in(holder, converge.change, plan, drift, _identities(record), progress=_silent)
            torn = False
        current = plan
        return drift

    try:
        yield become
    finally:
        if torn:
            up(lab, record)
        else:
            become(record.plan)
            store.mark(holder.state, clean=True)


def status(running: Holder) -> Drift:
    """What the kernel lacks and has too much of, seen from the lab's plan; everything is missing without a record."""
    from k8snetlab.lab import converge
    from k8snetlab.plan.state import Plan

    stored = store.load_plan(running.state)
    plan = stored[0] if stored else Plan(())
    return run_in(running, converge.drift_from, plan)


def down(name: str, *, wait: float = WAIT_SECONDS, on_wait: Callable[[int], None] | None = None) -> bool:
    """End the lab and remove all it has on the host; False when it did not run."""
    with lock(name, wait=wait, on_wait=on_wait):
        running = holder.find(name)
        if running is not None:
            holder.stop(running)
        return running is not None


def _bring(running: Holder, record: Record, progress: Progress, *, new: bool) -> Drift:
    from k8snetlab.lab import converge
    from k8snetlab.plan.state import Drift

    def save() -> None:
        store.save(running.state, replace(record, clean=False))

    def save_and_publish() -> None:
        save()
        _publish(running, record.plan)

    # Unclean from before the first touch: whoever comes after a crash looks at the kernel, not at this plan. A new lab
    # says so by having no record yet, so there both can be done at once. So can the names on the host, which dangle
    # until their namespaces are made: where /run is no tmpfs a thousand take 0.2 to 0.6 s (ext4's recently_deleted).
    if new:
        identities = _identities(record)
        run_in(running, converge.build, record.plan, identities, progress=progress, meanwhile=save_and_publish)
        drift = Drift(missing=record.plan.objects)
    else:
        save()
        drift = run_in(running, converge.mend, record.plan, _identities(record), progress=progress)
        _publish(running, record.plan)
    store.mark(running.state, clean=True)
    return drift


@contextmanager
def _blaming(record: Record) -> Iterator[None]:
    """A rule that the kernel refuses is a policy's or a Service's: the error says whose, and where that is written."""
    try:
        yield
    except KernelError as error:
        from k8snetlab.plan.policy.refused_rule import refused_policy
        from k8snetlab.plan.proxy.refused_rule import refused_service

        if (policy := refused_policy(record.cluster, error.subject)) is not None:
            error.blame(*policy)
        elif (service := refused_service(record.cluster, error.subject)) is not None:
            error.blame(f"Service {service.key}", service.source)
        raise


def _identities(record: Record) -> dict[str, Identity]:
    """Those of the pods whose containers are programs of the host."""
    from k8snetlab.lab.identities import of_pod
    from k8snetlab.plan.state import Process

    keys = {item.pod for item in record.plan.objects if isinstance(item, Process) and item.pod}
    return {pod.key: of_pod(record.cluster, pod) for pod in record.cluster.pods if pod.key in keys}


def _publish(running: Holder, plan: Plan) -> None:
    from k8snetlab.lab.diff import namespaces

    if not running.rootless:
        publish.publish(running.lab, running.pid, namespaces(plan.objects))


def _sweep(name: str) -> None:
    """Remove what a dead lab has left, unless somebody holds its lock or we may not."""
    try:
        with lock(name, wait=0):
            pass  # taking the lock sweeps, and giving it back removes an empty directory
    except LabError:
        return


def _silent(_what: str, _done: int, _total: int) -> None:
    return
