"""`k8snetlab completion`: the script that makes the shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from k8snetlab.cli.output import data


@click.command("completion", epilog="Example: source <(k8snetlab completion bash)")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script for SHELL."""
    from k8snetlab.cli.main import k8snetlab

    kind = get_completion_class(shell)
    assert kind is not None
    data(kind(k8snetlab, {}, "k8snetlab", "_K8SNETLAB_COMPLETE").source())
