"""`k8snetlab down`: the lab's process ends and the kernel takes everything back."""

from __future__ import annotations

from collections.abc import Sequence

import click

from k8snetlab.cli.options import lab_option
from k8snetlab.cli.output import say


@click.command("down", epilog="Example: k8snetlab down --all")
@click.argument("names", nargs=-1)
@lab_option
@click.option("--all", "everything", is_flag=True, help="Every lab of this host.")
def down_command(names: Sequence[str], lab_name: str | None, everything: bool) -> None:
    """Remove labs: their namespaces, processes, mounts and links. A lab that does not run is no error."""
    from k8snetlab.cli.running import pick
    from k8snetlab.lab.life import down, labs

    if everything:
        chosen = tuple(holder.lab for holder in labs())
    elif names:
        chosen = tuple(names)
    else:
        chosen = (pick(lab_name),)
    for name in chosen:
        say(f"lab {name} is gone" if down(name) else f"lab {name} does not run")
