"""`k8snetlab probe`: one flow, now."""

from __future__ import annotations

import click

from k8snetlab.cli.options import lab_option, namespace_option, output_option
from k8snetlab.cli.output import data, data_json


@click.command("probe", epilog="Example: k8snetlab probe shop/api svc/shop/db --port 5432 --protocol TCP --count 3")
@click.argument("sender", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; by default the destination's first one.")
@click.option(
    "--protocol",
    type=click.Choice(["TCP", "UDP", "SCTP", "ICMP", "HTTP", "DNS"], case_sensitive=False),
    help="By default HTTP for a URL, ICMP where there is no port, else TCP. DNS looks TO up.",
)
@click.option("--count", type=click.IntRange(1, 10000), default=1, show_default=True, help="How many times.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@lab_option
@namespace_option
@output_option("text", "json")
def probe_command(
    sender: str,
    destination: str,
    port: int | None,
    protocol: str | None,
    count: int,
    timeout: float,
    lab_name: str | None,
    namespace: str,
    output: str,
) -> int:
    """Send one flow from FROM to TO and say what came of it. Exits 1 unless every try was answered."""
    from k8snetlab.cli.running import require, run_probe
    from k8snetlab.flows.targets import flow
    from k8snetlab.report.json import probe_json
    from k8snetlab.report.text import probe_text

    running = require(lab_name)
    wanted = flow(running.cluster, sender, destination, port=port, protocol=protocol, default_namespace=namespace)
    results = run_probe(running, wanted, count, timeout)
    if running.cluster.network_policies or running.cluster.admin_policies:
        from dataclasses import replace

        from k8snetlab.oracle.explanation import explain, explained

        given = explain(running.cluster, wanted)
        results = [replace(result, reason=explained(given, result)) for result in results]
    if output == "json":
        data_json(probe_json(wanted, results))
    else:
        data(probe_text(wanted, results))
    return 0 if all(result.outcome == "ok" for result in results) else 1
