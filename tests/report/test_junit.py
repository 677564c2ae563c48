"""JUnit XML that any reader takes, whatever the names of scenarios and the words of errors."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.report.junit import Case, junit_xml


def case(name: str = "scenarios/shop", *, failures: tuple[str, ...] = (), error: str = "", checks: int = 3) -> Case:
    return Case(name=name, checks=checks, failures=failures, error=error, seconds=1.25)


def parse(*cases: Case) -> ET.Element:
    return ET.fromstring(junit_xml(cases).encode())


def test_one_of_each() -> None:
    suite = parse(case(), case("b", failures=("x: expected ok", "y")), case("c", error="no root\nhint", checks=0))
    assert (suite.tag, suite.attrib) == (
        "testsuite",
        {"name": "k8snetlab", "tests": "3", "failures": "1", "errors": "1", "time": "3.750"},
    )
    assert [each.attrib for each in suite] == [
        {"classname": "k8snetlab", "name": name, "time": "1.250"} for name in ("scenarios/shop", "b", "c")
    ]
    passed, failed, broken = suite
    assert list(passed) == []
    assert [(each.tag, each.attrib, each.text) for each in failed] == [
        ("failure", {"message": "2 of 3 checks failed"}, "x: expected ok\ny")
    ]
    assert [(each.tag, each.attrib, each.text) for each in broken] == [
        ("error", {"message": "no root"}, "no root\nhint")
    ]


def test_no_case() -> None:
    assert parse().attrib["tests"] == "0"


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param("<&>\"'", id="markup"),
        pytest.param("]]>", id="end of CDATA"),
        pytest.param("a\x00\x1b[31mred", id="control characters"),
        pytest.param("\ud800", id="half a surrogate pair, as in a file name that is no UTF-8"),
        pytest.param("\ufffe", id="no character"),
        pytest.param("\n\n", id="nothing but newlines"),
        pytest.param("日本 😀", id="other scripts"),
    ],
)
def test_hostile_words(hostile: str) -> None:
    suite = parse(case(hostile, failures=(hostile,)), case(hostile, error=hostile))
    assert len(suite) == 2
    assert [len(each) for each in suite] == [1, 1]


@given(st.text(), st.text(), st.text(min_size=1))
def test_any_words_are_well_formed(name: str, failure: str, error: str) -> None:
    suite = parse(case(name, failures=(failure,)), case(name, error=error))
    assert [[each.tag for each in one] for one in suite] == [["failure"], ["error"]]


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"])).filter(str.strip))
def test_plain_words_arrive_as_they_are(text: str) -> None:
    [one] = parse(case(text, failures=(text,)))
    assert one.attrib["name"] == text
    assert one[0].text == text
