"""`k8snetlab matrix`: who can talk to whom, expected beside observed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.options import lab_option, output_option
from k8snetlab.cli.output import colour, data, data_json, say

if TYPE_CHECKING:
    from k8snetlab.flows.matrix import Via
    from k8snetlab.manifests.api.meta import Protocol


@click.command("matrix", epilog="Example: k8snetlab matrix -n shop --port 80 --via service")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port, with --via service the Service's; by default each pod's first."
)
@click.option(
    "--protocol",
    type=click.Choice(["TCP", "UDP", "SCTP"], case_sensitive=False),
    default="TCP",
    show_default=True,
    help="Protocol.",
)
@click.option(
    "--via",
    type=click.Choice(["pod", "service"]),
    default="pod",
    show_default=True,
    help="Send to the pods, or to the ClusterIPs of their Services.",
)
@click.option("--ip-family", type=click.Choice(["ipv4", "ipv6"]), help="By default the cluster's first.")
@click.option("--timeout", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds to wait.")
@click.option("-n", "--namespace", default="", help="Only the pods of this namespace; by default of all.")
@lab_option
@output_option("table", "wide", "json")
def matrix_command(
    port: int | None,
    protocol: Protocol,
    via: Via,
    ip_family: str | None,
    timeout: float,
    namespace: str,
    lab_name: str | None,
    output: str,
) -> int:
    """Try every ordered pair of pods and hold the result against the NetworkPolicies.

    A block counts only when the same connection passes without the policies and a planted deny is seen to block; else
    it is not proven. Exits 0 when all is as expected, 1 on any difference, 4 when there was nothing to test.
    """
    from k8snetlab.cli.running import pick
    from k8snetlab.cli.sweeping import Matrix, owned
    from k8snetlab.oracle.matrix import cut_off, left_out, question
    from k8snetlab.report.matrix import legend, matrix_json, matrix_table, matrix_wide, totals

    with owned(pick(lab_name)) as (lab, record):
        asked = question(record.cluster, port or 0, protocol, via, namespace, ip_family)
        matrix = Matrix(lab, record, asked, timeout)
        cells = matrix.cells()
        missing = left_out(record.cluster, asked, matrix.pairs)
    if output == "json":
        data_json(matrix_json(asked.protocol, asked.port, asked.via, cells), indent=None if len(cells) > 1000 else 2)
    elif cells:
        painted = colour(sys.stdout)
        data(matrix_wide(cells, colour=painted) if output == "wide" else matrix_table(cells, colour=painted))
        say(legend())
    if missing:
        why = "no Service leads to them" if via == "service" else f"they have no {asked.protocol} port"
        say(f"left out as receivers, since {why}: {', '.join(missing)}")
    if nodes := cut_off(record.cluster):
        say(f"left out with their pods, since they are cut off: {', '.join(nodes)}")
    say(totals(cells))
    if not cells:
        return 4
    return 0 if all(cell.as_expected for cell in cells) else 1
