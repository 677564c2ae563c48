"""`k8snetlab get`: the Kubernetes objects with what the lab decided for them, in kubectl's columns."""

from __future__ import annotations

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
    from k8snetlab.cluster.status import render
    from k8snetlab.manifests.selectors import matches_labels
    from k8snetlab.report.kubectl import CLUSTER_SCOPED, SINGULAR, names, plural, table

    if "/" in kind and name is None:
        kind, name = kind.split("/", 1)
    many = plural(kind)
    if many is None:
        raise UsageError(f'the lab has no resource type "{kind}"', hint=f"it has {', '.join(sorted(SINGULAR))}")
    if name and "/" in name and many not in CLUSTER_SCOPED:
        namespace, name = name.split("/", 1)
    running = require(lab_name)
    everywhere = all_namespaces or many in CLUSTER_SCOPED
    wanted = _labels(selector)
    objects = [
        item
        for item in render(running.cluster, many, None if everywhere else namespace, name)
        if matches_labels(wanted, item["metadata"].get("labels", {}))
    ]
    if name is not None and not objects:
        raise UsageError(f'{SINGULAR[many]} "{name}" not found in lab {running.name}')
    if output in ("json", "yaml"):
        value = objects[0] if name is not None else {"apiVersion": "v1", "kind": "List", "items": objects}
        (data_json if output == "json" else data_yaml)(value)
    elif not objects:
        say("No resources found" if everywhere else f"No resources found in {namespace} namespace.")
    elif output == "name":
        data("\n".join(names(many, objects)))
    else:
        data(
            table(
                many,
                objects,
                wide=output == "wide",
                all_namespaces=all_namespaces,
                show_labels=show_labels,
                age_seconds=running.age_seconds,
            )
        )


def _labels(selector: str) -> dict[str, str]:
    """`k=v,k2=v2` as a mapping; kubectl's other forms (`!=`, `in`) are refused with a word."""
    pairs = [part.strip() for part in selector.split(",") if part.strip()]
    for part in pairs:
        if part.count("=") not in (1, 2) or "!=" in part or "(" in part:
            raise UsageError(f"-l {selector}: only key=value pairs, joined by commas, are understood")
    return {key.strip(): value.strip() for key, value in (part.replace("==", "=").split("=") for part in pairs)}
