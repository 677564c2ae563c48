"""`k8snetlab mutate`: what would the checks not notice?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.options import lab_option, output_option
from k8snetlab.cli.output import colour, data, data_json, progress, say

if TYPE_CHECKING:
    from k8snetlab.manifests.api.meta import Protocol


@click.command("mutate", epilog="Example: k8snetlab mutate --matrix --protocol UDP")
@click.option("--matrix", "with_matrix", is_flag=True, help="Test by the matrix, not by the Check documents.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of the matrix; by default each pod's first.")
@click.option(
    "--protocol",
    type=click.Choice(["TCP", "UDP", "SCTP"], case_sensitive=False),
    default="TCP",
    show_default=True,
    help="Of the matrix.",
)
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@lab_option
@output_option("table", "wide", "json")
def mutate_command(
    with_matrix: bool, port: int | None, protocol: Protocol, timeout: float, lab_name: str | None, output: str
) -> int:
    """Change the policies of a running lab in one small way after the other, and run the checks on each.

    A change that no check notices survives: the checks do not test it. Afterwards the lab is as it was. Exits 0 when
    none survived, 1 when one did, 4 when there was none to try.
    """
    from k8snetlab.cli.mutating import by_checks, by_matrix, planner, try_mutants
    from k8snetlab.cli.running import pick
    from k8snetlab.cli.sweeping import Matrix, owned
    from k8snetlab.oracle.matrix import question
    from k8snetlab.oracle.mutants import mutants
    from k8snetlab.report.mutants import mutants_json, mutants_table, mutants_totals

    trials = []
    with owned(pick(lab_name), mend=True) as (lab, record):
        total = sum(1 for _ in mutants(record.cluster))
        if total:
            asked = question(record.cluster, port or 0, protocol, "pod", "", None)
            test = (
                by_matrix(Matrix(lab, record, asked, timeout))
                if with_matrix
                else by_checks(lab, record.cluster, timeout)
            )
            if test is None:
                say(
                    "nothing to test by: no pair of pods"
                    if with_matrix
                    else "no Check documents: write some, or --matrix"
                )
                return 4
            with progress() as show:
                for trial in try_mutants(lab, record, planner(record), test):
                    trials.append(trial)
                    show("mutants", len(trials), total)
    if output == "json":
        data_json(mutants_json(lab.name, trials))
    elif trials:
        data(mutants_table(trials, wide=output == "wide", colour=colour(sys.stdout)))
    say(mutants_totals(trials))
    if not trials:
        return 4
    return 1 if any(trial.fate in ("survived", "error") for trial in trials) else 0
