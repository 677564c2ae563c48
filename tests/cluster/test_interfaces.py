"""Further interfaces of nodes: what only shows when the whole lab is seen."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface

import pytest

from k8snetlab.cluster.model import Cluster, NodeInterface

Build = Callable[..., Cluster]


def lab(*nodes: str, spec: str = "") -> str:
    listed = ", ".join(f"{{name: n{place}, interfaces: [{text}]}}" for place, text in enumerate(nodes))
    return f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{{spec}nodes: [{listed}]}}\n"


def eth1(address: str, network: str = "storage") -> str:
    return f'{{name: eth1, network: {network}, address: "{address}"}}'


def test_read(build: Build) -> None:
    both = (ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64"))
    nodes = build(lab(eth1("10.9.0.1/24, fd00:9::1/64"), "{name: bond0, network: backup}", "", spec="ipFamily: dual, "))
    assert [node.interfaces for node in nodes.nodes] == [
        (NodeInterface(name="eth1", network="storage", addresses=both),),
        (NodeInterface(name="bond0", network="backup"),),
        (),
    ]


def test_one_address_on_two_networks_is_two(build: Build) -> None:
    assert len(build(lab(eth1("10.9.0.1/24"), eth1("10.9.0.1/24", "backup"))).nodes) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            lab(eth1("10.9.0.1/24"), eth1("10.9.0.1/24")),
            "Node n1: interfaces[0].address: 10.9.0.1 belongs to node n0 on the network storage",
            id="taken",
        ),
        pytest.param(lab(eth1("fd00:9::1/64")), "fd00:9::1/64 is IPv6, and the lab's ipFamily is not", id="family"),
        pytest.param(lab(eth1("10.244.9.1/24")), "10.244.9.0/24 overlaps the pod subnet 10.244.0.0/16", id="pods"),
        pytest.param(lab(eth1("10.96.0.1/16")), "overlaps the Service subnet 10.96.0.0/12", id="services"),
        pytest.param(lab(eth1("172.18.0.9/24")), "overlaps the node subnet 172.18.0.0/16", id="nodes"),
        pytest.param(lab(eth1("203.0.113.1/28")), "overlaps the world outside, 203.0.113.0/24", id="outside"),
    ],
)
def test_refused(problems: Callable[..., list[str]], text: str, message: str) -> None:
    assert any(message in found for found in problems(text))


def test_too_many_networks(problems: Callable[..., list[str]]) -> None:
    nodes = [
        ", ".join(f"{{name: eth{n}, network: net{place}-{n}}}" for n in range(1, 17)) for place in range(4)
    ]  # 64 of them
    assert any("a lab has at most 60" in found for found in problems(lab(*nodes)))
