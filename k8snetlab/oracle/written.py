"""The checks that Check documents ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from k8snetlab.cluster import names
from k8snetlab.cluster.model import Cluster, Family, IPAddress, Pod
from k8snetlab.errors import UsageError
from k8snetlab.flows.model import Check, Flow, Place
from k8snetlab.flows.targets import flow
from k8snetlab.manifests.api import lab
from k8snetlab.manifests.selectors import matches
from k8snetlab.oracle.places import address_of
from k8snetlab.oracle.services import node_sources


def written_checks(cluster: Cluster) -> list[Check]:
    """Every Check document of the cluster; one that selects pods stands for all pairs of them."""
    return [check for document in cluster.checks for check in _expand(cluster, document)]


def _expand(cluster: Cluster, document: lab.Check) -> Iterator[Check]:
    spec, namespace = document.spec, document.metadata.namespace or "default"
    subject = f"Check {namespace}/{document.metadata.name}"
    try:
        senders = _targets(cluster, spec.from_, namespace)
        receivers = _targets(cluster, spec.to, namespace)
        for sender in senders:
            for receiver in receivers:
                if sender == receiver and len(senders) * len(receivers) > 1:
                    continue  # a set of pods against itself: each pod to the others
                one = flow(
                    cluster,
                    sender,
                    receiver,
                    port=spec.port,
                    protocol=_protocol(spec, receiver),
                    default_namespace=namespace,
                )
                one = replace(one, size=spec.size or 0)
                yield _check(cluster, document, one, several=len(senders) * len(receivers) > 1)
    except UsageError as error:
        raise UsageError(f"{subject}: {error.message}", hint=error.hint) from None


def _check(cluster: Cluster, document: lab.Check, one: Flow, *, several: bool) -> Check:
    spec = document.spec
    name = document.metadata.name
    if spec.source and one.protocol == "ICMP":
        raise UsageError("a ping does not tell which address was seen", hint="say which port with spec.port")
    return Check(
        type="custom",
        name=f"{name} ({one.sender.name} to {one.destination.name})" if several else name,
        flow=one,
        expected=spec.expect,
        source=spec.source,
        sources=_sources(cluster, spec, one) if spec.source else (),
        servers=(one.destination.name,) if one.destination.kind == "pod" and spec.expect == "ok" else (),
    )


def _protocol(spec: lab.CheckSpec, receiver: str) -> str | None:
    """A URL is asked by HTTP whatever the default says; no port at all means ping, unless a Service has one."""
    if "://" in receiver:
        return None
    if spec.protocol == "TCP" and spec.port is None:
        return None
    return spec.protocol


def _targets(cluster: Cluster, target: str | lab.CheckPeer, namespace: str) -> Sequence[str]:
    if isinstance(target, str):
        return (target,)
    pods = [pod for pod in cluster.pods if _selected(cluster, target, pod, namespace)]
    if not pods:
        raise UsageError("its selector matches no pod")
    return [f"pod/{pod.key}" for pod in pods]


def _selected(cluster: Cluster, peer: lab.CheckPeer, pod: Pod, namespace: str) -> bool:
    if peer.namespace_selector is None:
        if pod.namespace != namespace:
            return False
    elif not matches(peer.namespace_selector, cluster.namespaces.get(pod.namespace, {})):
        return False
    return peer.pod_selector is None or matches(peer.pod_selector, pod.labels)


def _sources(cluster: Cluster, spec: lab.CheckSpec, one: Flow) -> tuple[IPAddress, ...]:
    """The addresses that `source` stands for: the sender's own (pod, client), or any of the nodes' (node)."""
    family: Family = 6 if ":" in one.address else 4
    if spec.source == "node":
        return tuple(a for node in cluster.nodes for a in node_sources(cluster, node, family))
    return _own_addresses(cluster, one.sender, family)


def _own_addresses(cluster: Cluster, sender: Place, family: Family) -> tuple[IPAddress, ...]:
    if sender.kind == "external":
        return (names.outside_address(sender.name, family),)
    if sender.kind == "node" and (node := cluster.node(sender.name)):
        return node_sources(cluster, node, family)
    pod = cluster.pod(sender.name)
    own = address_of(pod.ips, family) if pod else None
    return (own,) if own else ()
