"""What kube-proxy answers at a Service's healthCheckNodePort: whether this node has ready endpoints of it.

After kubernetes pkg/proxy/healthcheck/service_health.go: any path, the same words and headers. Part of the pod server,
so it imports as little as possible.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing itself costs 4 ms of start-up
if TYPE_CHECKING:
    from typing import Any

    from k8snetlab.workloads.netexec import Request


class HealthCheck:
    """It stands where a pod's identity would: `service` is `ns/name`, `local_endpoints` changes while clients talk."""

    __slots__ = ("local_endpoints", "service")

    def __init__(self, service: str, local_endpoints: int) -> None:
        self.service, self.local_endpoints = service, local_endpoints

    def respond(self, _request: Request, _own: str, _client: str, _protocol: str) -> tuple[int, str, str, int]:
        """Status, body, extra headers and no filler, as `netexec.respond`."""
        headers = f"X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {self.local_endpoints}\r\n"
        return 200 if self.local_endpoints else 503, self.describe(), headers, 0

    def describe(self, *_asked: str) -> str:
        namespace, _, name = self.service.partition("/")
        # The lab's proxy is its rules: where this is served, they hold.
        about: dict[str, Any] = {"service": {"namespace": namespace, "name": name}}
        about |= {"localEndpoints": self.local_endpoints, "serviceProxyHealthy": True}
        return json.dumps(about, indent="\t") + "\n"
