"""The options that several commands share, spelled as kubectl spells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from k8snetlab.manifests.api import lab as lab_api

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def files_option(*, required: bool) -> Decorator[Any]:
    return click.option(
        "-f",
        "--filename",
        "files",
        multiple=True,
        required=required,
        metavar="FILE|DIR|-",
        help="Manifests to read; may be repeated. A directory is read with all below it, - is standard input.",
    )


def lab_option(command: Any) -> Any:
    return click.option(
        "--lab",
        "lab_name",
        metavar="NAME",
        envvar="K8SNETLAB_LAB",
        help="Which lab; by default the only one that runs, else `default`.",
    )(command)


def namespace_option(command: Any) -> Any:
    return click.option(
        "-n", "--namespace", default="default", show_default=True, help="Namespace of names without one."
    )(command)


def output_option(*choices: str) -> Decorator[Any]:
    """`-o`, with the first choice as the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help="Output format."
    )


def topology_options(command: Any) -> Any:
    """What a Lab document says, said on the command line: it wins over the document."""
    options = (
        click.option("--nodes", type=click.IntRange(1, 250), help="Number of nodes."),
        click.option("--network", type=click.Choice(get_args(lab_api.NetworkName)), help="Pod network."),
        click.option("--backend", type=click.Choice(get_args(lab_api.Backend)), help="How nodes are joined."),
        click.option("--proxy-mode", type=click.Choice(get_args(lab_api.ProxyMode)), help="kube-proxy mode."),
        click.option("--ip-family", type=click.Choice(get_args(lab_api.IPFamily)), help="IP family of the cluster."),
    )
    for option in reversed(options):  # click lists the last applied first
        command = option(command)
    return command
