"""Which lab a command means, and what the commands do with one that runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from k8snetlab.cli.output import colour, progress, say
from k8snetlab.errors import HostError, LabError, UsageError
from k8snetlab.lab import life, store
from k8snetlab.lab.holder import Holder

if TYPE_CHECKING:
    from k8snetlab.cluster.model import Cluster
    from k8snetlab.cluster.resolve import Overrides
    from k8snetlab.flows.model import Check, Flow, Result
    from k8snetlab.flows.verdict import Verdict
    from k8snetlab.flows.walk import Walk
    from k8snetlab.manifests.document import Manifests
    from k8snetlab.plan.state import Drift, Plan

PARALLEL = 4  # probes at a time: each is a process that mostly waits, on a host of two cores or more


@dataclass
class Running:
    """A lab that runs. What it holds is read when it is asked for."""

    holder: Holder

    @property
    def name(self) -> str:
        return self.holder.lab

    @cached_property
    def cluster(self) -> Cluster:
        cluster = store.load_cluster(self.holder.state)
        if cluster is None:
            raise LabError(f"lab {self.name} was interrupted before it held anything", hint="run up again")
        return cluster

    @property
    def complete(self) -> bool:
        """Whether the last change reached its end."""
        return store.is_clean(self.holder.state)

    @property
    def age_seconds(self) -> int:
        """proc(5): a process' start time is counted in ticks since boot."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) - self.holder.start / os.sysconf("SC_CLK_TCK"))


def pick(lab_name: str | None) -> str:
    """The lab a command means: the one named, else the only one that runs, else `default`."""
    if lab_name:
        return lab_name
    names = [holder.lab for holder in life.labs()]
    if len(names) > 1 and "default" not in names:
        raise UsageError(f"several labs run: {', '.join(names)}", hint="say which one with --lab")
    return names[0] if len(names) == 1 else "default"


def pick_for_up(lab_name: str | None, document_name: str) -> str:
    """As `pick`, but a Lab document's name wins over another lab that happens to run: one is not made the other."""
    return lab_name or document_name or pick(None)


def require(lab_name: str | None) -> Running:
    """The lab a command means; UsageError when it does not run."""
    name = pick(lab_name)
    holder = life.find(name)
    if holder is None:
        raise UsageError(f"lab {name} does not run", hint="start it with: k8snetlab up -f FILE")
    return Running(holder)


def bring_up(name: str, manifests: Manifests, overrides: Overrides) -> tuple[Cluster, Drift]:
    """Make the lab equal to the manifests, keeping the nodes, addresses and ports of what is there already."""
    from k8snetlab.cluster.resolve import resolve
    from k8snetlab.plan.build import build

    with life.locked(name, on_wait=say_waiting) as lab:
        previous = lab.record()
        readiness = previous.readiness if previous else {}
        cluster = resolve(manifests, overrides, previous.cluster if previous else None, readiness, with_addons=True)
        _require_dns_program(cluster)
        record = store.Record(
            manifests=manifests,
            cluster=cluster,
            plan=_fitted(build(cluster)),
            overrides=asdict(overrides),
            readiness=_still_there(cluster, readiness),
        )
        with progress() as show:
            drift = life.up(lab, record, progress=show)
    return cluster, drift


def change(name: str, edit: Callable[[Manifests], Manifests], readiness: Mapping[str, bool]) -> tuple[Cluster, Drift]:
    """Edit what a running lab was told and bring only what that changes to the kernel."""
    from k8snetlab.cluster.resolve import Overrides, resolve
    from k8snetlab.plan.build import build
    from k8snetlab.plan.rebuild import rebuild

    with life.locked(name, on_wait=say_waiting) as lab:
        previous = lab.record()
        if previous is None:
            raise UsageError(f"lab {name} does not run", hint="start it with: k8snetlab up -f FILE")
        manifests = edit(previous.manifests)
        ready = {**previous.readiness, **readiness}
        overrides = Overrides(**previous.overrides)  # type: ignore[arg-type]
        cluster = resolve(manifests, overrides, previous.cluster, ready, previous.manifests, with_addons=True)
        _require_dns_program(cluster)
        plan = rebuild(previous.cluster, previous.plan, cluster) or build(cluster)
        record = replace(
            previous,
            manifests=manifests,
            cluster=cluster,
            plan=_fitted(plan),
            readiness=_still_there(cluster, ready),
        )
        with progress() as show:
            drift = life.change(lab, record, progress=show)
    return cluster, drift


def _still_there(cluster: Cluster, readiness: Mapping[str, bool]) -> dict[str, bool]:
    """What was said of pods and nodes that are there: a pod made anew under the name of one that went is another."""
    from k8snetlab.cluster.nodes import readiness_key

    there = {pod.key for pod in cluster.pods} | {readiness_key(node.name) for node in cluster.nodes}
    return {key: ready for key, ready in readiness.items() if key in there}


def _require_dns_program(cluster: Cluster) -> None:
    """Raises HostError before anything is built when the lab's DNS is a program that this host lacks."""
    import shutil

    config = cluster.config
    program = {"knot": "knotd", "coredns": config.coredns}.get(config.dns, "")
    if program and any(pod.addon == "dns" for pod in cluster.pods) and shutil.which(program) is None:
        hint = "sudo apt install knot" if config.dns == "knot" else "download CoreDNS, or leave spec.dns of the Lab out"
        raise HostError(f"there is no program {program} on this host, which the Lab's dns asks for", hint=hint)


def _fitted(plan: Plan) -> Plan:
    """The plan as this host can hold it; what it cannot is said."""
    plan = _with_proxy(plan)
    from k8snetlab.plan.build import listens_on_sctp, without_sctp

    if not listens_on_sctp(plan):
        return plan
    from k8snetlab.kernel.facts import sctp
    from k8snetlab.report.text import warning

    fact = sctp()
    if fact.ok:
        return plan
    say(warning(f"no pod listens on SCTP: {fact.detail}; {fact.fix}", colour=colour(sys.stderr)))
    return without_sctp(plan)


def _with_proxy(plan: Plan) -> Plan:
    """Where the proxy of Ingresses and Gateways is on this host; without it they are not served, loudly."""
    from k8snetlab.plan.gateway.objects import is_proxy, with_program

    if not any(is_proxy(item) for item in plan.objects):
        return plan
    from k8snetlab.kernel.facts import envoy
    from k8snetlab.report.text import warning

    fact = envoy()
    if fact.ok:
        return with_program(plan, fact.detail)
    say(warning(f"Ingresses and Gateways are NOT served: {fact.detail}; {fact.fix}", colour=colour(sys.stderr)))
    return with_program(plan, "")


def say_waiting(pid: int) -> None:
    say(f"waiting for process {pid or '?'}, which is changing this lab")


def run_command(running: Running, target: str, namespace: str, argv: Sequence[str]) -> int:
    """Run a command in a pod, node or external host with this terminal; returns its exit code."""
    from k8snetlab.flows.targets import place
    from k8snetlab.lab.exec import execute
    from k8snetlab.lab.identities import of_place

    where = place(running.cluster, target, namespace)
    return execute(running.holder, where.netns, of_place(running.cluster, where), argv)


def run_probe(running: Running, flow: Flow, count: int, timeout: float) -> list[Result]:
    """Send one flow `count` times, one after the other."""
    return _send(running, [flow] * count, timeout, parallel=1)


def send_flows(running: Running, flows: Sequence[Flow], timeout: float) -> list[Result]:
    """Send each flow once, several at a time."""
    return _send(running, flows, timeout, parallel=2 * PARALLEL)


def run_dns_trace(
    running: Running, sender: str, namespace: str, name: str, query: str, timeout: float
) -> tuple[str, Walk]:
    """Who looked a name up, and all that was asked."""
    from k8snetlab.flows.targets import lookup_flow, place
    from k8snetlab.lab.enter import run_in
    from k8snetlab.lab.identities import of_place
    from k8snetlab.probe.dns_trace import trace

    where = place(running.cluster, sender, namespace)
    flow = lookup_flow(running.cluster, where, name, query)
    if not query and flow.query != "PTR":
        flow = replace(flow, query="")
    return str(where), run_in(running.holder, trace, flow, of_place(running.cluster, where), timeout)


def run_checks(running: Running, checks: Sequence[Check], timeout: float, *, parallel: int = PARALLEL) -> list[Verdict]:
    """Send the checks' flows and judge what came of them; again where it takes several tries to be sure."""
    from k8snetlab.flows.verdict import judge, settle

    results = _send(running, [check.flow for check in checks], timeout, parallel=parallel)
    verdicts = [judge(check, result) for check, result in zip(checks, results, strict=True)]
    # A Service picks its endpoint at random: who wants a certain one to answer asks again, all tries at once.
    again = [n for n, v in enumerate(verdicts) if v.check.forbidden or (v.check.tries > 1 and _other_answered(v))]
    flows = [flow for n in again for flow in [checks[n].flow] * (checks[n].tries - 1)]
    # Those that policies drop cost nothing but time.
    tried = iter(_send(running, flows, timeout, parallel=PARALLEL * 4))
    for n in again:
        each = [judge(checks[n], next(tried)) for _ in range(checks[n].tries - 1)]
        verdicts[n] = settle(checks[n], [verdicts[n], *each])
    return verdicts


def _other_answered(verdict: Verdict) -> bool:
    return verdict.result.outcome == "ok" and not verdict.passed


def _send(running: Running, flows: Sequence[Flow], timeout: float, *, parallel: int) -> list[Result]:
    from k8snetlab.lab.enter import run_in
    from k8snetlab.lab.identities import of_place
    from k8snetlab.probe.run import send

    if not flows:
        return []
    named = {flow.sender for flow in flows if flow.destination.kind in ("name", "url")}
    identities = {place.netns: of_place(running.cluster, place) for place in named}
    with progress() as show:
        return run_in(running.holder, send, flows, identities, timeout, parallel, progress=show)
