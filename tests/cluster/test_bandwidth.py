from __future__ import annotations

from collections.abc import Callable

import pytest

from k8snetlab.cluster.bandwidth import EGRESS, INGRESS, BandwidthLimits, bandwidth_limits

POD = """
apiVersion: v1
kind: Pod
metadata: {name: slow, annotations: {kubernetes.io/ingress-bandwidth: '%s'}}
spec: {containers: [{name: c, image: x}]}
"""


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        pytest.param("10M", 10_000_000, id="mega"),
        pytest.param("1k", 1000, id="the-least"),
        pytest.param("1P", 10**15, id="the-most"),
        pytest.param("1.5Mi", 1_572_864, id="binary-fraction"),
        pytest.param("2000", 2000, id="plain"),
    ],
)
def test_quantities(text: str, rate: int) -> None:
    assert bandwidth_limits({INGRESS: text}) == BandwidthLimits(ingress=rate)
    assert bandwidth_limits({EGRESS: text}) == BandwidthLimits(egress=rate)


def test_without_annotations_there_is_no_limit() -> None:
    assert bandwidth_limits({"other": "10M"}) == BandwidthLimits()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("fast", "is not a quantity", id="word"),
        pytest.param("10 M", "is not a quantity", id="space"),
        pytest.param("-1M", "is not a quantity", id="negative"),
        pytest.param("999", "must be between 1k and 1P", id="too-little"),
        pytest.param("2P", "must be between 1k and 1P", id="too-much"),
    ],
)
def test_what_is_none_is_refused(text: str, message: str, problems: Callable[..., list[str]]) -> None:
    (found,) = problems(POD % text)
    assert found.startswith("t.yaml:2: Pod default/slow: metadata.annotations[kubernetes.io/ingress-bandwidth]: ")
    assert message in found
