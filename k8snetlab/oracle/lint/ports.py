"""Ports whose protocol was not thought of: it is TCP when it is not given, and never more than one."""

from __future__ import annotations

from collections.abc import Iterator

from k8snetlab.manifests.api.networking import NetworkPolicyPort
from k8snetlab.oracle.choose import Keys
from k8snetlab.oracle.lint.subject import RuleOf, Subject, at, chosen, rules


def one_protocol_only(subject: Subject) -> Iterator[str]:
    """`{}` is every port of TCP and no other protocol; a number that the destination serves only by another one, or a
    name that it knows only for another one, allows nothing."""
    for rule in rules(subject):
        for index, port in enumerate(rule.ports):
            where = f"{rule}.ports[{index}]"
            if port.port is None and port.protocol == "TCP" and len(rule.ports) == 1:
                yield f"{where} has no port: it allows every TCP port, but neither UDP nor SCTP{at(port.source)}"
            elif port.end_port is None and port.port is not None:
                yield from _other_protocol(rule, where, port)


def _other_protocol(rule: RuleOf, where: str, port: NetworkPolicyPort) -> Iterator[str]:
    served = {
        protocol
        for pod in _destinations(rule)
        for protocol, number in _ports_of(rule.subject, pod)
        if number == port.port
    }
    allowed = {each.protocol for each in rule.ports if each.port == port.port}
    if served and port.protocol not in served and not served <= allowed:
        others, default = " and ".join(sorted(served)), " (the default)" if port.protocol == "TCP" else ""
        yield f"{where} allows {port.protocol}{default}, but port {port.port} is served by {others}{at(port.source)}"


def _destinations(rule: RuleOf) -> Keys:
    """The pods whose ports are meant: those selected for ingress, the peers for egress."""
    if rule.direction == "ingress":
        return rule.subject.selected
    pods = [chosen(rule.subject, peer) for peer in rule.peers if peer.ip_block is None]
    return frozenset().union(*pods)


def _ports_of(subject: Subject, key: str) -> Iterator[tuple[str, int | str]]:
    yield from subject.listening.get(key, ())
    pod = subject.choose.pods.get(key)
    for container in pod.containers if pod is not None else ():
        for port in container.ports:
            if port.name:
                yield port.protocol, port.name
