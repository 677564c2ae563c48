"""`k8snetlab exec`: run a command where a pod, a node or an external host runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from k8snetlab.cli.options import lab_option, namespace_option


class Exec(click.Command):
    """As with kubectl, options may follow the target where `--` says that the command begins behind it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            ctx.allow_interspersed_args = True
            try:
                found, _, _ = self.make_parser(ctx).parse_args(args[: args.index("--")])
                words = found.get("command")
                ctx.allow_interspersed_args = not (isinstance(words, tuple) and words)
            except click.UsageError:  # that `--` is one of the command's own words
                ctx.allow_interspersed_args = False
        return super().parse_args(ctx, args)


@click.command(
    "exec",
    cls=Exec,
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
