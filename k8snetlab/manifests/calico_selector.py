"""Calico's selectors: `zone == 'a' && !has(gpu)`. Source: Calico, reference/resources/networkpolicy#selectors.

Operators by how tightly they bind: `!`, `&&`, `||`. A comparison with a label that is missing is false, but for `!=`
and `not in`, which are then true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

Test = Callable[[Mapping[str, str]], bool]

_TOKEN = re.compile(
    r"\s*(?P<word>not\s+in\b|starts\s+with\b|ends\s+with\b|&&|\|\||==|!=|[!(){},]|"
    r"'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|[A-Za-z0-9][-A-Za-z0-9_./]*)"
)
_END = ""


class SelectorError(ValueError):
    """A text that is no selector; the message says where."""


@lru_cache(maxsize=256)
def parse_selector(text: str) -> Test:
    """A test of labels; an empty text matches everything. Raises SelectorError."""
    if not text.strip():
        return lambda _labels: True
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the words of one selector; `_at` is the place of the next one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> Test:
        test = self._either()
        if self._peek() != _END:
            raise self._wrong(f"{self._peek()!r} was not expected")
        return test

    def _either(self) -> Test:
        tests = [self._both()]
        while self._peek() == "||":
            self._next()
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda labels: any(test(labels) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._peek() == "&&":
            self._next()
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda labels: all(test(labels) for test in tests)

    def _one(self) -> Test:
        word = self._next()
        if word == "!":
            test = self._one()
            return lambda labels: not test(labels)
        if word == "(":
            test = self._either()
            self._expect(")")
            return test
        if word in ("all", "global", "has") and self._peek() == "(":
            return self._call(word)
        if not re.match(r"[A-Za-z0-9]", word):
            raise self._wrong(f"{word!r} is not a label" if word else "it ends too early")
        return self._comparison(word)

    def _call(self, function: str) -> Test:
        self._expect("(")
        key = self._next() if function == "has" else ""
        self._expect(")")
        return (lambda labels: key in labels) if function == "has" else lambda _labels: True

    def _comparison(self, key: str) -> Test:
        operator = " ".join(self._next().split())
        if operator in ("in", "not in"):
            values, among = self._set(), operator == "in"
            return lambda labels: (labels.get(key) in values) == among
        value = self._literal() if operator in _COMPARE else ""
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        if operator not in _COMPARE:
            raise self._wrong(f"{operator!r} is no operator")
        compare = _COMPARE[operator]
        return lambda labels: key in labels and compare(labels[key], value)

    def _set(self) -> frozenset[str]:
        self._expect("{")
        values = set()
        while self._peek() != "}":
            values.add(self._literal())
            if self._peek() == ",":
                self._next()
        self._expect("}")
        return frozenset(values)

    def _literal(self) -> str:
        word = self._next()
        if word[:1] not in ("'", '"'):
            raise self._wrong(f"{word!r} must be in quotes")
        return word[1:-1]

    def _expect(self, wanted: str) -> None:
        if (word := self._next()) != wanted:
            raise self._wrong(f"{wanted!r} was expected, not {word!r}")

    def _peek(self) -> str:
        at = self._at
        word = self._next()
        self._at = at
        return word

    def _next(self) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            if self._text[self._at :].strip():
                raise self._wrong("it cannot be read from here on")
            return _END
        self._at = match.end()
        return match["word"]

    def _wrong(self, message: str) -> SelectorError:
        return SelectorError(f"{self._text!r} is not a selector: {message}")


_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "==": lambda have, want: have == want,
    "!=": lambda have, want: have != want,
    "contains": lambda have, want: want in have,
    "starts with": lambda have, want: have.startswith(want),
    "ends with": lambda have, want: have.endswith(want),
}
