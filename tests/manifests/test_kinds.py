from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import cast

import pytest

from k8snetlab.manifests.api.core import Namespace
from k8snetlab.manifests.api.meta import ObjectMeta
from k8snetlab.manifests.decode import schema
from k8snetlab.manifests.kinds import KINDS, find_kind
from k8snetlab.manifests.validate import validate


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        pytest.param("v1", "ConfigMap", id="core"),
        pytest.param("v1", "PodTemplate", id="close-to-pod"),
        pytest.param("v1", "ServiceAccount", id="close-to-service"),
        pytest.param("networking.k8s.io/v1", "ServiceCIDR", id="service-cidr"),
        pytest.param("networking.istio.io/v1", "Gateway", id="istio-gateway"),
        pytest.param("serving.knative.dev/v1", "Service", id="knative-service"),
        pytest.param("crd.projectcalico.org/v1", "NetworkPolicy", id="calico-policy"),
        pytest.param("gateway.networking.k8s.io/v1", "GRPCRoute", id="other-route"),
        pytest.param("example.com/v1", "Servise", id="somebody-elses-misspelling"),
    ],
)
def test_other_kinds_are_ignored(api_version: str, kind: str) -> None:
    assert find_kind(api_version, kind) is None


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_version_is_found(kind: str) -> None:
    for api_version in KINDS[kind].api_versions:
        assert find_kind(api_version, kind) is KINDS[kind]
    assert KINDS[kind].cls.__name__ == kind


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_keys_are_either_modelled_or_ignored(kind: str) -> None:
    """And every class that a kind is made of can be decoded and judged."""
    cls = KINDS[kind].cls
    known = schema(cast(Hashable, cls))
    assert not known.ignored & set(known.fields)
    assert "metadata" in known.fields
    fields = [field for field in dataclasses.fields(cls) if not field.metadata.get("source")]
    assert {field.name for field in fields} == {name for name, _ in known.fields.values()}


def test_a_kind_without_checks_has_only_metadata_to_check() -> None:
    assert validate(Namespace(metadata=ObjectMeta(name="shop"))) == []
    assert [wrong.path for wrong in validate(Namespace(metadata=ObjectMeta(name="Shop")))] == [("metadata", "name")]
