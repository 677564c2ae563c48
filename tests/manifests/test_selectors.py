from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest

from k8snetlab.manifests.api.meta import LabelSelector, LabelSelectorRequirement
from k8snetlab.manifests.selectors import matches, matches_labels


def expression(operator: Literal["In", "NotIn", "Exists", "DoesNotExist"], *values: str) -> LabelSelector:
    requirement = LabelSelectorRequirement(key="app", operator=operator, values=values)
    return LabelSelector(match_expressions=(requirement,))


WEB, API, NONE = {"app": "web"}, {"app": "api", "tier": "back"}, {"tier": "front"}


@pytest.mark.parametrize(
    ("selector", "matched"),
    [
        pytest.param(None, [], id="missing-matches-nothing"),
        pytest.param(LabelSelector(), [WEB, API, NONE], id="empty-matches-all"),
        pytest.param(LabelSelector(match_labels=WEB), [WEB], id="labels"),
        pytest.param(LabelSelector(match_labels={"app": "api", "tier": "front"}), [], id="labels-are-anded"),
        pytest.param(expression("In", "web", "api"), [WEB, API], id="in"),
        pytest.param(expression("NotIn", "web"), [API, NONE], id="not-in-matches-without-key"),
        pytest.param(expression("Exists"), [WEB, API], id="exists"),
        pytest.param(expression("DoesNotExist"), [NONE], id="does-not-exist"),
        pytest.param(
            LabelSelector(match_labels={"tier": "back"}, match_expressions=expression("In", "web").match_expressions),
            [],
            id="labels-and-expressions-are-anded",
        ),
    ],
)
def test_matches(selector: LabelSelector | None, matched: list[Mapping[str, str]]) -> None:
    assert [labels for labels in (WEB, API, NONE) if matches(selector, labels)] == matched


def test_matches_labels() -> None:
    assert matches_labels({}, {})
    assert matches_labels({"a": "1"}, {"a": "1", "b": "2"})
    assert not matches_labels({"a": "1"}, {"a": "2"})
    assert not matches_labels({"a": ""}, {})
