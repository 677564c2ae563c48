"""Read manifests: files, directories or standard input to typed objects, or every problem of every document at once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import IO, Any

from k8snetlab.errors import ManifestError, Problem, Source
from k8snetlab.manifests.decode import Path, Wrong, decode, dotted, printable, shown
from k8snetlab.manifests.document import Document, KubernetesObject, Manifests
from k8snetlab.manifests.kinds import KINDS, Kind, find_kind
from k8snetlab.manifests.locate import locate
from k8snetlab.manifests.validate import validate
from k8snetlab.manifests.yaml import Fault, YAMLDocument, read_documents

SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
_TYPE_KEYS = {
    "apiVersion": re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]+"),
    "kind": re.compile(r"[A-Za-z][A-Za-z0-9]*"),
}


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    documents: list[Document] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    seen: dict[tuple[str, str, str], Source] = field(default_factory=dict)

    def result(self) -> Manifests:
        """The manifests; ManifestError if anything is wrong with any of them."""
        if self.problems:
            raise ManifestError(tuple(sorted(self.problems, key=lambda problem: (problem.source, problem.path))))
        return Manifests(tuple(self.documents), dict(self.ignored))


@dataclass(frozen=True, slots=True)
class _Item:
    """One object as written: its data, and where it stands (`prefix` is its path within the document)."""

    data: dict[str, Any]
    document: YAMLDocument
    file: str
    prefix: Path = ()

    def source(self, path: Path = ()) -> Source:
        return Source(self.file, self.document.line_of((*self.prefix, *path)))

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(self.source(path), self.subject(), dotted(path), message)

    def subject(self) -> str:
        """`Kind ns/name` as far as they are known."""
        metadata = self.data.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        kind, name = self.data.get("kind"), metadata.get("name") or metadata.get("generateName")
        namespace = metadata.get("namespace")
        if not isinstance(kind, str):
            return ""
        kind = printable(kind)
        if not isinstance(name, str):
            return kind
        name = printable(name)
        known = _known(self.data)
        if known is None or not known.namespaced:
            return f"{kind} {name}"
        return f"{kind} {printable(namespace) if isinstance(namespace, str) and namespace else 'default'}/{name}"


def load(paths: Sequence[str], stdin: IO[bytes] | None = None) -> Manifests:
    """All documents of the paths: files, directories (searched for *.yaml, *.yml and *.json) or `-`.

    Raises ManifestError with every problem of every document, in the order of files and lines.
    """
    reading = _Reading()
    names = dict.fromkeys(name for path in paths for name in _files(path, reading))
    for name in names:
        try:
            text = stdin.read() if name == STDIN and stdin is not None else FilePath(name).read_bytes()
        except OSError as error:
            reading.problems.append(_file_problem(name, error.strerror or str(error)))
            continue
        _read(text, name, reading)
    return reading.result()


def load_text(text: bytes, name: str) -> Manifests:
    """The same for one file that is in memory; `name` stands for it in messages."""
    reading = _Reading()
    _read(text, name, reading)
    return reading.result()


def _files(path: str, reading: _Reading) -> list[str]:
    """The files that a path stands for, in a fixed order."""
    if path == STDIN or not FilePath(path).is_dir():
        return [path]
    errors: list[OSError] = []
    found = [
        str(FilePath(folder) / name)
        for folder, _, names in os.walk(path, onerror=errors.append)
        for name in names
        if name.endswith(SUFFIXES) and not name.startswith(".")
    ]
    reading.problems += [_file_problem(str(error.filename), error.strerror or str(error)) for error in errors]
    if not found and not errors:
        reading.problems.append(_file_problem(path, "no *.yaml, *.yml or *.json file in this directory"))
    return sorted(found)


def _file_problem(name: str, message: str) -> Problem:
    return Problem(Source(name, 1), "", "", message)


def _read(text: bytes, file: str, reading: _Reading) -> None:
    for document in read_documents(text):
        if isinstance(document, Fault):
            reading.problems.append(Problem(Source(file, document.line), "", "", document.message))
            continue
        whole = _Item(document.data if isinstance(document.data, dict) else {}, document, file)
        subject = whole.subject()
        reading.problems += [Problem(Source(file, fault.line), subject, "", fault.message) for fault in document.faults]
        if not isinstance(document.data, dict):
            message = f"a manifest must be a mapping with apiVersion and kind, not {shown(document.data)}"
            reading.problems.append(Problem(Source(file, document.line_of(())), "", "", message))
            continue
        for item in _items(whole, reading):
            _read_item(item, reading)


def _items(item: _Item, reading: _Reading) -> Iterator[_Item]:
    """The object itself, or those of a `List` or, as the API server gives them out, a `ServiceList`."""
    kind, api_version, items = item.data.get("kind"), item.data.get("apiVersion"), item.data.get("items")
    is_list = isinstance(kind, str) and kind.endswith("List") and isinstance(api_version, str)
    if not is_list or not (isinstance(items, list) or kind == "List"):
        yield item
        return
    if items is not None and not isinstance(items, list):
        reading.problems.append(item.problem(("items",), f"Invalid value: {shown(items)}: must be a list"))
        return
    # The items of a typed list need not repeat what the list says already.
    defaults = {} if kind == "List" else {"apiVersion": api_version, "kind": str(kind).removesuffix("List")}
    for index, data in enumerate(items or ()):
        prefix: Path = (*item.prefix, "items", index)
        if isinstance(data, dict):
            yield from _items(replace(item, data={**defaults, **data}, prefix=prefix), reading)
        else:
            reading.problems.append(item.problem(("items", index), "must be a mapping with apiVersion and kind"))


def _known(data: dict[str, Any]) -> Kind | None:
    try:
        return find_kind(str(data.get("apiVersion")), str(data.get("kind")))
    except ValueError:
        return None


def _type_faults(data: dict[str, Any], key: str) -> Iterator[Wrong]:
    """apiVersion and kind must be there and well-formed, also of kinds that are ignored."""
    value = data.get(key)
    if value is None or value == "":
        yield Wrong((key,), "Required value")
    elif not isinstance(value, str):
        yield Wrong((key,), f"Invalid value: {shown(value)}: must be a string")
    elif not _TYPE_KEYS[key].fullmatch(value):
        yield Wrong(
            (key,), f"Invalid value: {shown(value)}: must be like {'apps/v1' if key == 'apiVersion' else 'Pod'}"
        )


def _read_item(item: _Item, reading: _Reading) -> None:
    """One object: which kind it is, its fields, what Kubernetes says to their values, and whether it is there twice."""
    wrongs = [wrong for key in _TYPE_KEYS for wrong in _type_faults(item.data, key)]
    if wrongs:
        reading.problems += [item.problem(wrong.path, wrong.message) for wrong in wrongs]
        return
    api_version, name = item.data["apiVersion"], item.data["kind"]
    try:
        kind = find_kind(api_version, name)
    except ValueError as error:
        at = "apiVersion" if "; use " in str(error) else "kind"
        reading.problems.append(item.problem((at,), str(error)))
        return
    if kind is None or _is_other_secret(kind, item.data):
        # A foreign kind named like an understood one is told apart as kubectl does: `Gateway.networking.istio.io`.
        reading.ignored[f"{name}.{api_version.partition('/')[0]}" if kind is None and name in KINDS else name] += 1
        return
    decoded, wrongs = decode(kind.cls, item.data, ignoring=("apiVersion", "kind"))
    obj = _with_namespace(decoded, kind)
    wrongs += _unrelated(validate(obj), wrongs)
    if wrongs:
        reading.problems += [item.problem(wrong.path, wrong.message) for wrong in wrongs]
    else:
        obj = locate(obj, item.source)
    document = Document(obj, item.source())
    reading.documents.append(document)
    _check_unique(document, item, reading)


def _is_other_secret(kind: Kind, data: dict[str, Any]) -> bool:
    """Of Secrets only certificates matter to a network."""
    return kind.name == "Secret" and data.get("type") != "kubernetes.io/tls"


def _with_namespace(obj: Any, kind: Kind) -> KubernetesObject:
    """The namespace as kubectl would fill it in: `default`, and none for what belongs to the whole cluster."""
    namespace = (obj.metadata.namespace or "default") if kind.namespaced else ""
    if namespace == obj.metadata.namespace:
        return obj  # type: ignore[no-any-return]
    return replace(obj, metadata=replace(obj.metadata, namespace=namespace))  # type: ignore[no-any-return]


def _unrelated(found: Sequence[Wrong], wrongs: Sequence[Wrong]) -> list[Wrong]:
    """What validation found besides the problems known already, which it sees as empty values in their places.

    A misspelt field is not reported as missing as well.
    """
    if not wrongs:
        return list(found)
    known = [wrong.path for wrong in wrongs] + [wrong.meant for wrong in wrongs if wrong.meant]

    def related(wrong: Wrong, path: Path) -> bool:
        shorter = min(len(path), len(wrong.path))
        if path[:shorter] == wrong.path[:shorter]:
            return True
        return wrong.message.startswith("Required value") and wrong.path[:-1] == path[:-1]

    return [wrong for wrong in found if not any(related(wrong, path) for path in known)]


def _check_unique(document: Document, item: _Item, reading: _Reading) -> None:
    kind, namespace, name = document.key
    if not name:
        return
    first = reading.seen.setdefault((kind, namespace, name), document.source)
    if first is not document.source:
        message = f"Duplicate value: {shown(name)}: already defined at {first}"
        reading.problems.append(item.problem(("metadata", "name"), message))
