"""What goes to the terminal: data on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from k8snetlab.errors import HostError, LabError, ManifestError


def colour(stream: Any = None) -> bool:
    """Whether to use colour: only on a terminal, and never with NO_COLOR (https://no-color.org)."""
    stream = stream or sys.stdout
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and bool(stream.isatty())


def say(message: str) -> None:
    """Progress and remarks."""
    _write(message, err=True)


def data(text: str) -> None:
    """The answer itself."""
    _write(text)


def data_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON document on stdout; without indent on one line, which is ten times as fast to write."""
    import json

    _write(json.dumps(value, indent=indent))


def data_yaml(value: object) -> None:
    import yaml

    _write(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, default_flow_style=False), end=False)


def _write(text: str, *, err: bool = False, end: bool = True) -> None:
    """A reader that goes away (`k8snetlab check | head`) has read enough: the command goes on to its own exit code."""
    try:
        click.echo(text, nl=end, err=err)
    except OSError as error:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise HostError(f"cannot write to {stream.name.strip('<>')}: {error.strerror}") from error


def fail(error: LabError) -> None:
    """Show an error: what is wrong and, where there is one, the fix. Problems of manifests begin with file:line."""
    lines = str(error).splitlines()
    if isinstance(error, ManifestError):
        for line in lines:
            say(line)
        count = len(error.problems)
        lines = [f"{count} problem{'' if count == 1 else 's'} in the manifests; nothing was changed"]
    for line in lines:
        say(f"{click.style('error:', fg='red') if colour(sys.stderr) else 'error:'} {line}")
    if error.hint:
        say(f"hint: {error.hint}")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A line on stderr that is overwritten with `what done/total`; nothing where stderr is not a terminal."""
    shown = sys.stderr.isatty()

    def show(what: str, done: int, total: int) -> None:
        if shown:
            click.echo(f"\r\033[K{what} {done}/{total}", nl=False, err=True)

    try:
        yield show
    finally:
        if shown:
            click.echo("\r\033[K", nl=False, err=True)
