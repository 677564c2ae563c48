from __future__ import annotations

import pytest

from k8snetlab.cluster.routing.hosts import covers, intersection, most_specific, one_label


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        pytest.param("*.foo.com", "bar.foo.com", True, id="one label"),
        pytest.param("*.foo.com", "baz.bar.foo.com", False, id="two labels"),
        pytest.param("*.foo.com", "foo.com", False, id="no label"),
        pytest.param("*.foo.com", ".foo.com", False, id="an empty label"),
        pytest.param("foo.com", "foo.com", False, id="no wildcard"),
    ],
)
def test_an_ingress_star_is_one_label(pattern: str, host: str, expected: bool) -> None:
    assert one_label(pattern, host) is expected


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        pytest.param("", "a.b", True, id="every host"),
        pytest.param("", "", True, id="every host of every host"),
        pytest.param("a.b", "", False, id="one host is not every host"),
        pytest.param("*.bar.com", "multiple.prefixes.bar.com", True, id="several labels"),
        pytest.param("*.bar.com", "bar.com", False, id="the bare domain"),
        pytest.param("*.com", "*.bar.com", True, id="a narrower wildcard"),
        pytest.param("*.bar.com", "*.com", False, id="a wider wildcard"),
        pytest.param("*.bar.com", "foobar.com", False, id="half a label"),
    ],
)
def test_what_a_gateway_hostname_covers(pattern: str, host: str, expected: bool) -> None:
    assert covers(pattern, host) is expected


# The table of Gateway API's conformance test HTTPRouteHostnameIntersection and of HTTPRoute, hostnames.
@pytest.mark.parametrize(
    ("listener", "route", "expected"),
    [
        pytest.param("very.specific.com", "very.specific.com", "very.specific.com", id="equal"),
        pytest.param("very.specific.com", "*.specific.com", "very.specific.com", id="wider route"),
        pytest.param("*.wildcard.io", "foo.wildcard.io", "foo.wildcard.io", id="wider listener"),
        pytest.param("*.wildcard.io", "*.io", "*.wildcard.io", id="two wildcards"),
        pytest.param("*.wildcard.io", "wildcard.io", None, id="bare domain"),
        pytest.param("very.specific.com", "non.matching.com", None, id="nothing in common"),
        pytest.param("", "a.b", "a.b", id="a listener for all"),
        pytest.param("a.b", "", "a.b", id="a route for all"),
    ],
)
def test_intersection(listener: str, route: str, expected: str | None) -> None:
    assert intersection(listener, route) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("bar.com", "bar.com", id="exact"),
        pytest.param("foo.bar.com", "foo.bar.com", id="exact below a wildcard"),
        pytest.param("baz.bar.com", "*.bar.com", id="the longer wildcard"),
        pytest.param("x.com", "*.com", id="the shorter wildcard"),
        pytest.param("x.org", "", id="all others"),
    ],
)
def test_the_most_specific_of_several(host: str, expected: str) -> None:
    assert most_specific(host, ["", "*.com", "*.bar.com", "bar.com", "foo.bar.com"]) == expected
