"""`k8snetlab explain`: why policies allow or deny a flow, beside what its packet does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.options import files_option, lab_option, namespace_option, output_option
from k8snetlab.cli.output import colour, data, data_json

if TYPE_CHECKING:
    from k8snetlab.cluster.model import Cluster


@click.command("explain", epilog="Example: k8snetlab explain shop/api svc/shop/db --port 5432")
@click.argument("sender", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; by default the destination's first one.")
@click.option(
    "--protocol",
    type=click.Choice(["TCP", "UDP", "SCTP", "ICMP", "HTTP"], case_sensitive=False),
    help="By default HTTP for a URL, ICMP where there is no port, else TCP.",
)
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@files_option(required=False)
@lab_option
@namespace_option
@output_option("text", "json")
def explain_command(
    sender: str,
    destination: str,
    port: int | None,
    protocol: str | None,
    timeout: float,
    files: Sequence[str],
    lab_name: str | None,
    namespace: str,
    output: str,
) -> int:
    """Say step by step why policies allow or deny a flow, and send it.

    With -f the manifests alone are asked: no lab, no root, no packet. Exits 1 when the packet does not do as the
    policies say.
    """
    from k8snetlab.cli.running import require, run_probe
    from k8snetlab.flows.targets import flow
    from k8snetlab.oracle.explanation import agrees, explain
    from k8snetlab.report.explain import explain_json, explain_text

    running = None if files else require(lab_name)
    cluster = _from_files(files) if running is None else running.cluster
    wanted = flow(cluster, sender, destination, port=port, protocol=protocol, default_namespace=namespace)
    given = explain(cluster, wanted)
    result = run_probe(running, wanted, 1, timeout)[0] if running is not None else None
    if output == "json":
        data_json(explain_json(wanted, given, result))
    else:
        data(explain_text(wanted, given, result, colour=colour(sys.stdout)))
    return 1 if result is not None and (result.outcome == "error" or agrees(given, result) is False) else 0


def _from_files(files: Sequence[str]) -> Cluster:
    from k8snetlab.cli.inputs import overrides, read
    from k8snetlab.cluster.resolve import resolve

    return resolve(read(files), overrides(), with_addons=True)
