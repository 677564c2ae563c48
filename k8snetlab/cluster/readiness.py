"""Is a pod ready? What the kubelet would find out, known beforehand because the lab's own server answers its probes."""

from __future__ import annotations

from k8snetlab.cluster.listeners import probe_port
from k8snetlab.manifests.api import core


def probes_pass(spec: core.PodSpec) -> bool:
    """Whether the pod becomes ready by itself.

    The lab's server listens on every port that a probe names, so such a probe passes; one that names a port no
    container declares cannot. `exec` probes run nothing and pass. A readiness gate waits for a controller that a lab
    does not have: such a pod is not ready until `set-ready` says so.
    """
    return not spec.readiness_gates and all(_passes(container) for container in spec.containers)


def _passes(container: core.Container) -> bool:
    probe = container.readiness_probe
    asks = probe is not None and (probe.http_get is not None or probe.tcp_socket is not None)
    return not asks or probe_port(probe, container) is not None
