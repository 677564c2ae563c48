"""`k8snetlab up`: make the lab equal to the files."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.inputs import lab_document_name, overrides, read, summary
from k8snetlab.cli.options import files_option, lab_option, output_option, topology_options
from k8snetlab.cli.output import colour, data_json, say

if TYPE_CHECKING:
    from k8snetlab.cluster.model import Cluster


@click.command("up", epilog="Example: k8snetlab up -f shop.yaml --nodes 3 --backend vxlan")
@files_option(required=True)
@lab_option
@topology_options
@output_option("text", "json")
def up_command(files: Sequence[str], lab_name: str | None, output: str, **topology: object) -> None:
    """Build the lab, or change a running one, so that it equals the files.

    What is there and right is left alone: a second `up` of the same files does nothing.
    """
    from k8snetlab.cli.running import bring_up, pick_for_up
    from k8snetlab.lab.diff import changes

    started = time.perf_counter()
    manifests = read(files)
    name = pick_for_up(lab_name, lab_document_name(manifests))
    cluster, drift = bring_up(name, manifests, overrides(name=name, **topology))
    seconds = round(time.perf_counter() - started, 3)
    say(f"lab {name}: {summary(cluster)}")
    changed = changes(drift)
    say(f"{changed_text(changed)} ({seconds:.2f} s)")
    say_remarks(cluster)
    if output == "json":
        data_json(up_json(name, cluster, changed, seconds))


def changed_text(changed: dict[str, int]) -> str:
    words = {"created": "made", "deleted": "removed", "updated": "changed"}
    parts = [f"{number} {words[key]}" for key, number in changed.items() if number]
    return f"kernel objects: {', '.join(parts)}" if parts else "nothing to change"


def say_remarks(cluster: Cluster) -> None:
    """What the lab does not do, loudly, every time, and what is probably not meant in policies."""
    from k8snetlab.cluster.remarks import remarks
    from k8snetlab.report.text import warning

    said = remarks(cluster)
    if cluster.network_policies or cluster.admin_policies:
        from k8snetlab.oracle.lint import lint

        said += lint(cluster)
    for remark in said:
        say(warning(remark, colour=colour(sys.stderr)))


def up_json(name: str, cluster: Cluster, changed: dict[str, int], seconds: float) -> dict[str, object]:
    return {
        "lab": name,
        "nodes": len(cluster.nodes),
        "pods": len(cluster.own_pods),
        "services": len(cluster.own_services),
        "changed": changed,
        "seconds": seconds,
    }
