"""What policies let through on the way to a Service: the verdict for each endpoint that a connection may go to.

Policies are asked about the endpoint's pod and port. Where the client's address is exchanged for a node's on the way
(NodePort with policy Cluster), Kubernetes does not say which of the two a policy sees; and a pod's egress to a NodePort
of another node may be held against that node or against the endpoint. Where all readings agree the verdict is certain;
where they differ there is none, and whoever promises something says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from k8snetlab.cluster.model import Cluster, Endpoint, Family, Node, ServicePort
from k8snetlab.dataclass import dataclass
from k8snetlab.oracle.parties import AddressOwners, Party, address_owners
from k8snetlab.oracle.policy import PolicyVerdict, consents, judge
from k8snetlab.oracle.policy_rules import DirectedPolicies, read_policies
from k8snetlab.oracle.services import Client, Expectation, node_sources


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a cluster's policies are judged by: they themselves, and who has which address."""

    cluster: Cluster
    policies: DirectedPolicies
    owners: AddressOwners


def policy_context(cluster: Cluster) -> PolicyContext:
    return PolicyContext(cluster, read_policies(cluster), address_owners(cluster))


@dataclass(frozen=True, slots=True)
class EndpointVerdict:
    """`verdict` is that on the client's own address; `allowed` is None when it hangs on what the policies see."""

    endpoint: Endpoint
    verdict: PolicyVerdict
    allowed: bool | None


def client_party(client: Client) -> Party:
    pod = client.pod if client.pod is not None and not client.pod.host_network else None
    return Party(client.address, pod, client.node.name if client.node is not None else "")


def endpoint_verdicts(
    context: PolicyContext, client: Client, port: ServicePort, expectation: Expectation, entry: Node | None
) -> tuple[EndpointVerdict, ...]:
    """A verdict for each endpoint of the expectation; `entry` is the node of a NodePort."""
    return tuple(
        _endpoint_verdict(context, client, port, expectation, endpoint, entry) for endpoint in expectation.endpoints
    )


def _endpoint_verdict(
    context: PolicyContext,
    client: Client,
    port: ServicePort,
    expectation: Expectation,
    endpoint: Endpoint,
    entry: Node | None,
) -> EndpointVerdict:
    party, target = client_party(client), context.owners.party(endpoint.ip)
    verdict = judge(context.policies, party, target, port.protocol, endpoint.port)
    if verdict.exempt == "itself":
        return EndpointVerdict(endpoint, verdict, allowed=True)
    if verdict.contested:
        return EndpointVerdict(endpoint, verdict, allowed=None)
    leaves = _leaves(context, client, party, target, port, endpoint, entry)
    seen = _seen(context, client, party, expectation, entry)
    enters = {consents(context.policies, "ingress", source, target, port.protocol, endpoint.port) for source in seen}
    if leaves == {False} or enters == {False}:
        return EndpointVerdict(endpoint, verdict, allowed=False)
    return EndpointVerdict(endpoint, verdict, allowed=True if leaves == enters == {True} else None)


def _leaves(
    context: PolicyContext,
    client: Client,
    party: Party,
    target: Party,
    port: ServicePort,
    endpoint: Endpoint,
    entry: Node | None,
) -> set[bool]:
    """What egress of the client says: of the endpoint and, before another node translates it, of that node."""
    answers = {consents(context.policies, "egress", party, target, port.protocol, endpoint.port)}
    if entry is not None and client.node is not None and entry.name != client.node.name:
        for address in entry.addresses:
            if address.version == party.address.version:
                door = Party(address, None, entry.name)
                answers.add(consents(context.policies, "egress", party, door, port.protocol, port.node_port))
    return answers


def _seen(
    context: PolicyContext, client: Client, party: Party, expectation: Expectation, entry: Node | None
) -> Sequence[Party]:
    """As whom the endpoint's policies may see the client."""
    family: Family = 4 if party.address.version == 4 else 6
    found = [party]
    if party.pod is None and client.node is not None:
        found += [
            Party(address, None, client.node.name) for address in node_sources(context.cluster, client.node, family)
        ]
    mask = entry or client.node
    if expectation.source == "node" and mask is not None:
        found += [Party(address, None, mask.name) for address in node_sources(context.cluster, mask, family)]
    return found
