"""Secret of the core group: certificates for Ingresses and Gateways. Those of other types are not read."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from k8snetlab.dataclass import dataclass
from k8snetlab.manifests.api.meta import Labels, ObjectMeta

TLS_SECRET = "kubernetes.io/tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """`data` is base64, `string_data` plain text."""

    IGNORED: ClassVar = ("immutable",)

    metadata: ObjectMeta
    type: str = "Opaque"
    data: Labels = field(default_factory=dict)
    string_data: Labels = field(default_factory=dict)
