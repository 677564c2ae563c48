"""`node down` and `node up`: a failure to be watched, and its end."""

from __future__ import annotations

import click

from k8snetlab.cli.change import change_lab
from k8snetlab.cli.options import lab_option, output_option
from k8snetlab.errors import UsageError


@click.command("node", epilog="Example: k8snetlab node down node2")
@click.argument("action", type=click.Choice(["down", "up"]))
@click.argument("name")
@lab_option
@output_option("text", "json")
def node_command(action: str, name: str, lab_name: str | None, output: str) -> None:
    """Cut a node off from the node network (down), or plug it in again (up).

    Its cable is pulled, and the cluster takes note at once: the node is NotReady, its pods leave every Service, and
    another node answers for its load balancer addresses.
    """
    from k8snetlab.cli.running import require
    from k8snetlab.cluster.nodes import readiness_key

    name = name.removeprefix("node/")
    running = require(lab_name)
    if running.cluster.node(name) is None:
        known = ", ".join(node.name for node in running.cluster.nodes)
        raise UsageError(f"no node {name}", hint=f"there is: {known}")
    change_lab(running.name, lambda manifests: manifests, output, readiness={readiness_key(name): action == "up"})
