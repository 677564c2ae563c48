"""ReferenceGrant: who may refer to an object of another namespace (Gateway API, GEP-709)."""

from __future__ import annotations

from collections.abc import Sequence

from k8snetlab.manifests.api.gateway import GATEWAY_GROUP, ReferenceGrant


def permitted(
    grants: Sequence[ReferenceGrant], kind: str, namespace: str, to_kind: str, to_namespace: str, to_name: str
) -> bool:
    """Whether a `kind` of Gateway API in `namespace` may refer to a Service or Secret; in its own namespace always."""
    return namespace == to_namespace or any(
        grant.metadata.namespace == to_namespace
        and any(
            (each.group, each.kind, each.namespace) == (GATEWAY_GROUP, kind, namespace) for each in grant.spec.from_
        )
        and any(
            each.group == "" and each.kind == to_kind and each.name in (None, "", to_name) for each in grant.spec.to
        )
        for grant in grants
    )
