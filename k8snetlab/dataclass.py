"""`dataclass` for frozen values with slots, whose methods are written when the first of them is called.

The one of the standard library writes and compiles six functions for each class when its module is imported: 0.5 ms. A
command imports two hundred classes and makes values of sixty: a third of the CPU time of a second `up` was for that.
Here a class comes with its fields and slots, for 0.05 ms; `__init__`, `__eq__`, `__hash__` and `__repr__` are the
standard library's own, taken from a twin of the class when one of them is first needed. Type checkers are told that it
is the standard one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]

_LATE = ("__init__", "__eq__", "__hash__", "__repr__")


def _dataclass(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
    """As `dataclasses.dataclass` with these arguments; only for frozen classes with slots, without bases and
    without those four methods of their own."""
    assert frozen
    assert slots

    def decorate(cls: type) -> type:
        assert cls.__bases__ == (object,)
        assert not {"__post_init__", *_LATE} & vars(cls).keys()
        cls.__doc__ = cls.__doc__ or cls.__name__  # the standard one would write a signature, for 0.1 ms
        made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
        made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
        made.__getstate__, made.__setstate__ = _getstate, _setstate
        for name in _LATE:
            setattr(made, name, _late(made, name))
        return made  # type: ignore[no-any-return]

    return decorate


def _late(cls: type, name: str) -> Callable[..., Any]:
    """A method that first writes the real ones into the class, then calls the one of its name."""

    def first(self: object, *args: object, **keywords: object) -> object:
        twin = _twin(cls)
        for each in _LATE:
            setattr(cls, each, getattr(twin, each))
        return getattr(cls, name)(self, *args, **keywords)

    return first


def _twin(cls: Any) -> type:
    """A class of the standard library's making with the same fields."""
    contents: dict[str, Any] = {name: getattr(cls, name) for name in ("__doc__", "__module__", "__qualname__")}
    contents["__annotations__"] = {each.name: each.type for each in dataclasses.fields(cls)}
    for each in dataclasses.fields(cls):
        contents[each.name] = dataclasses.field(
            default=each.default,
            default_factory=each.default_factory,
            repr=each.repr,
            hash=each.hash,
            compare=each.compare,
            kw_only=each.kw_only,
        )
    return dataclasses.dataclass(frozen=True)(type(cls.__name__, (), contents))


def _refuse_to_set(_self: object, name: str, _value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[object]:
    return [getattr(self, each) for each in self.__slots__]


def _setstate(self: Any, state: list[object]) -> None:
    for name, value in zip(self.__slots__, state, strict=True):
        object.__setattr__(self, name, value)


if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    dataclass = _dataclass
