"""Label selectors: does this object have the labels asked for?"""

from __future__ import annotations

from collections.abc import Mapping

from k8snetlab.manifests.api.meta import LabelSelector, LabelSelectorRequirement


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """All of the selector's parts hold. An empty selector matches everything, none at all (None) matches nothing."""
    if selector is None:
        return False
    return matches_labels(selector.match_labels, labels) and all(
        matches_expression(expression, labels) for expression in selector.match_expressions
    )


def matches_labels(match_labels: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Every label asked for is there with that value; asking for none matches everything."""
    return all(labels.get(key) == value for key, value in match_labels.items())


def matches_expression(expression: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """NotIn and DoesNotExist also match an object without the key (apimachinery, labels.Requirement.Matches)."""
    match expression.operator:
        case "In":
            return labels.get(expression.key) in expression.values
        case "NotIn":
            return labels.get(expression.key) not in expression.values
        case "Exists":
            return expression.key in labels
        case "DoesNotExist":
            return expression.key not in labels
