"""`k8snetlab status`: what the lab holds, and whether the kernel still has what was planned."""

from __future__ import annotations

import click

from k8snetlab.cli.inputs import summary
from k8snetlab.cli.options import lab_option, output_option
from k8snetlab.cli.output import data, data_json


@click.command("status", epilog="Example: k8snetlab status -o json")
@lab_option
@output_option("text", "json")
def status_command(lab_name: str | None, output: str) -> int:
    """Show this lab's objects and its drift: what somebody changed in the kernel behind its back. Exits 1 on drift."""
    from k8snetlab.cli.running import require
    from k8snetlab.lab.diff import detail_key
    from k8snetlab.lab.life import status
    from k8snetlab.plan.text import describe, to_json

    running = require(lab_name)
    drift = status(running.holder)
    cluster = running.cluster
    if output == "json":
        data_json(
            {
                "lab": running.name,
                "pid": running.holder.pid,
                "nodes": len(cluster.nodes),
                "pods": len(cluster.own_pods),
                "services": len(cluster.own_services),
                "complete": running.complete,
                "drift": {
                    "missing": [to_json(item) for item in drift.missing],
                    "extra": [to_json(item) for item in drift.extra],
                },
            }
        )
        return 1 if drift or not running.complete else 0
    config = cluster.config
    data(f"lab      {running.name} (process {running.holder.pid})")
    data(f"network  {config.network}, {config.backend}; kube-proxy {config.proxy_mode}")
    data(f"holds    {summary(cluster)}")
    not_ready = [pod.key for pod in cluster.pods if not pod.ready]
    if not_ready:
        data(f"unready  {', '.join(not_ready)}")
    if not running.complete:
        data("changes  interrupted: run up again")
    if drift:
        data(f"drift    {len(drift.missing)} missing, {len(drift.extra)} extra (up mends it)")
        changed = {detail_key(item) for item in drift.extra} & {detail_key(item) for item in drift.missing}
        for sign, items in (("~", drift.missing), ("-", drift.missing), ("+", drift.extra)):
            for item in items:
                if (sign == "~") == (detail_key(item) in changed):
                    data(f"  {sign} {describe(item).splitlines()[0]}")
                    if sign == "~":
                        data(f"      {drift.details[detail_key(item)]}")
    else:
        data("drift    none: the kernel has exactly what was planned")
    return 1 if drift or not running.complete else 0
