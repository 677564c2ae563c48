from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k8snetlab.manifests.api import admin_policy, apps, core, gateway, meta, networking, scheduling
from k8snetlab.manifests.api.admin_policy import AdminNetworkPolicy, ClusterNetworkPolicy
from k8snetlab.manifests.api.apps import Deployment
from k8snetlab.manifests.api.core import Endpoints, Pod, Service
from k8snetlab.manifests.api.gateway import HTTPRoute
from k8snetlab.manifests.api.networking import Ingress, NetworkPolicy
from k8snetlab.manifests.decode import decode
from k8snetlab.manifests.encode import encode
from k8snetlab.manifests.load import load, load_text

KINDS = (
    Service,
    NetworkPolicy,
    ClusterNetworkPolicy,
    AdminNetworkPolicy,
    Ingress,
    Pod,
    Deployment,
    Endpoints,
    HTTPRoute,
)


@pytest.fixture(scope="module", autouse=True)
def _signatures() -> None:
    """The methods of these classes are written when one is first called, and hypothesis wants to see `__init__`."""
    for module in (admin_policy, apps, core, gateway, meta, networking, scheduling):
        for cls in vars(module).values():
            if dataclasses.is_dataclass(cls):
                with suppress(TypeError):
                    cls()  # type: ignore[operator]


@pytest.mark.parametrize("cls", KINDS, ids=lambda cls: cls.__name__)
def test_round_trip(cls: Any) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(st.from_type(cls))
    def decode_undoes_encode(obj: Any) -> None:
        plain = json.loads(json.dumps(encode(obj)))
        assert decode(cls, plain, ignoring=("apiVersion", "kind")) == (obj, [])

    decode_undoes_encode()


def test_real_manifests_survive() -> None:
    for document in load([str(Path(__file__).parent / "real")]).documents:
        text = yaml.safe_dump(encode(document.object)).encode()
        (again,) = load_text(text, "x").documents
        assert again.object == document.object


def test_what_is_written() -> None:
    text = b"apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, ports: [{port: 80}]}\n"
    assert encode(load_text(text, "x").documents[0].object) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "ClusterIP", "clusterIP": "None", "ports": [{"port": 80, "protocol": "TCP"}]},
    }


def test_an_empty_pod_selector_is_shown() -> None:
    text = b"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny}\nspec: {podSelector: {}}\n"
    encoded = encode(load_text(text, "x").documents[0].object)
    assert (encoded["apiVersion"], encoded["spec"]) == ("networking.k8s.io/v1", {"podSelector": {}})
