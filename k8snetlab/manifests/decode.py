"""Turn plain data into the frozen values of `api`, or say exactly what is wrong and where.

Types are as strict as the API server's: a number is not a string. Nothing stops at the first problem: what cannot be
decoded is reported and stands in the result as an empty value of its type, so that the rest can still be judged. A
result with problems is never handed on.

A decoder for each class is made once, on first use, from its annotations.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

Path = tuple[str | int, ...]
T = TypeVar("T")

# The way to a field, as links from the leaf to the root: cheap to extend on the way down, read only for a problem.
_Trail = tuple[Any, str | int] | None
_Decoder = Callable[[Any, _Trail, "list[Wrong]"], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Wrong:
    """One thing wrong with the field at `path` of an object; `meant` is the field that a misspelt one should be."""

    path: Path
    message: str
    meant: Path = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Schema:
    """What may be written in an object: field by key, keys that are accepted and dropped, keys that must be there."""

    fields: Mapping[str, tuple[str, _Decoder]]
    ignored: frozenset[str]
    required: tuple[str, ...]

    def closest(self, key: str) -> str:
        """The key that was probably meant, or nothing."""
        choices = sorted((*self.fields, *self.ignored))
        exact = [choice for choice in choices if choice.lower() == key.lower()]
        return next(iter(exact or difflib.get_close_matches(key, choices, n=1)), "")


def decode(cls: type[T], data: Any, ignoring: Iterable[str] = ()) -> tuple[T, list[Wrong]]:
    """An object of `cls` made of plain data, and all that is wrong with it; `ignoring` are further keys to drop."""
    problems: list[Wrong] = []
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key not in ignoring}
    return decoder_of(typing.cast(Hashable, cls))(data, None, problems), problems


def yaml_key(field: dataclasses.Field[Any]) -> str:
    """How a field is spelled in YAML: in camel case, unless its metadata says otherwise."""
    key: str | None = field.metadata.get("key")
    if key is None:
        head, *tail = field.name.split("_")
        key = head + "".join(word.title() for word in tail)
    return key


def dotted(path: Path) -> str:
    """`spec.ports[1].name`; a key that is no identifier stands in brackets, as in the API server's messages."""
    parts = (
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{printable(str(step))}]" for step in path
    )
    return "".join(parts).removeprefix(".")


def printable(text: str) -> str:
    """Text from a file that is safe to show: line breaks and a terminal's control sequences are spelled out."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def path_of(trail: _Trail) -> Path:
    """The steps from the root to the leaf."""
    steps: list[str | int] = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return tuple(reversed(steps))


def shown(value: Any) -> str:
    """A value as JSON would show it, shortened."""
    if isinstance(value, str):
        text = printable(value.replace("\\", "\\\\").replace('"', '\\"') if value.isprintable() else value)
        return f'"{text}"' if len(text) <= 78 else f'"{text[:75]}..."'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "{}"
    if isinstance(value, list):
        text = ", ".join(map(shown, value[:10]))
        return f"[{text}]" if len(text) <= 80 and len(value) <= 10 else "a list"
    return "null" if value is None else str(value)


# --- One decoder a shape ----------------------------------------------------------------------------------------------


@cache
def decoder_of(hint: Hashable) -> _Decoder:
    """The decoder for a type; made once."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _union_decoder(tuple(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return _list_decoder(decoder_of(args[0]))
    if origin is Literal:
        return _word_decoder(args)
    if origin is not None and issubclass(origin, Mapping):
        return _map_decoder(decoder_of(args[1]))
    if dataclasses.is_dataclass(hint):
        return _object_decoder(typing.cast(type, hint))
    return _SCALARS[typing.cast(type, hint)]


def _scalar_decoder(kind: type, name: str) -> _Decoder:
    empty = kind()

    def decode_scalar(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        # `type() is`: True is an int to Python but not to Kubernetes.
        if type(data) is kind:
            return data
        problems.append(Wrong(path_of(trail), f"Invalid value: {shown(data)}: must be {name}"))
        return empty

    return decode_scalar


_SCALARS: dict[type, _Decoder] = {
    str: _scalar_decoder(str, "a string"),
    int: _scalar_decoder(int, "an integer"),
    bool: _scalar_decoder(bool, "true or false"),
}


def _union_decoder(options: tuple[Any, ...]) -> _Decoder:
    """`X | None` is X, for null never gets here. Of several types that which fits the data's shape."""
    decoders = [(_shape(option), decoder_of(option)) for option in options]
    if len(decoders) == 1:
        return decoders[0][1]
    names = " or ".join(_SHAPES[shape] for shape, _ in decoders)

    def decode_union(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        for shape, decoder in decoders:
            if type(data) is shape:
                return decoder(data, trail, problems)
        problems.append(Wrong(path_of(trail), f"Invalid value: {shown(data)}: must be {names}"))
        return decoders[0][1](decoders[0][0](), trail, [])

    return decode_union


_SHAPES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


def _shape(hint: Any) -> type:
    """The Python type that YAML gives for a value of this type."""
    if hint in (str, int, bool):
        return typing.cast(type, hint)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return list
    return str if origin is Literal else dict


def _word_decoder(words: tuple[Any, ...]) -> _Decoder:
    supported = ", ".join(f'"{word}"' for word in words)

    def decode_word(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        if data in words and type(data) is str:
            return data
        if type(data) is str:
            message = f"Unsupported value: {shown(data)}: supported values: {supported}"
        else:
            message = f"Invalid value: {shown(data)}: must be a string"
        problems.append(Wrong(path_of(trail), message))
        return words[0]

    return decode_word


def _list_decoder(item: _Decoder) -> _Decoder:
    def decode_list(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        if type(data) is list:
            return tuple([item(value, (trail, index), problems) for index, value in enumerate(data)])
        problems.append(Wrong(path_of(trail), f"Invalid value: {shown(data)}: must be a list"))
        return ()

    return decode_list


def _map_decoder(item: _Decoder) -> _Decoder:
    def decode_map(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        if type(data) is dict:
            return {key: item(value, (trail, key), problems) for key, value in data.items()}
        problems.append(Wrong(path_of(trail), f"Invalid value: {shown(data)}: must be a mapping"))
        return {}

    return decode_map


# --- Objects ----------------------------------------------------------------------------------------------------------


@cache
def schema(cls: Hashable) -> Schema:
    """The keys of an object. Annotations are read here and not on import: a lab uses few of the classes."""
    hints = typing.get_type_hints(cls)
    fields = [field for field in dataclasses.fields(typing.cast(Any, cls)) if not field.metadata.get("source")]
    return Schema(
        fields={yaml_key(field): (field.name, decoder_of(hints[field.name])) for field in fields},
        ignored=frozenset(getattr(cls, "IGNORED", ())),
        required=tuple(
            yaml_key(field)
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ),
    )


def _object_decoder(cls: type) -> _Decoder:
    known = schema(cls)
    fields, ignored = known.fields, known.ignored
    required = frozenset(fields[key][0] for key in known.required)

    def decode_object(data: Any, trail: _Trail, problems: list[Wrong]) -> Any:
        if type(data) is not dict:
            problems.append(Wrong(path_of(trail), f"Invalid value: {shown(data)}: must be a mapping"))
            data = {}
            problems = []
        values: dict[str, Any] = {}
        unknown: list[str] = []
        for key, value in data.items():
            entry = fields.get(key)
            if entry is None:
                if key not in ignored:
                    problems.append(_unknown(key, known, trail))
                    unknown.append(key)
            elif value is not None:  # null is the same as not given
                values[entry[0]] = entry[1](value, (trail, key), problems)
        if not required <= values.keys():
            _fill_required(known, values, trail, problems, meant=set(map(known.closest, unknown)))
        return cls(**values)

    return decode_object


def _fill_required(
    known: Schema, values: dict[str, Any], trail: _Trail, problems: list[Wrong], meant: set[str]
) -> None:
    """Put an empty value of its type in the place of what must be there and is not, and report it.

    What a misspelt field was `meant` to be is reported there.
    """
    for key in known.required:
        name, decoder = known.fields[key]
        if name in values:
            continue
        if key not in meant:
            problems.append(Wrong(path_of((trail, key)), "Required value"))
        values[name] = decoder(None, None, [])


def _unknown(key: str, known: Schema, trail: _Trail) -> Wrong:
    path, close = path_of((trail, key)), known.closest(key)
    if not close:
        return Wrong(path, "unknown field")
    return Wrong(path, f"unknown field; did you mean {close}?", meant=(*path[:-1], close))
