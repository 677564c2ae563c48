"""`k8snetlab check`: one check per type of communication, with the real ping and curl."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from k8snetlab.cli.options import lab_option, output_option
from k8snetlab.cli.output import colour, data, data_json, say


@click.command("check", epilog="Example: k8snetlab check --type pod-to-clusterip --type external-to-nodeport")
@click.option("--type", "types", multiple=True, metavar="T", help="Only checks of this type; may be repeated.")
@click.option("--list", "only_list", is_flag=True, help="Print the checks without running them.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@lab_option
@output_option("table", "wide", "json")
def check_command(types: Sequence[str], only_list: bool, timeout: float, lab_name: str | None, output: str) -> int:
    """Derive one check per type of communication from the lab, add the Check documents, and send the packets.

    Exits 0 when all passed, 1 when one failed, 4 when there was nothing to test.
    """
    from k8snetlab.cli.running import require, run_checks
    from k8snetlab.oracle.derive import derive, of_types
    from k8snetlab.report.json import check_json, check_list_json
    from k8snetlab.report.text import check_list, check_table, check_totals

    running = require(lab_name)
    checks = of_types(derive(running.cluster), types)
    if only_list:
        if output == "json":
            data_json(check_list_json(running.name, checks))
        elif checks:
            data(check_list(checks))
        return 0 if checks else 4
    verdicts = run_checks(running, checks, timeout)
    if output == "json":
        data_json(check_json(running.name, verdicts))
    else:
        if verdicts:
            data(check_table(verdicts, wide=output == "wide", colour=colour(sys.stdout)))
        say(check_totals(verdicts))
    if not verdicts:
        return 4
    return 0 if all(verdict.passed for verdict in verdicts) else 1
