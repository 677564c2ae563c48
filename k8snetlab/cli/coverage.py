"""`k8snetlab coverage`: which rules of the policies have let something through?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from k8snetlab.cli.options import files_option, lab_option, output_option
from k8snetlab.cli.output import colour, data, data_json, say
from k8snetlab.errors import UsageError

if TYPE_CHECKING:
    from k8snetlab.cli.running import Running

Run = Literal["check", "matrix", "nothing"]


@click.command("coverage", epilog="Example: k8snetlab coverage -f shop/ --run matrix --fail-under 100")
@files_option(required=False)
@click.option(
    "--run",
    "wanted",
    type=click.Choice(["check", "matrix", "nothing"]),
    help="Send these and count only them. By default check with -f, else nothing: all since the rules were loaded.",
)
@click.option("--fail-under", type=click.FloatRange(0, 100), default=0.0, help="Exit 1 below this percentage.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@lab_option
@output_option("table", "json")
def coverage_command(
    files: Sequence[str], wanted: Run | None, fail_under: float, timeout: float, lab_name: str | None, output: str
) -> int:
    """Count the connections that each rule of the policies has let through, and find selectors that choose nothing.

    With -f in a lab of its own, which is gone afterwards. Exits 1 when a rule is not enforced, or too few were hit;
    4 when no policy has a rule.
    """
    from k8snetlab.oracle.coverage import cover, unmatched
    from k8snetlab.report.coverage import coverage_json, coverage_table, coverage_totals, percent

    if files and lab_name:
        raise UsageError("-f makes a lab of its own", hint="leave out --lab, or -f")
    with _lab(files, lab_name) as running:
        packets = _count(running, wanted or ("check" if files else "nothing"), timeout)
        rules, nothing = cover(running.cluster, packets), unmatched(running.cluster)
        name = running.name
    if output == "json":
        data_json(coverage_json(name, rules, nothing))
    elif rules or nothing:
        data(coverage_table(rules, nothing, colour=colour(sys.stdout)))
    say(coverage_totals(rules))
    if not rules:
        return 4
    return 1 if percent(rules) < fail_under or any(rule.packets is None for rule in rules) else 0


@contextmanager
def _lab(files: Sequence[str], lab_name: str | None) -> Iterator[Running]:
    from k8snetlab.cli.inputs import overrides, read
    from k8snetlab.cli.running import bring_up, require
    from k8snetlab.lab.life import down

    if not files:
        yield require(lab_name)
        return
    name = f"coverage-{os.getpid()}"
    try:
        bring_up(name, read(files), overrides(name=name))
        yield require(name)
    finally:
        down(name)


def _count(running: Running, wanted: Run, timeout: float) -> Mapping[str, int]:
    """Packets by comment: of what is sent now, or of all since the rules were loaded."""
    from k8snetlab.cli.running import run_checks
    from k8snetlab.cli.sweeping import Matrix, owned
    from k8snetlab.kernel.rules import packets_by_comment
    from k8snetlab.lab.enter import run_in
    from k8snetlab.oracle.derive import derive
    from k8snetlab.oracle.matrix import question

    nodes = [node.name for node in running.cluster.nodes]
    before = run_in(running.holder, packets_by_comment, nodes)
    if wanted == "nothing":
        return before
    if wanted == "check":
        run_checks(running, derive(running.cluster), timeout)
    else:
        with owned(running.name) as (lab, record):
            Matrix(lab, record, question(record.cluster, 0, "TCP", "pod", "", None), timeout).send()
    after = run_in(running.holder, packets_by_comment, nodes)
    # A rule written anew meanwhile begins at zero.
    return {comment: count - min(before.get(comment, 0), count) for comment, count in after.items()}
