"""`k8snetlab exec`: run a command where a pod, a node or an external host runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from k8snetlab.cli.options import lab_option, namespace_option


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: k8snetlab exec shop/api -- curl -s http://10.96.12.7/",
)
@lab_option
@namespace_option
@click.argument("target")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_command(lab_name: str | None, namespace: str, target: str, command: Sequence[str]) -> int:
    """Run COMMAND in TARGET: [pod/]NS/NAME, node/NAME, external/NAME or deploy/NAME.

    It sees the pod's network, hostname, /etc/hosts and /etc/resolv.conf; its exit code is ours.
    """
    from k8snetlab.cli.running import require, run_command

    running = require(lab_name)
    words = tuple(command[1:] if command[0] == "--" else command)
    return run_command(running, target, namespace, words)
