"""From files and options to a Cluster: the steps that `up`, `plan` and `test` have in common."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k8snetlab.cluster.model import Cluster
    from k8snetlab.cluster.resolve import Overrides
    from k8snetlab.manifests.document import Manifests


def read(files: Sequence[str]) -> Manifests:
    """The manifests of all files; raises ManifestError with every problem of every document."""
    from k8snetlab.manifests.load import load

    return load(files, sys.stdin.buffer)


def lab_document_name(manifests: Manifests) -> str:
    """The name in the Lab document, empty when there is none."""
    return next((d.object.metadata.name for d in manifests.documents if d.kind == "Lab"), "")


def overrides(**options: object) -> Overrides:
    """The topology options of the command line, as `options.topology_options` names them."""
    from k8snetlab.cluster.resolve import Overrides

    return Overrides(**options)  # type: ignore[arg-type]


def summary(cluster: Cluster) -> str:
    """What was understood and what was ignored, in one line."""
    counts = {
        "node": len(cluster.nodes),
        "pod": len(cluster.own_pods),
        "service": len(cluster.own_services),
    }
    text = ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for word, number in counts.items())
    ignored = ", ".join(f"{number} {kind}" for kind, number in sorted(cluster.ignored.items()))
    return f"{text}; ignored: {ignored}" if ignored else text
