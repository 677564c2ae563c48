"""`k8snetlab dns-trace`: every question a pod's resolver really sends for a name."""

from __future__ import annotations

import click

from k8snetlab.cli.options import lab_option, namespace_option, output_option
from k8snetlab.cli.output import data, data_json


@click.command("dns-trace", epilog="Example: k8snetlab dns-trace example.com --from shop/api")
@click.argument("name")
@click.option(
    "--from", "sender", required=True, metavar="POD", help="Whose resolver: a pod, node/NAME or external/NAME."
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["A", "AAAA", "CNAME", "SRV", "PTR", "TXT", "SOA", "NS", "ANY"], case_sensitive=False),
    help="Type of record; by default addresses of both families, as programs look them up.",
)
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=5.0, show_default=True, help="Seconds to wait.")
@lab_option
@namespace_option
@output_option("text", "json")
def dns_trace_command(
    name: str, sender: str, kind: str | None, timeout: float, lab_name: str | None, namespace: str, output: str
) -> int:
    """Look NAME up from a pod and show every question its resolver sent: the search list, ndots, answers and times.

    Exits 1 when nothing was found.
    """
    from k8snetlab.cli.running import require, run_dns_trace
    from k8snetlab.report.dns import walk_json, walk_text

    running = require(lab_name)
    where, walk = run_dns_trace(running, sender, namespace, name, (kind or "").upper(), timeout)
    if output == "json":
        data_json(walk_json(name, where, (kind or "").upper(), walk))
    else:
        data(walk_text(name, where, walk))
    return 0 if walk.found else 1
