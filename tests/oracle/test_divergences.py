"""The table of documented differences between kube-proxy's modes."""

from __future__ import annotations

from typing import get_args

import pytest

from k8snetlab.manifests.api.lab import ProxyMode
from k8snetlab.oracle.divergences import DIVERGENCES, Divergence

MODES = {"iptables", "ipvs", "nftables"}


def test_names_are_unique() -> None:
    assert len({divergence.name for divergence in DIVERGENCES}) == len(DIVERGENCES)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda divergence: divergence.name)
def test_each_tells_modes_apart_and_why(divergence: Divergence) -> None:
    assert set(divergence.modes) <= set(get_args(ProxyMode))
    assert 0 < len(MODES & set(divergence.modes)) < len(MODES)
    assert all((divergence.summary, divergence.reason, divergence.source))
