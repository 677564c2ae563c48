from __future__ import annotations

import math

import pytest

from k8snetlab.manifests.scalars import Scalar, plain_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("~", None, id="tilde"),
        pytest.param("Null", None, id="null"),
        pytest.param("true", True, id="true"),
        pytest.param("yes", True, id="yes"),
        pytest.param("OFF", False, id="off"),
        pytest.param("y", "y", id="y-is-text"),
        pytest.param("N", "N", id="n-is-text"),
        pytest.param("tRue", "tRue", id="odd-case-is-text"),
        pytest.param("80", 80, id="integer"),
        pytest.param("+80", 80, id="plus"),
        pytest.param("-1", -1, id="minus"),
        pytest.param("1_000", 1000, id="underscores"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("0b101", 5, id="binary"),
        pytest.param("0644", 420, id="octal"),
        pytest.param("0o644", 420, id="octal-with-o"),
        pytest.param("-0o17", -15, id="negative-octal"),
        pytest.param("08", 8, id="not-octal-is-a-float"),
        pytest.param("0", 0, id="zero"),
        pytest.param("22:22", "22:22", id="sexagesimal-is-text"),
        pytest.param("190:20:30", "190:20:30", id="long-sexagesimal-is-text"),
        pytest.param("2021-01-01", "2021-01-01", id="date-is-text"),
        pytest.param("2021-01-01T00:00:00Z", "2021-01-01T00:00:00Z", id="time-is-text"),
        pytest.param("1.5", 1.5, id="float"),
        pytest.param("80.0", 80, id="whole-float-is-an-integer"),
        pytest.param("1e3", 1000, id="exponent"),
        pytest.param(".5", 0.5, id="leading-point"),
        pytest.param("10.0.0.1", "10.0.0.1", id="address"),
        pytest.param("1.25.3", "1.25.3", id="version"),
        pytest.param("100m", "100m", id="quantity"),
        pytest.param("1e", "1e", id="not-a-float"),
        pytest.param("_1", "_1", id="underscore-first"),
        pytest.param("-", "-", id="dash"),
        pytest.param(".", ".", id="point"),
        pytest.param("+", "+", id="sign"),
        pytest.param(".inf", math.inf, id="infinity"),
        pytest.param("-.INF", -math.inf, id="negative-infinity"),
        pytest.param("::1", "::1", id="ipv6"),
    ],
)
def test_plain_value(text: str, value: Scalar) -> None:
    found = plain_value(text)
    assert (found, type(found)) == (value, type(value))


def test_digits_without_end_do_not_hang() -> None:
    assert plain_value("9" * 10_000) == math.inf


def test_not_a_number() -> None:
    found = plain_value(".nan")
    assert isinstance(found, float)
    assert math.isnan(found)
