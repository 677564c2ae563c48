"""`k8snetlab shell`: an interactive shell where a pod, a node or an external host runs."""

from __future__ import annotations

import os

import click

from k8snetlab.cli.options import lab_option, namespace_option


@click.command("shell", epilog="Example: k8snetlab shell node/node1")
@lab_option
@namespace_option
@click.argument("target", required=False)
def shell_command(lab_name: str | None, namespace: str, target: str | None) -> int:
    """Open a shell in TARGET (as for exec); the first node when none is given."""
    from k8snetlab.cli.running import require, run_command

    running = require(lab_name)
    target = target or f"node/{running.cluster.nodes[0].name}"
    return run_command(running, target, namespace, (os.environ.get("SHELL", "/bin/sh"),))
