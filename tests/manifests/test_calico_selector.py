from __future__ import annotations

import pytest

from k8snetlab.manifests.calico_selector import SelectorError, parse_selector

LABELS = {"zone": "left", "projectcalico.org/x": "1", "in": "y"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        pytest.param("", True, id="empty"),
        pytest.param("all()", True, id="all"),
        pytest.param("zone == 'left'", True, id="equal"),
        pytest.param('zone == "right"', False, id="not-equal"),
        pytest.param("zone != 'right'", True, id="unequal"),
        pytest.param("missing != 'x'", True, id="unequal-to-what-is-missing"),
        pytest.param("missing == ''", False, id="equal-to-what-is-missing"),
        pytest.param("has(zone) && !has(missing)", True, id="has"),
        pytest.param("zone in {'left', 'right'}", True, id="in"),
        pytest.param("zone not  in {'left'}", False, id="not-in"),
        pytest.param("missing not in {'left'}", True, id="not-in-missing"),
        pytest.param("zone in {}", False, id="in-nothing"),
        pytest.param("zone starts with 'le' && zone ends with 'ft' && zone contains 'ef'", True, id="parts"),
        pytest.param("zone == 'x' && has(zone) || has(zone)", True, id="and-before-or"),
        pytest.param("zone == 'x' && (has(zone) || has(zone))", False, id="parentheses"),
        pytest.param("!zone == 'x'", True, id="not-of-a-comparison"),
        pytest.param("projectcalico.org/x == '1'", True, id="a-key-with-a-slash"),
    ],
)
def test_what_it_matches(text: str, matches: bool) -> None:
    assert parse_selector(text)(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    ["zone", "zone = 'a'", "zone == left", "zone in {left}", "(has(zone)", "has(zone))", "&& has(a)", "has(a) has(b)",
     "zone == 'a' &&", "§"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(SelectorError, match="is not a selector"):
        parse_selector(text)
