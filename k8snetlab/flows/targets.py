"""Read TARGET, FROM and TO as the command line and Check documents write them.

    [pod/]NS/NAME   svc/NS/NAME   node/NAME   external/NAME   deploy/NS/NAME (its first pod)   `NS/` may be left out
and, as a destination only: an IP address, a DNS name, a URL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from ipaddress import ip_address

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Node, Pod, Service, ServicePort
from k8snetlab.cluster.status import owner_of_pods
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Flow, FlowProtocol, Place

EXTERNAL = (names.CLIENT, names.INTERNET)
_PODS = ("pod", "pods", "po")
_SERVICES = ("svc", "service", "services")
_NODES = ("node", "nodes", "no")
_WORKLOADS = {
    "deploy": "Deployment",
    "deployment": "Deployment",
    "sts": "StatefulSet",
    "statefulset": "StatefulSet",
    "ds": "DaemonSet",
    "daemonset": "DaemonSet",
    "rs": "ReplicaSet",
    "replicaset": "ReplicaSet",
    "job": "Job",
}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-fA-F:.]+\]|[^/:?#@\[\]\s]+)(?::(?P<port>\d{1,5}))?(?P<path>/\S*)?"
)
# At least two labels, the last one not a number: 10.0.0.300 is a slip, no name (RFC 1123, 2.1).
_DNS_NAME = re.compile(
    r"(?=.{1,254}$)([a-z0-9_]([-a-z0-9]{0,61}[a-z0-9])?\.)+(?!\d+\.?$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\.?", re.I
)


def place(cluster: Cluster, text: str, default_namespace: str = "default", *, as_destination: bool = False) -> Place:
    """The place a target names. Raises UsageError, naming near matches, when there is none."""
    if as_destination and (outside := _address_or_name(cluster, text, default_namespace)):
        return outside
    kind, _, rest = text.partition("/")
    if kind in _SERVICES and rest and as_destination:
        return Place(kind="service", name=_service(cluster, rest, default_namespace).key)
    if kind in _NODES and rest:
        return node_place(_node(cluster, rest))
    if kind == "external" and rest:
        if rest not in EXTERNAL:
            raise _unknown("external host", rest, EXTERNAL)
        return Place(kind="external", name=rest, netns=rest)
    if kind in _WORKLOADS and rest:
        return pod_place(_first_pod(cluster, _WORKLOADS[kind], rest, default_namespace))
    if kind in _SERVICES and rest:
        raise UsageError(f"{text}: a Service cannot send or run anything", hint="name one of its pods")
    key = _key(rest if kind in _PODS and rest else text, default_namespace)
    pod = cluster.pod(key)
    if pod is None:
        others = _others_named(cluster, text, default_namespace, as_destination=as_destination)
        raise _unknown("pod", key, (each.key for each in cluster.pods), others)
    return pod_place(pod)


def pod_place(pod: Pod) -> Place:
    """A hostNetwork pod lives in its node's namespace."""
    netns = pod.node if pod.host_network else names.pod_netns(pod.namespace, pod.name)
    return Place(kind="pod", name=pod.key, netns=netns)


def node_place(node: Node) -> Place:
    return Place(kind="node", name=node.name, netns=node.name)


def flow(
    cluster: Cluster,
    sender: str,
    destination: str,
    *,
    port: int | None = None,
    protocol: str | None = None,
    default_namespace: str = "default",
) -> Flow:
    """The flow that FROM, TO and the options mean. Raises UsageError when they do not fit together.

    Without a port a Service's first one is meant, and anything else is pinged. Without a protocol it is HTTP for a URL,
    the Service port's own, TCP with a port and ICMP without.
    """
    source = place(cluster, sender, default_namespace)
    wanted = protocol.upper() if protocol else None
    if wanted == "DNS" and "/" not in destination and not port:
        return lookup_flow(cluster, source, destination)
    target = place(cluster, destination, default_namespace, as_destination=True)
    if target.kind == "url":
        return _url_flow(source, target, port, wanted)
    if target.kind == "service":
        return _service_flow(cluster, source, target, port, wanted)
    chosen = _protocol(wanted or ("TCP" if port else "ICMP"))
    if chosen != "ICMP" and not port:
        raise UsageError(f"{chosen} to {destination} needs a port", hint="say which with --port")
    return Flow(
        sender=source,
        destination=target,
        address=address_of(cluster, target),
        protocol=chosen,
        port=0 if chosen == "ICMP" else port or 0,
    )


def lookup_flow(cluster: Cluster, sender: Place, name: str, query: str = "") -> Flow:
    """The look-up of a name, or of an address' name, by the sender's own resolver; by default of addresses."""
    try:
        name, query = f"{ip_address(name).reverse_pointer}.", query or "PTR"
    except ValueError:
        query = query or ("A" if 4 in cluster.config.families else "AAAA")
    return Flow(
        sender=sender, destination=Place(kind="name", name=name), address=name, protocol="DNS", port=53, query=query
    )


def address_of(cluster: Cluster, target: Place) -> str:
    """Where packets for a place are sent: the primary address of a pod, node or external host; a name stays a name."""
    if target.kind == "pod" and (pod := cluster.pod(target.name)):
        return str(pod.ips[0])
    if target.kind == "node" and (node := cluster.node(target.name)):
        return str(node.addresses[0])
    if target.kind == "external":
        return str(names.outside_address(target.name, cluster.config.families[0]))
    return target.name


def _address_or_name(cluster: Cluster, text: str, namespace: str) -> Place | None:
    if "://" in text:
        if not _is_url(text):
            raise UsageError(f"{text}: not an http:// or https:// URL")
        return Place(kind="url", name=text)
    try:
        return Place(kind="ip", name=str(ip_address(text)))
    except ValueError:
        pass
    # A pod's name may hold dots too, and is meant where there is one.
    if "/" not in text and _DNS_NAME.fullmatch(text) and cluster.pod(f"{namespace}/{text}") is None:
        return Place(kind="name", name=text)
    return None


def _is_url(text: str) -> bool:
    match = _URL.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 80) < 65536:
        return False
    try:
        return not match["host"].startswith("[") or ip_address(match["host"].strip("[]")).version == 6
    except ValueError:
        return False


def _url_flow(source: Place, target: Place, port: int | None, protocol: str | None) -> Flow:
    match = _URL.fullmatch(target.name)
    assert match is not None
    if protocol not in (None, "HTTP"):
        raise UsageError(f"{target.name}: a URL is asked by HTTP, not {protocol}")
    tls = match["scheme"] == "https"
    given = int(match["port"] or (443 if tls else 80))
    if port and match["port"] and port != given:
        raise UsageError(f"{target.name} says port {given}, --port says {port}")
    host = match["host"].strip("[]")
    return Flow(
        sender=source,
        destination=target,
        address=host,
        protocol="HTTP",
        port=port or given,
        path=match["path"] or "/",
        host=host,
        tls=tls,
    )


def _service_flow(cluster: Cluster, source: Place, target: Place, port: int | None, protocol: str | None) -> Flow:
    service = _service(cluster, target.name, "default")
    ports = [entry for entry in service.ports if port in (None, entry.port)]
    if protocol in ("TCP", "UDP", "SCTP", "HTTP"):
        ports = [entry for entry in ports if entry.protocol == protocol.replace("HTTP", "TCP")] or ports
    entry = ports[0] if ports else None
    if service.spec.type == "ExternalName":
        raise UsageError(f"svc/{service.key} is only a DNS name for {service.spec.external_name}")
    if service.headless:
        # No proxy translates a port: it is one of the pods', whether the Service knows it or not.
        address, number = _headless_address(service, entry or next(iter(service.ports), None), port)
    else:
        address, number = str(service.cluster_ips[0]), port or (entry.port if entry else 0)
    chosen = _protocol(protocol or (entry.protocol if entry else "TCP"))
    return Flow(
        sender=source, destination=target, address=address, protocol=chosen, port=0 if chosen == "ICMP" else number
    )


def _headless_address(service: Service, entry: ServicePort | None, port: int | None) -> tuple[str, int]:
    """A headless Service has no address: its clients get those of its ready endpoints."""
    ready = [endpoint for endpoint in (entry.endpoints if entry else ()) if endpoint.ready]
    if not ready:
        raise UsageError(f"svc/{service.key} is headless and has no ready endpoint")
    return str(ready[0].ip), port or ready[0].port


def _protocol(text: str) -> FlowProtocol:
    match text:
        case "TCP" | "UDP" | "SCTP" | "ICMP" | "HTTP" | "DNS":
            return text
        case _:
            raise UsageError(f"unknown protocol {text}", hint="TCP, UDP, SCTP, ICMP, HTTP or DNS")


def _key(text: str, namespace: str) -> str:
    return text if "/" in text else f"{namespace}/{text}"


def _service(cluster: Cluster, text: str, namespace: str) -> Service:
    key = _key(text, namespace)
    service = cluster.service(key)
    if service is None:
        raise _unknown("service", key, (each.key for each in cluster.services))
    return service


def _node(cluster: Cluster, name: str) -> Node:
    node = cluster.node(name)
    if node is None:
        raise _unknown("node", name, (each.name for each in cluster.nodes))
    return node


def _first_pod(cluster: Cluster, kind: str, text: str, namespace: str) -> Pod:
    key = _key(text, namespace)
    for workload in cluster.workloads:
        if workload.kind == kind and f"{workload.namespace}/{workload.name}" == key:
            owner = owner_of_pods(workload)
            for pod in cluster.pods:
                if pod.owner == owner and pod.namespace == workload.namespace:
                    return pod
            raise UsageError(f"{kind} {key} has no pods")
    raise _unknown(kind, key, (f"{w.namespace}/{w.name}" for w in cluster.workloads if w.kind == kind))


def _others_named(cluster: Cluster, text: str, namespace: str, *, as_destination: bool) -> list[str]:
    """What else is called so: a bare name means a pod, which is easily forgotten."""
    found = [f"node/{text}"] if cluster.node(text) else []
    found += [f"external/{text}"] if text in EXTERNAL else []
    key = _key(text, namespace)
    return found + ([f"svc/{key}"] if as_destination and cluster.service(key) else [])


def _unknown(kind: str, name: str, known: Iterable[str], others: Sequence[str] = ()) -> UsageError:
    close = [*others, *_near(name, known)][:3]
    return UsageError(f"no {kind} {name}", hint=f"did you mean {' or '.join(close)}?" if close else "")


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Those whose own name is like it, or begins like it (`web` for a pod of Deployment web); its namespace first."""
    namespace, _, own = name.rpartition("/")
    likeness = {}
    for key in known if own else ():
        other = key.rpartition("/")[2]
        ratio = SequenceMatcher(None, own, other).ratio()
        if ratio > 0.6 or other.startswith(own):
            likeness[key] = (key.rpartition("/")[0] != namespace, -ratio, key)
    return sorted(likeness, key=likeness.__getitem__)
