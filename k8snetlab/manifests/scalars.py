"""What a plain YAML scalar means to kubectl, which reads YAML with go-yaml and turns it into JSON.

Differences from YAML 1.1 as PyYAML has it: `22:22` is a string and not a sexagesimal number, a timestamp is a string,
`y` and `n` are strings. Source: go-yaml resolve.go, sigs.k8s.io/yaml.
"""

from __future__ import annotations

import re
from functools import lru_cache

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES = {"x": 16, "b": 2, "o": 8}
# strconv.ParseInt reads 64 bits; a longer row of digits becomes a float. Python refuses to convert above 4,300 digits.
_LONGEST_INTEGER = 70


@lru_cache(maxsize=8192)
def plain_value(text: str) -> Scalar:
    """The value of an unquoted scalar: null, bool, int, float or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    digits = text.replace("_", "")
    if len(digits) <= _LONGEST_INTEGER and _INTEGER.fullmatch(digits):
        return _integer(digits)
    if _FLOAT.fullmatch(digits):
        return _float(digits)
    return text


def _integer(digits: str) -> int:
    """`0o17` and `017` are octal, as in Go's strconv.ParseInt with base 0."""
    sign = -1 if digits[0] == "-" else 1
    body = digits.lstrip("+-")
    if len(body) > 1 and body[0] == "0":
        base = _BASES.get(body[1].lower())
        return sign * (int(body[2:], base) if base else int(body, 8))
    return sign * int(body)


def _float(digits: str) -> float | int:
    """A whole float is written to JSON without its point, so `80.0` and `8e1` are the integer 80 to the API server."""
    value = float(digits)
    return int(value) if value.is_integer() and abs(value) < 1e21 else value
