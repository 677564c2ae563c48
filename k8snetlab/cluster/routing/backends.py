"""From a reference to a Service port to the addresses behind it, or the reason why nobody answers there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from k8snetlab.cluster.model import Cluster, Endpoint, Service, ServicePort
from k8snetlab.cluster.routing.model import Upstream
from k8snetlab.manifests.api.networking import IngressBackend


@dataclass(frozen=True)
class Upstreams:
    """The Services of a cluster by `ns/name`."""

    cluster: Cluster

    @cached_property
    def services(self) -> Mapping[str, Service]:
        return {service.key: service for service in self.cluster.services}

    def by_number(self, service: str, number: int) -> Upstream | str:
        """The upstream, or the reason why there is none."""
        found = self.services.get(service)
        if found is None:
            return f"there is no Service {service}"
        port = next((each for each in found.ports if each.port == number and each.protocol == "TCP"), None)
        return self._upstream(found, port, str(number))

    def of_ingress(self, namespace: str, backend: IngressBackend) -> Upstream | str:
        if backend.service is None:
            return "a backend that is no Service"
        wanted, key = backend.service.port, f"{namespace}/{backend.service.name}"
        if not wanted.name:
            return self.by_number(key, wanted.number)
        found = self.services.get(key)
        if found is None:
            return f"there is no Service {key}"
        port = next((each for each in found.ports if each.name == wanted.name), None)
        return self._upstream(found, port, wanted.name)

    def _upstream(self, service: Service, port: ServicePort | None, wanted: str) -> Upstream | str:
        if service.spec.type == "ExternalName":
            return f"Service {service.key} is of type ExternalName, whose name the lab's proxy does not look up"
        if port is None:
            return f"Service {service.key} has no port {wanted}"
        return Upstream(service.key, port.port, self._usable(port))

    def _usable(self, port: ServicePort) -> tuple[Endpoint, ...]:
        """The ready ones, of the cluster's first family if it has any there: one address a pod is enough."""
        ready = [endpoint for endpoint in port.endpoints if endpoint.ready]
        first = self.cluster.config.families[0]
        return tuple([each for each in ready if each.ip.version == first] or ready)
