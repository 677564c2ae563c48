"""What the names of a cluster must resolve to, for each form of record.

Written from the Kubernetes DNS specification 1.1.0 alone, never from the records the lab serves: `cluster.dns` is
another reading of the same text, and a disagreement is a bug in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k8snetlab.cluster.model import Cluster, IPAddress, Pod, Service
from k8snetlab.flows.model import Check, Outcome
from k8snetlab.flows.targets import lookup_flow, pod_place
from k8snetlab.oracle.endpoint_verdicts import endpoint_verdicts
from k8snetlab.oracle.places import Scene
from k8snetlab.oracle.reasons import reason
from k8snetlab.oracle.services import Client, expect
from k8snetlab.oracle.under_policies import denied

KIND = "pod-to-dns"
MOST_PORTS, MOST_HOSTS = 2, 4  # representatives of one Service's


def dns_checks(scene: Scene) -> Iterator[Check]:
    """None in a cluster without a DNS that the lab runs. The pods that ask are such that policies let them; where they
    let none, that one is denied."""
    cluster = scene.cluster
    server = cluster.service("kube-system/kube-dns")
    if cluster.config.proxy_mode == "none" or server is None or not server.addon:
        return
    primary = scene.family == cluster.config.families[0]
    # resolv.conf names the server by its address of the primary family, whatever is asked for.
    asking = scene if primary else Scene(cluster, cluster.config.families[0])
    clients = [pod for pod in asking.pods if pod.spec.dns_policy == "ClusterFirst" and not pod.spec.dns_config]
    allowed, refusals = _judged(asking, server, clients)
    if not allowed:
        for client, because in refusals[:1] if primary else ():
            for check in _addresses(scene, client, "kubernetes.default", _first_service(cluster)):
                yield denied(replace(check, records=()), because)
        return
    yield from _addresses(scene, allowed[0], "kubernetes.default", _first_service(cluster))
    for service in cluster.own_services:
        yield from _service(scene, _client(allowed, service), service, primary=primary)
    if primary and cluster.config.dns_pods != "disabled":
        yield from _pod(scene, allowed[0])


def _judged(scene: Scene, server: Service, clients: Sequence[Pod]) -> tuple[list[Pod], list[tuple[Pod, str]]]:
    """The clients whose questions reach every endpoint of the server, and those whose reach none, with the reason.

    Enough of them: two namespaces' worth of the one, or one of the other.
    """
    allowed: list[Pod] = []
    refused: list[tuple[Pod, str]] = []
    port = next((port for port in server.ports if port.protocol == "UDP"), None)
    for pod in clients if port is not None else ():
        address = scene.ip(pod)
        assert address is not None
        assert port is not None
        client = Client(address=address, node=scene.nodes[pod.node], pod=pod)
        expectation = expect(scene.cluster, server, port, client, "cluster-ip")
        if expectation.outcome != "ok":
            continue
        verdicts = (
            endpoint_verdicts(scene.policy_context, client, port, expectation, None)
            if scene.policy_context.policies.all
            else ()
        )
        if all(verdict.allowed for verdict in verdicts):
            if all(pod.namespace != other.namespace for other in allowed):
                allowed.append(pod)
        elif all(verdict.allowed is False for verdict in verdicts):
            refused.append((pod, reason(verdicts[0].verdict)))
        if len(allowed) > 1:
            break
    return allowed, refused


def _first_service(cluster: Cluster) -> tuple[IPAddress, ...]:
    service = cluster.service("default/kubernetes")
    return service.cluster_ips if service and service.addon else ()


def _client(clients: Sequence[Pod], service: Service) -> Pod:
    """One of another namespace if there is one: it must name the Service's."""
    return next((pod for pod in clients if pod.namespace != service.namespace), clients[0])


def _service(scene: Scene, client: Pod, service: Service, *, primary: bool) -> Iterator[Check]:
    # In its own namespace a Service is known by its name alone, elsewhere with its namespace's (2.1, search path).
    short = service.name if client.namespace == service.namespace else f"{service.name}.{service.namespace}"
    full = f"{service.name}.{service.namespace}.svc.{scene.cluster.config.cluster_domain}"
    if service.spec.type == "ExternalName":
        target = service.spec.external_name.rstrip(".").lower()
        if primary and not target.replace(".", "").isdigit():
            yield _check(scene, client, f"{full}.", "CNAME", (f"CNAME {target}.",))
    elif service.headless:
        yield from _headless(scene, client, service, short, full)
    else:
        yield from _addresses(scene, client, short, service.cluster_ips)
        if primary and service.cluster_ips:
            for port in [port for port in service.ports if port.name][:MOST_PORTS]:
                name = f"_{port.name}._{port.protocol.lower()}.{full}."
                yield _check(scene, client, name, "SRV", (f"SRV {port.port} {full}.",))
            pointer = service.cluster_ips[0].reverse_pointer
            yield _check(scene, client, f"{pointer}.", "PTR", (f"PTR {full}.",))


def _headless(scene: Scene, client: Pod, service: Service, short: str, full: str) -> Iterator[Check]:
    """Its name stands for the ready endpoints; with none of them there is no such name (2.4.1)."""
    ready = {
        endpoint.ip: endpoint
        for port in service.ports
        for endpoint in port.endpoints
        if endpoint.ready or service.spec.publish_not_ready_addresses
    }
    if not service.ports:
        return  # it has no endpoints to read here, only pods
    if not ready:
        yield _check(scene, client, f"{full}.", _kind_of(scene), (), "refused")
        return
    yield from _addresses(scene, client, short, tuple(ready))
    names = {ip: f"{each.hostname or _label(ip)}.{full}." for ip, each in ready.items() if ip.version == scene.family}
    for name in list(dict.fromkeys(names.values()))[:MOST_HOSTS]:
        same = tuple(ip for ip, each in names.items() if each == name)
        yield from _addresses(scene, client, name, same)
    if scene.family != scene.cluster.config.families[0]:
        return
    for port in [port for port in service.ports if port.name][:MOST_PORTS]:
        records = tuple(
            f"SRV {endpoint.port} {endpoint.hostname or _label(endpoint.ip)}.{full}."
            for endpoint in port.endpoints
            if endpoint.ip in ready
        )
        if records:
            yield _check(scene, client, f"_{port.name}._{port.protocol.lower()}.{full}.", "SRV", records)
    # An address may belong to several names; the one with a host name has a pointer to it (2.4.3).
    for ip, endpoint in list(ready.items())[:1]:
        if endpoint.hostname and not _named_twice(scene.cluster, ip):
            yield _check(scene, client, f"{ip.reverse_pointer}.", "PTR", (f"PTR {endpoint.hostname}.{full}.",))


def _named_twice(cluster: Cluster, ip: IPAddress) -> bool:
    names = {
        (service.key, endpoint.hostname)
        for service in cluster.services
        if service.headless
        for port in service.ports
        for endpoint in port.endpoints
        if endpoint.ip == ip and endpoint.hostname
    }
    return len(names) > 1


def _pod(scene: Scene, client: Pod) -> Iterator[Check]:
    """A pod's own record: its address with dashes, in its namespace (deprecated, but every cluster has it)."""
    address = scene.ip(client)
    if address is not None:
        name = f"{_label(address)}.{client.namespace}.pod.{scene.cluster.config.cluster_domain}."
        yield from _addresses(scene, client, name, (address,))


def _addresses(scene: Scene, client: Pod, name: str, addresses: Sequence[IPAddress]) -> Iterator[Check]:
    records = tuple(f"{_kind_of(scene)} {ip}" for ip in addresses if ip.version == scene.family)
    if records:
        yield _check(scene, client, name, _kind_of(scene), records)


def _kind_of(scene: Scene) -> str:
    return "A" if scene.family == 4 else "AAAA"


def _label(address: IPAddress) -> str:
    """What stands for an endpoint without a host name: unspecified (2.4.1), in CoreDNS its address with dashes."""
    return str(address).replace(".", "-").replace(":", "-")


def _check(
    scene: Scene, client: Pod, name: str, query: str, records: tuple[str, ...], expected: Outcome = "ok"
) -> Check:
    flow = lookup_flow(scene.cluster, pod_place(client), name, query)
    return Check(type=KIND, name=f"{client.key} asks for {query} {name}", flow=flow, expected=expected, records=records)
