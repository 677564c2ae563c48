"""`k8snetlab list`: the labs that run on this host."""

from __future__ import annotations

import click

from k8snetlab.cli.options import output_option
from k8snetlab.cli.output import data, data_json, say


@click.command("list", epilog="Example: k8snetlab list -o name")
@output_option("table", "json", "name")
def list_command(output: str) -> None:
    """List the labs that run on this host."""
    from k8snetlab.lab.life import labs
    from k8snetlab.report.table import table

    rows = [
        {"name": lab.name, "pid": lab.holder.pid, "nodes": lab.nodes, "pods": lab.pods, "services": lab.services}
        for lab in labs()
    ]
    if output == "json":
        data_json(rows)
    elif output == "name":
        for row in rows:
            data(str(row["name"]))
    elif rows:
        data(table(("NAME", "PID", "NODES", "PODS", "SERVICES"), [tuple(map(str, row.values())) for row in rows]))
    else:
        say("no lab runs on this host")
