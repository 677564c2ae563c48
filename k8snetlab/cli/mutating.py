"""Try the mutants of a lab's policies on the lab itself, one delta after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from k8snetlab.errors import CheckError
from k8snetlab.flows.trial import Fate, Trial
from k8snetlab.lab import life
from k8snetlab.oracle.mutants import Mutant, mutants
from k8snetlab.oracle.witness import witness

if TYPE_CHECKING:
    from k8snetlab.cli.running import Running
    from k8snetlab.cli.sweeping import Matrix
    from k8snetlab.cluster.model import Cluster
    from k8snetlab.flows.matrix import Cell
    from k8snetlab.flows.model import Check
    from k8snetlab.lab.life import OwnedLab
    from k8snetlab.lab.store import Record
    from k8snetlab.plan.state import Plan

Finding = tuple[Fate, str]  # killed and by whom, survived, or error and which
PARALLEL = 16  # most of a check that expects a timeout is waiting


def planner(record: Record) -> Callable[[Cluster], Plan]:
    """Plans as this lab's own was made: without SCTP where the kernel has none."""
    from k8snetlab.plan.build import build, listens_on_sctp, without_sctp

    if listens_on_sctp(record.plan):
        return build
    return lambda cluster: without_sctp(build(cluster))


def try_mutants(
    lab: OwnedLab, record: Record, plan_of: Callable[[Cluster], Plan], test: Callable[[], Finding]
) -> Iterator[Trial]:
    """Bring the lab to each mutant and test it; at the end of the iteration, however it ends, it is as it was."""
    with life.borrowed(lab, record) as become:
        for mutant in mutants(record.cluster):
            found = witness(record.cluster, mutant.cluster, mutant.kind, mutant.policy)
            if found is None:
                yield _trial(mutant, "equivalent", "", "", 0.0)
                continue
            started = time.perf_counter()
            become(plan_of(mutant.cluster))
            milliseconds = (time.perf_counter() - started) * 1000
            fate, by = test()
            yield _trial(mutant, fate, by, str(found) if fate == "survived" else "", milliseconds)


def by_checks(lab: OwnedLab, cluster: Cluster, timeout: float) -> Callable[[], Finding] | None:
    """The test that the Check documents are; None when there are none. Raises CheckError when one fails already."""
    from k8snetlab.cli.running import Running, run_checks
    from k8snetlab.oracle.written import written_checks

    checks = written_checks(cluster)
    if not checks:
        return None
    assert lab.holder is not None
    running = Running(lab.holder)
    failing = [v.check.name for v in run_checks(running, checks, timeout, parallel=PARALLEL) if not v.passed]
    if failing:
        raise CheckError(f"these checks fail already: {', '.join(failing)}", hint="k8snetlab check says why")
    return lambda: _judged(_send_quickly(running, checks, timeout))


def _send_quickly(running: Running, checks: Sequence[Check], timeout: float) -> Iterator[tuple[str, bool, bool]]:
    """Of each check its name, whether it passed and whether it could not run: by the sweep what the sweep can do."""
    from k8snetlab.cli.running import run_checks
    from k8snetlab.lab.enter import run_in
    from k8snetlab.probe.quick import outcomes, pair_of

    pairs = {place: pair for place, check in enumerate(checks) if (pair := pair_of(check))}
    quick = [checks[place] for place in pairs]
    nodes = [node.name for node in running.cluster.nodes]
    seen = run_in(running.holder, outcomes, quick, list(pairs.values()), nodes, timeout) if quick else []
    for check, (outcome, _) in zip(quick, seen, strict=True):
        yield check.name, outcome == check.expected, outcome == "error"
    slow = [check for place, check in enumerate(checks) if place not in pairs]
    for verdict in run_checks(running, slow, timeout, parallel=PARALLEL):
        yield verdict.check.name, verdict.passed, verdict.result.outcome == "error"


def by_matrix(matrix: Matrix) -> Callable[[], Finding] | None:
    """The test that the matrix is; None when it has no pairs. Raises CheckError when it is not as expected already."""
    cells = matrix.cells()
    if not cells:
        return None
    wrong = sum(1 for cell in cells if not cell.as_expected)
    if wrong:
        raise CheckError(f"{wrong} pairs are not as expected already", hint="k8snetlab matrix says which")
    return lambda: _compared(matrix, cells)


def _judged(results: Iterable[tuple[str, bool, bool]]) -> Finding:
    """The first check that fails kills; one that could not run says nothing. The rest is then not sent."""
    error = ""
    for name, passed, could_not_run in results:
        if could_not_run:
            error = error or name
        elif not passed:
            return "killed", f"check {name}"
    return ("error", f"check {error}") if error else ("survived", "")


def _compared(matrix: Matrix, cells: list[Cell]) -> Finding:
    errors = ""
    for cell, seen in zip(cells, matrix.send(), strict=True):
        pair = f"{cell.pair.sender} -> {cell.pair.receiver}"
        if seen.outcome == "error":
            errors = errors or pair
        elif seen.outcome != cell.observed:
            return "killed", pair
    return ("error", errors) if errors else ("survived", "")


def _trial(mutant: Mutant, fate: Fate, by: str, told: str, milliseconds: float) -> Trial:
    return Trial(
        policy=mutant.policy,
        part=mutant.part,
        change=mutant.change,
        source=mutant.source,
        fate=fate,
        by=by,
        witness=told,
        milliseconds=milliseconds,
    )
