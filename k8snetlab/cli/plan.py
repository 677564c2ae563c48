"""`k8snetlab plan`: the kernel objects, without root and without touching anything."""

from __future__ import annotations

from collections.abc import Sequence

import click

from k8snetlab.cli.inputs import lab_document_name, overrides, read, summary
from k8snetlab.cli.options import files_option, lab_option, output_option, topology_options
from k8snetlab.cli.output import data, data_json, say
from k8snetlab.cli.up import say_remarks


@click.command("plan", epilog="Example: k8snetlab plan -f shop.yaml -o shell > build-by-hand.sh")
@files_option(required=True)
@lab_option
@topology_options
@output_option("table", "json", "shell")
def plan_command(files: Sequence[str], lab_name: str | None, output: str, **topology: object) -> None:
    """Print every kernel object that the files need.

    `-o shell` is a script of ip, sysctl and iptables-restore commands that builds the same lab by hand.
    """
    from k8snetlab.cluster.resolve import resolve
    from k8snetlab.plan.build import build
    from k8snetlab.plan.shell import script
    from k8snetlab.plan.text import describe, to_json

    manifests = read(files)
    name = lab_name or lab_document_name(manifests) or "default"
    cluster = resolve(manifests, overrides(name=name, **topology), with_addons=True)
    plan = build(cluster)
    if output == "shell":
        data(script(plan, name))
    elif output == "json":
        data_json({"lab": name, "objects": [to_json(item) for item in plan.objects]})
    else:
        for item in plan.objects:
            data(describe(item))
    say(f"lab {name}: {summary(cluster)}; {len(plan.objects)} kernel objects")
    say_remarks(cluster)
