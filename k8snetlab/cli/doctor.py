"""`k8snetlab doctor`: what this host can and cannot do, per feature, with the fix."""

from __future__ import annotations

import sys

import click

from k8snetlab.cli.options import output_option
from k8snetlab.cli.output import colour, data, data_json


@click.command("doctor", epilog="Example: k8snetlab doctor -o json")
@output_option("table", "json")
def doctor_command(output: str) -> int:
    """Try what labs need, in throw-away namespaces, and say how to get what is missing. Exits 3 if a lab cannot run."""
    from k8snetlab.kernel.facts import facts
    from k8snetlab.report.text import facts_table

    found = facts()
    if output == "json":
        data_json(
            [
                {
                    "feature": fact.feature,
                    "ok": fact.ok,
                    "required": fact.required,
                    "detail": fact.detail,
                    "fix": "" if fact.ok else fact.fix,
                }
                for fact in found
            ]
        )
    else:
        rows = [(fact.feature, fact.ok, fact.required, fact.detail, fact.fix) for fact in found]
        data(facts_table(rows, colour=colour(sys.stdout)))
    return 3 if any(fact.required and not fact.ok for fact in found) else 0
