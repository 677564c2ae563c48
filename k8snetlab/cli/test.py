"""`k8snetlab test`: run scenarios end to end, as a CI job does."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.output import colour, data, say
from k8snetlab.errors import LabError, UsageError

if TYPE_CHECKING:
    from k8snetlab.report.junit import Case


@click.command("test", epilog="Example: k8snetlab test scenarios/ --junit report.xml")
@click.argument("paths", nargs=-1, required=True)
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Scenarios at a time.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N equal parts, counted from 1.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write a JUnit XML report here.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds per probe.")
def test_command(paths: Sequence[str], jobs: int, shard: str | None, junit: str | None, timeout: float) -> int:
    """For each scenario in PATHS: up, check, down.

    A scenario is a folder with manifests, or one manifest file. A folder of folders is a set of scenarios.
    """
    from k8snetlab.report.junit import junit_xml

    if junit and not Path(junit).parent.is_dir():
        raise UsageError(f"--junit {junit}: no such directory")
    scenarios = _shard(_scenarios(paths), shard)
    cases = _run_all(scenarios, jobs, timeout)
    failed = sum(1 for case in cases if case.failures or case.error)
    if junit:
        Path(junit).write_text(junit_xml(cases), encoding="utf-8")
    checks = sum(case.checks for case in cases)
    say(f"{len(cases)} scenarios, {checks} checks, {failed} scenarios failed")
    if failed:
        return 3 if all(case.error for case in cases if case.failures or case.error) else 1
    return 0 if checks else 4


def _scenarios(paths: Sequence[str]) -> list[Path]:
    """Every folder that directly holds manifests, and every file that was named, in order and once."""
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_file():
            found[path] = None
            continue
        if not path.is_dir():
            raise UsageError(f"no such scenario: {text}")
        folders = sorted({file.parent for file in path.rglob("*") if file.suffix in (".yaml", ".yml", ".json")})
        # A folder below a scenario is part of it, not a scenario of its own.
        for folder in folders:
            if not any(parent in found for parent in folder.parents):
                found[folder] = None
    return list(found)


def _shard(scenarios: list[Path], shard: str | None) -> list[Path]:
    if shard is None:
        return scenarios
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {shard}: want I/N with 1 <= I <= N")
    return scenarios[int(match[1]) - 1 :: int(match[2])]


def _run_all(scenarios: Sequence[Path], jobs: int, timeout: float) -> list[Case]:
    """Run the scenarios, up to `jobs` at a time in processes of their own; results in the order given."""
    if jobs == 1 or len(scenarios) < 2:
        return [_run(scenario, timeout) for scenario in scenarios]
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        return list(pool.map(_run, scenarios, [timeout] * len(scenarios)))


def _run(scenario: Path, timeout: float) -> Case:
    """One scenario in a lab of its own, which is gone afterwards whatever happens."""
    import time

    from k8snetlab.cli.inputs import overrides, read
    from k8snetlab.cli.running import bring_up, require, run_checks
    from k8snetlab.lab.life import down
    from k8snetlab.oracle.derive import derive
    from k8snetlab.report.junit import Case
    from k8snetlab.report.text import check_table

    started = time.perf_counter()
    slug = re.sub(r"[^a-z0-9]+", "-", scenario.stem.lower()).strip("-")[:30] or "scenario"
    name = f"{slug}-{os.getpid()}"
    try:
        try:
            bring_up(name, read([str(scenario)]), overrides(name=name))
            running = require(name)
            verdicts = run_checks(running, derive(running.cluster), timeout)
        finally:
            down(name)
    except LabError as error:
        say(f"{scenario}: error: {error}")
        return Case(name=str(scenario), checks=0, failures=(), error=str(error), seconds=time.perf_counter() - started)
    failed = [verdict for verdict in verdicts if not verdict.passed]
    seconds = time.perf_counter() - started
    say(f"{scenario}: {len(verdicts) - len(failed)} of {len(verdicts)} checks passed in {seconds:.1f} s")
    if failed:
        data(check_table(failed, wide=True, colour=colour(sys.stdout)))
    return Case(
        name=str(scenario),
        checks=len(verdicts),
        failures=tuple(f"{verdict.check.type} {verdict.check.name}: {verdict.reason}" for verdict in failed),
        error="",
        seconds=seconds,
    )
