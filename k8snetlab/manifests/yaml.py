"""Read YAML as kubectl does, and find the line of a field again when something is wrong with it.

Only plain data leaves this module. The tree of nodes, which knows the lines, is kept beside the data and walked only
for a message. JSON is YAML and needs no case of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from k8snetlab.errors import HostError
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.scalars import plain_value

try:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]
except ImportError as error:
    raise HostError(
        "PyYAML was built without libyaml", hint="install the python3-yaml package, or a PyYAML wheel"
    ) from error

MAX_NODES = 1_000_000  # of one document, after its aliases are expanded
MAX_DEPTH = 100

# `---` at the start of a line always ends a document, even within a quoted or block scalar (YAML 1.2, 9.1.2), so a file
# can be cut there and each document parsed alone: a syntax error in one does not hide the problems of the next.
_DOCUMENT_START = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ONLY_DIRECTIVES = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\r?(?:\n|\Z)|%[^\n]*(?:\n|\Z))*")
_MERGE = "<<"
_PLAIN = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that cannot be read, before it is known what object it belongs to."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class YAMLDocument:
    """`data` is what kubectl would see as JSON; `node` is its tree, `offset` lines into the file."""

    data: Any
    node: Node
    offset: int
    faults: tuple[Fault, ...] = ()

    def line_of(self, path: Path) -> int:
        """The line of the field at `path`, or of the nearest mapping around it that was written."""
        return line_in(self.node, path) + self.offset


class _Composer(CParser):
    """Composes nodes in C and leaves the meaning of plain scalars to us."""

    def resolve(self, _kind: type[Node], _value: object, _implicit: object) -> None:
        """No implicit tags."""

    def descend_resolver(self, _parent: Node | None, _index: object) -> None:
        """No path resolvers."""

    def ascend_resolver(self) -> None:
        """No path resolvers."""


class _RefusedError(Exception):
    """The document is not to be read any further."""

    def __init__(self, node: Node, message: str) -> None:
        super().__init__(message)
        self.line = node.start_mark.line
        self.message = message


def read_documents(text: bytes) -> Iterator[YAMLDocument | Fault]:
    """Each document of a file that is not empty, or the reason why it cannot be read; lines count from 1."""
    text, fault = _decoded(text)
    if fault:
        yield fault
        return
    line = 1
    for chunk in _chunks(text):
        if not _ONLY_DIRECTIVES.fullmatch(chunk):
            yield from _read_chunk(chunk, line)
        line += chunk.count(b"\n")


def _decoded(text: bytes) -> tuple[bytes, Fault | None]:
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return b"", Fault(1, "the file is UTF-16; save it as UTF-8")
    text = text.removeprefix(b"\xef\xbb\xbf")
    nul = text.find(b"\0")
    if nul >= 0:
        return b"", Fault(1, f"this is not a text file: byte {nul} is NUL")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        return b"", Fault(line, f"not UTF-8: invalid byte 0x{text[error.start]:02x}")
    return text, None


def _chunks(text: bytes) -> Iterator[bytes]:
    start = 0
    for match in _DOCUMENT_START.finditer(text):
        if match.start() > start:
            yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def _read_chunk(chunk: bytes, line: int) -> Iterator[YAMLDocument | Fault]:
    composer = _Composer(chunk)
    try:
        while composer.check_node():
            node = composer.get_node()
            if node is not None and not _is_empty(node):
                yield _read_node(node, line, aliases=b"*" in chunk)
    except yaml.YAMLError as error:
        yield _syntax_fault(error, chunk, line)
    except _RefusedError as refused:
        yield Fault(refused.line + line, refused.message)
    finally:
        composer.dispose()


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style == _PLAIN and node.value in ("", "~", "null")


def _read_node(node: Node, offset: int, *, aliases: bool) -> YAMLDocument:
    faults: list[Fault] = []
    if aliases:
        _check_expansion(node)
    return YAMLDocument(_plain(node, offset, faults, 0), node, offset, tuple(faults))


def _check_expansion(root: Node) -> None:
    """Count the nodes that the aliases expand to, visiting each only once: a "billion laughs" never gets expanded."""
    sizes: dict[int, int] = {}

    def size(node: Node, depth: int) -> int:
        if isinstance(node, ScalarNode):
            return 1 + len(node.value) // 64
        known = sizes.get(id(node))
        if known == 0:
            raise _RefusedError(node, "an alias stands inside its own anchor")
        if known is not None:
            return known
        if depth > MAX_DEPTH:
            raise _RefusedError(node, f"nested more than {MAX_DEPTH} levels deep")
        sizes[id(node)] = 0
        if isinstance(node, MappingNode):
            total = 1 + sum(size(key, depth + 1) + size(value, depth + 1) for key, value in node.value)
        else:
            total = 1 + sum(size(item, depth + 1) for item in node.value)
        if total > MAX_NODES:
            raise _RefusedError(node, f"aliases expand to more than {MAX_NODES:,} values")
        sizes[id(node)] = total
        return total

    size(root, 0)


# --- Nodes to plain data ----------------------------------------------------------------------------------------------


def _plain(node: Node, offset: int, faults: list[Fault], depth: int) -> Any:
    if isinstance(node, ScalarNode):
        if not node.tag:
            return plain_value(node.value) if node.style == _PLAIN else node.value
        return _tagged(node)
    if depth >= MAX_DEPTH:
        raise _RefusedError(node, f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(node, SequenceNode):
        return [_plain(item, offset, faults, depth + 1) for item in node.value]
    return _mapping(cast(MappingNode, node), offset, faults, depth + 1)


def _mapping(node: MappingNode, offset: int, faults: list[Fault], depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    merged: list[Node] = []
    for key_node, value_node in node.value:
        if not isinstance(key_node, ScalarNode):
            raise _RefusedError(key_node, "a key must be a string")
        key = key_node.value  # JSON has only strings as keys; kubectl turns `8080:` and `true:` into them
        if key == _MERGE and key_node.style == _PLAIN:
            merged.append(value_node)
            continue
        if key in data:
            faults.append(_duplicate_key(node, key_node, key, offset))
            continue
        if isinstance(value_node, ScalarNode) and not value_node.tag:
            text = value_node.value
            data[key] = plain_value(text) if value_node.style == _PLAIN else text
        else:
            data[key] = _plain(value_node, offset, faults, depth)
    for value_node in merged:
        _merge(data, value_node, offset, faults, depth)
    return data


def _duplicate_key(mapping: MappingNode, again: Node, key: str, offset: int) -> Fault:
    first = next(node for node, _ in mapping.value if node.value == key)
    line = again.start_mark.line + offset
    return Fault(line, f"key {key!r} is already set on line {first.start_mark.line + offset}")


def _merge(data: dict[str, Any], node: Node, offset: int, faults: list[Fault], depth: int) -> None:
    """`<<: *anchor` or `<<: [*a, *b]`: keys that are not set yet, the earlier mapping winning."""
    for source in node.value if isinstance(node, SequenceNode) else [node]:
        if not isinstance(source, MappingNode):
            raise _RefusedError(source, "only a mapping can be merged with <<")
        for key, value in _plain(source, offset, faults, depth).items():
            data.setdefault(key, value)


def _tagged(node: ScalarNode) -> Any:
    """An explicit tag: `!!str 80` is a string; a tag that nobody knows leaves the text as it is."""
    if node.tag in (
        "tag:yaml.org,2002:int",
        "tag:yaml.org,2002:float",
        "tag:yaml.org,2002:bool",
        "tag:yaml.org,2002:null",
    ):
        return plain_value(node.value)
    return node.value


# --- Lines and syntax errors ------------------------------------------------------------------------------------------


def line_in(node: Node, path: Path) -> int:
    """The line, counted from 0, of the field at `path`: its key's in a mapping, its own in a list."""
    line: int = node.start_mark.line
    for step in path:
        if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
            continue
        entry = _entry(node, str(step))
        if entry is None:
            break
        key_node, node = entry
        line = key_node.start_mark.line
    return line


def _entry(node: Node, key: str) -> tuple[Node, Node] | None:
    """The key and value nodes of `key`, also when it comes from a merged mapping."""
    if not isinstance(node, MappingNode):
        return None
    for key_node, value_node in node.value:
        if key_node.value == key:
            return key_node, value_node
    for key_node, value_node in node.value:
        if key_node.value == _MERGE:
            for source in value_node.value if isinstance(value_node, SequenceNode) else [value_node]:
                entry = _entry(source, key)
                if entry:
                    return entry
    return None


def _syntax_fault(error: yaml.YAMLError, chunk: bytes, line: int) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:  # a ReaderError knows only its place in the text
        position = min(getattr(error, "position", 0) or 0, len(chunk))
        reason = getattr(error, "reason", "cannot be read")
        return Fault(line + chunk.count(b"\n", 0, position), f"invalid YAML: {reason}")
    wrong = mark.line
    lines = chunk.split(b"\n")
    context = getattr(error, "context", None)
    problem = getattr(error, "problem", None) or "cannot be read"
    message = f"invalid YAML: {problem}" + (f" ({context})" if context else "")
    return Fault(line + wrong, message + _hint(lines, wrong, getattr(error, "context_mark", None)))


def _hint(lines: list[bytes], wrong: int, context: Any) -> str:
    """What people most often did to get such an error."""
    first = min(wrong, context.line) if context else wrong
    near = lines[max(0, first - 1) : wrong + 1]
    if any(b"{{" in text for text in near):
        return "; this looks like a template: render it first, for example with `helm template`"
    if any(re.match(rb" *\t", text) for text in near):
        return "; YAML is not indented with tabs: use spaces"
    return ""
