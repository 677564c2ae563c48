from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snetlab.cluster.endpoint_choice import Categories, categorize
from k8snetlab.cluster.model import Endpoint, Node, Service, ServicePort
from k8snetlab.manifests.api import core

HERE = Node(name="here", index=1, addresses=(), pod_cidrs=(), labels={"topology.kubernetes.io/zone": "z1"})


Hint = tuple[str, ...]


def endpoint(
    number: int, state: str = "ready", node: str | None = "there", zones: Hint = (), nodes: Hint = ()
) -> Endpoint:
    ready, serving, terminating = {
        "ready": (True, True, False),
        "leaving": (False, True, True),
        "gone": (False, False, True),
        "unready": (False, False, False),
        "odd": (False, True, False),
    }[state]
    return Endpoint(
        ip=IPv4Address(f"10.0.0.{number}"),
        port=80,
        node=node,
        ready=ready,
        serving=serving,
        terminating=terminating,
        zones=zones,
        nodes=nodes,
    )


def ask(endpoints: Sequence[Endpoint], *, internal: str = "Cluster", external: str | None = None) -> Categories:
    """`external` is the external policy of a Service that has a nodePort, None for one that has not."""
    node_port = 30000 if external else 0
    port = ServicePort(
        name="", protocol="TCP", port=80, target_port=80, node_port=node_port, endpoints=tuple(endpoints)
    )
    spec = core.ServiceSpec(
        internal_traffic_policy="Local" if internal == "Local" else "Cluster",
        external_traffic_policy="Local" if external == "Local" else "Cluster",
    )
    service = Service(
        namespace="default", name="web", labels={}, spec=spec, cluster_ips=(IPv4Address("10.96.0.9"),), ports=(port,)
    )
    return categorize(service, port, HERE, 4)


def last(endpoints: Sequence[Endpoint]) -> list[int]:
    return [endpoint.ip.packed[-1] for endpoint in endpoints]


READY_HERE, READY_THERE = endpoint(1, node="here"), endpoint(2)
LEAVING_HERE, LEAVING_THERE = endpoint(3, "leaving", "here"), endpoint(4, "leaving")


@pytest.mark.parametrize(
    ("endpoints", "policies", "cluster", "local", "anything"),
    [
        pytest.param([], {}, [], [], False, id="nothing"),
        pytest.param([READY_HERE, READY_THERE], {}, [1, 2], [], True, id="cluster"),
        pytest.param([READY_HERE, READY_THERE], {"internal": "Local"}, [], [1], True, id="internal-local"),
        pytest.param([READY_THERE], {"internal": "Local"}, [], [], True, id="internal-local-elsewhere"),
        pytest.param([READY_HERE, READY_THERE], {"external": "Local"}, [1, 2], [1], True, id="external-local"),
        pytest.param([READY_THERE], {"external": "Local"}, [2], [], True, id="external-local-elsewhere"),
        pytest.param(
            [READY_HERE, READY_THERE],
            {"internal": "Local", "external": "Cluster"},
            [1, 2],
            [1],
            True,
            id="internal-local-external-cluster",
        ),
        pytest.param([endpoint(9, node=None)], {"internal": "Local"}, [], [], True, id="no-node-is-never-local"),
        pytest.param([READY_THERE, LEAVING_HERE], {}, [2], [], True, id="terminating-unused"),
        pytest.param([LEAVING_HERE, LEAVING_THERE], {}, [3, 4], [], True, id="fallback-cluster"),
        pytest.param(
            [READY_THERE, LEAVING_HERE], {"external": "Local"}, [2], [3], True, id="fallback-decided-for-each-policy"
        ),
        pytest.param([READY_HERE, LEAVING_HERE], {"external": "Local"}, [1], [1], True, id="no-local-fallback"),
        pytest.param([LEAVING_THERE], {"external": "Local"}, [4], [], True, id="fallback-elsewhere"),
        pytest.param([endpoint(5, "gone")], {}, [], [], False, id="terminating-not-serving"),
        pytest.param([endpoint(6, "odd", "here")], {"internal": "Local"}, [], [], False, id="serving-neither"),
        pytest.param([endpoint(7, "unready")], {}, [], [], False, id="unready"),
    ],
)
def test_policies_and_terminating_endpoints(
    endpoints: list[Endpoint], policies: dict[str, str], cluster: list[int], local: list[int], anything: bool
) -> None:
    found = ask(endpoints, internal=policies.get("internal", "Cluster"), external=policies.get("external"))
    assert (last(found.cluster), last(found.local), found.any_endpoints) == (cluster, local, anything)


Z1, Z2 = ("z1",), ("z2",)


@pytest.mark.parametrize(
    ("endpoints", "policies", "cluster", "local"),
    [
        pytest.param([endpoint(1, zones=Z1), endpoint(2, zones=Z2)], {}, [1], [], id="zone"),
        pytest.param([endpoint(1, zones=Z1), endpoint(2)], {}, [1, 2], [], id="one-without-hint"),
        pytest.param([endpoint(1, zones=Z2), endpoint(2, zones=Z2)], {}, [1, 2], [], id="none-for-this-zone"),
        pytest.param([endpoint(1, zones=Z1), endpoint(2, "unready")], {}, [1], [], id="only-ready-ones-count"),
        pytest.param(
            [endpoint(1, node="here", nodes=("here",), zones=Z1), endpoint(2, nodes=("there",), zones=Z1)],
            {},
            [1],
            [],
            id="node",
        ),
        pytest.param(
            [endpoint(1, nodes=("there",), zones=Z1), endpoint(2, nodes=("far",), zones=Z2)],
            {},
            [1],
            [],
            id="node-then-zone",
        ),
        pytest.param(
            [endpoint(1, nodes=("there",), zones=Z2), endpoint(2, nodes=("far",), zones=Z2)],
            {},
            [1, 2],
            [],
            id="node-then-all",
        ),
        pytest.param(
            [endpoint(1, "leaving", zones=Z1), endpoint(2, "leaving", zones=Z2)],
            {},
            [1, 2],
            [],
            id="fallback-ignores-hints",
        ),
        pytest.param(
            [endpoint(1, node="here", zones=Z2), endpoint(2, zones=Z1)],
            {"external": "Local"},
            [2],
            [1],
            id="local-ignores-hints",
        ),
    ],
)
def test_topology(endpoints: list[Endpoint], policies: dict[str, str], cluster: list[int], local: list[int]) -> None:
    found = ask(endpoints, internal=policies.get("internal", "Cluster"), external=policies.get("external"))
    assert (last(found.cluster), last(found.local)) == (cluster, local)
    assert last(found.reachable) == sorted({*cluster, *local})


def test_only_endpoints_of_the_family() -> None:
    found = ask([READY_HERE, replace(READY_THERE, ip=IPv6Address("fd00::1"))])
    assert last(found.cluster) == [1]


# --- against a second reading of the rules ----------------------------------------------------------------------------

ENDPOINTS = st.lists(
    st.builds(
        endpoint,
        st.integers(min_value=1, max_value=250),
        st.sampled_from(["ready", "leaving", "gone", "unready", "odd"]),
        st.sampled_from(["here", "there", None]),
        zones=st.sampled_from([(), ("z1",), ("z2",), ("z1", "z2")]),
        nodes=st.sampled_from([(), ("here",), ("there",)]),
    ),
    max_size=6,
    unique_by=lambda each: each.ip,
)


def usable_by_cluster_policy(all_of_them: Sequence[Endpoint], one: Endpoint) -> bool:
    """The rules of conformance 1.8 and 1.12, one endpoint at a time."""
    ready = [each for each in all_of_them if each.ready]
    if not ready:
        return one.serving and one.terminating
    if not one.ready:
        return False
    if all(each.nodes for each in ready) and "here" in {node for each in ready for node in each.nodes}:
        return "here" in one.nodes
    if all(each.zones for each in ready) and "z1" in {zone for each in ready for zone in each.zones}:
        return "z1" in one.zones
    return True


def usable_by_local_policy(all_of_them: Sequence[Endpoint], one: Endpoint) -> bool:
    here = [each for each in all_of_them if each.node == "here"]
    if one not in here:
        return False
    return one.ready if any(each.ready for each in here) else one.serving and one.terminating


@given(
    endpoints=ENDPOINTS,
    internal=st.sampled_from(["Cluster", "Local"]),
    external=st.sampled_from([None, "Cluster", "Local"]),
)
def test_agrees_with_a_naive_reading(endpoints: list[Endpoint], internal: str, external: str | None) -> None:
    found = ask(endpoints, internal=internal, external=external)
    needs_cluster = internal == "Cluster" or external is not None
    needs_local = internal == "Local" or external == "Local"
    cluster = [each for each in endpoints if needs_cluster and usable_by_cluster_policy(endpoints, each)]
    local = [each for each in endpoints if needs_local and usable_by_local_policy(endpoints, each)]
    assert list(found.cluster) == cluster
    assert list(found.local) == local
    assert list(found.reachable) == [each for each in endpoints if each in cluster or each in local]
    assert found.any_endpoints == any(each.ready or (each.serving and each.terminating) for each in endpoints)
