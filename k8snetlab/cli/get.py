"""`k8snetlab get`: the Kubernetes objects with what the lab decided for them, in kubectl's columns."""

from __future__ import annotations

import time

import click

from k8snetlab.cli.options import lab_option
from k8snetlab.cli.output import data, data_json, data_yaml, say
from k8snetlab.errors import UsageError


@click.command("get", epilog="Example: k8snetlab get pods -A -o wide")
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default="default", show_default=True, help="Kubernetes namespace.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("-l", "--selector", default="", metavar="k=v,…", help="Only objects with these labels.")
@click.option("--show-labels", is_flag=True, help="Add a column with the labels.")
@click.option("-o", "--output", type=click.Choice(["table", "wide", "json", "yaml", "name"]), default="table")
@lab_option
def get_command(
    kind: str,
    name: str | None,
    namespace: str,
    all_namespaces: bool,
    selector: str,
    show_labels: bool,
    output: str,
    lab_name: str | None,
) -> None:
    """Show the objects of KIND (pods, services, endpoints, nodes, …), or the one called NAME."""
    from k8snetlab.cli.running import require
    from k8snetlab.cluster.status import canonical_kind, render, select
    from k8snetlab.report.kubectl import names, table

    if "/" in kind and name is None:
        kind, name = kind.split("/", 1)
    running = require(lab_name)
    singular = canonical_kind(kind)
    objects = render(running.record.cluster, singular, None if all_namespaces else namespace, name)
    objects = select(objects, selector)
    if name is not None and not objects:
        raise UsageError(f'{singular} "{name}" not found in lab {running.name}')
    if output in ("json", "yaml"):
        value = objects[0] if name is not None else {"apiVersion": "v1", "kind": "List", "items": objects}
        (data_json if output == "json" else data_yaml)(value)
    elif not objects:
        say("No resources found" if all_namespaces else f"No resources found in {namespace} namespace.")
    elif output == "name":
        data("\n".join(names(singular, objects)))
    else:
        age = int(time.time() - running.started)
        data(
            table(
                singular,
                objects,
                wide=output == "wide",
                all_namespaces=all_namespaces,
                show_labels=show_labels,
                age_seconds=age,
            )
        )
