"""What the lab's server process is told of the objects it serves: the entries of `workloads.podserver`, as JSON takes
them."""

from __future__ import annotations

from k8snetlab.plan.state import HealthCheck, PodServer

Served = PodServer | HealthCheck


def entry(obj: Served) -> dict[str, object]:
    if isinstance(obj, HealthCheck):
        about = {"netns": obj.netns, "pod": _health_check_key(obj), "service": obj.service}
        return {**about, "local_endpoints": obj.local_endpoints, "listeners": [["TCP", obj.port]]}
    about = {"netns": obj.netns, "pod": obj.pod, "node": obj.node, "hostname": obj.hostname}
    return {**about, "listeners": [list(listener) for listener in obj.listeners]}


def _health_check_key(obj: HealthCheck) -> str:
    """What stands in the place of a pod's name; no pod's has a space."""
    return f"service {obj.service}"


def key(obj: Served) -> tuple[str, str]:
    """By what the server knows it."""
    return obj.netns, _health_check_key(obj) if isinstance(obj, HealthCheck) else obj.pod
