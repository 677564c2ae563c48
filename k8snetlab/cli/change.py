"""The commands that change a running lab as kubectl changes a cluster; only the difference reaches the kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from k8snetlab.cli.options import files_option, lab_option, namespace_option, output_option
from k8snetlab.cli.output import data_json, say
from k8snetlab.errors import UsageError

if TYPE_CHECKING:
    from k8snetlab.manifests.document import Manifests


@click.command("apply", epilog="Example: k8snetlab apply -f web-v2.yaml")
@files_option(required=True)
@lab_option
@output_option("text", "json")
def apply_command(files: Sequence[str], lab_name: str | None, output: str) -> None:
    """Add the objects in the files to a running lab, or change them; what the files do not name stays."""
    from k8snetlab.cli.inputs import read
    from k8snetlab.manifests.edit import merge

    applied = read(files)
    change_lab(lab_name, lambda manifests: merge(manifests, applied), output)


@click.command("delete", epilog="Example: k8snetlab delete service web")
@files_option(required=False)
@click.argument("target", nargs=-1, metavar="[KIND NAME | KIND/NAME]")
@lab_option
@namespace_option
@output_option("text", "json")
def delete_command(
    files: Sequence[str], target: Sequence[str], lab_name: str | None, namespace: str, output: str
) -> None:
    """Take objects out of a running lab: those in the files, or one by KIND and NAME."""
    from k8snetlab.cli.inputs import read
    from k8snetlab.manifests.edit import without

    if bool(files) == bool(target):
        raise UsageError("delete wants either -f FILE or KIND NAME")
    keys = [document.key for document in read(files).documents] if files else [_key(target, namespace)]
    change_lab(lab_name, lambda manifests: without(manifests, keys), output)


@click.command("scale", epilog="Example: k8snetlab scale deployment/web --replicas 5")
@click.argument("target", nargs=-1, required=True, metavar="KIND/NAME")
@click.option("--replicas", type=click.IntRange(0, 100_000), required=True, help="How many pods.")
@lab_option
@namespace_option
@output_option("text", "json")
def scale_command(target: Sequence[str], replicas: int, lab_name: str | None, namespace: str, output: str) -> None:
    """Set the number of pods of a Deployment, ReplicaSet or StatefulSet."""
    from k8snetlab.manifests.edit import scale

    key = _key(target, namespace)
    change_lab(lab_name, lambda manifests: scale(manifests, key, replicas), output)


@click.command("label", epilog="Example: k8snetlab label namespace shop team=a tier-")
@click.argument("words", nargs=-1, required=True, metavar="KIND NAME KEY=VALUE… | KEY-…")
@lab_option
@namespace_option
@output_option("text", "json")
def label_command(words: Sequence[str], lab_name: str | None, namespace: str, output: str) -> None:
    """Set labels of an object (KEY=VALUE) or remove them (KEY-)."""
    from k8snetlab.manifests.edit import label
    from k8snetlab.manifests.validate.metadata import check_labels

    size = 1 if "/" in words[0] else 2
    key, changes = _key(words[:size], namespace), dict[str, str | None]()
    for word in words[size:]:
        name, equals, value = word.partition("=")
        if not equals and not word.endswith("-"):
            raise UsageError(f"{word}: want KEY=VALUE or KEY-")
        changes[name if equals else word[:-1]] = value if equals else None
    for wrong in check_labels({k: v for k, v in changes.items() if v is not None}, ()):
        raise UsageError(wrong.message)
    if not changes:
        raise UsageError("label wants at least one KEY=VALUE or KEY-")
    change_lab(lab_name, lambda manifests: label(manifests, key, changes), output)


@click.command("set-ready", epilog="Example: k8snetlab set-ready shop/db-0 false")
@click.argument("pod")
@click.argument("ready", type=click.BOOL)
@lab_option
@namespace_option
@output_option("text", "json")
def set_ready_command(pod: str, ready: bool, lab_name: str | None, namespace: str, output: str) -> None:
    """Say that POD is ready or not, as its readiness probe would; Services follow at once."""
    from k8snetlab.cli.running import require
    from k8snetlab.flows.targets import place

    key = place(require(lab_name).cluster, pod, namespace).name
    change_lab(lab_name, lambda manifests: manifests, output, readiness={key: ready})


def _key(words: Sequence[str], namespace: str) -> tuple[str, str, str]:
    """`KIND NAME` or `KIND/NAME`, with NS/ before the name or not, as the manifests' key of the object."""
    from k8snetlab.manifests.kinds import KINDS
    from k8snetlab.report.kubectl import SINGULAR, plural

    kind, *rest = words[0].split("/", 1) if len(words) == 1 else words
    many = plural(kind)
    if many is None or len(rest) != 1:
        raise UsageError(f"{' '.join(words)}: want KIND NAME or KIND/NAME")
    found = next(each for each in KINDS.values() if each.name.lower() == SINGULAR[many])
    own, slash, name = rest[0].partition("/")
    if not found.namespaced:
        return found.name, "", rest[0]
    return (found.name, own, name) if slash else (found.name, namespace, rest[0])


def change_lab(
    lab_name: str | None,
    edit: Callable[[Manifests], Manifests],
    output: str,
    readiness: dict[str, bool] | None = None,
) -> None:
    """Change the lab and say what that came to, in words or as JSON."""
    from k8snetlab.cli.running import change, require
    from k8snetlab.cli.up import changed_text, say_remarks
    from k8snetlab.lab.diff import changes

    started = time.perf_counter()
    name = require(lab_name).name
    cluster, drift = change(name, edit, readiness or {})
    seconds = round(time.perf_counter() - started, 3)
    changed = changes(drift)
    say(f"lab {name}: {changed_text(changed)} ({seconds:.2f} s)")
    say_remarks(cluster)
    if output == "json":
        from k8snetlab.cli.up import up_json

        data_json(up_json(name, cluster, changed, seconds))
