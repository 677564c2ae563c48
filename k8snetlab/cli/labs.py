"""`k8snetlab list`: the labs that run on this host."""

from __future__ import annotations

import click

from k8snetlab.cli.options import output_option
from k8snetlab.cli.output import data, data_json, say
from k8snetlab.lab.holder import Holder
from k8snetlab.lab.life import labs
from k8snetlab.lab.store import load_cluster


@click.command("list", epilog="Example: k8snetlab list -o name")
@output_option("table", "json", "name")
def list_command(output: str) -> None:
    """List the labs that run on this host."""
    from k8snetlab.report.table import table

    rows = [_row(holder) for holder in labs()]
    if output == "json":
        data_json(rows)
    elif output == "name":
        for row in rows:
            data(str(row["name"]))
    elif rows:
        data(table(("NAME", "PID", "NODES", "PODS", "SERVICES"), [tuple(map(str, row.values())) for row in rows]))
    else:
        say("no lab runs on this host")


def _row(holder: Holder) -> dict[str, str | int]:
    cluster = load_cluster(holder.state)
    return {
        "name": holder.lab,
        "pid": holder.pid,
        "nodes": len(cluster.nodes) if cluster else 0,
        "pods": len(cluster.own_pods) if cluster else 0,
        "services": len(cluster.own_services) if cluster else 0,
    }
