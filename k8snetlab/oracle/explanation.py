"""What policies have to say on one flow as a user names it: on the pod it goes to, or on each endpoint of a Service."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Literal

from k8snetlab.cluster.model import Cluster, Family, IPAddress, Node, Service, ServicePort
from k8snetlab.dataclass import dataclass
from k8snetlab.flows.model import Flow, Result
from k8snetlab.oracle.endpoint_verdicts import PolicyContext, endpoint_verdicts, policy_context
from k8snetlab.oracle.parties import party_of
from k8snetlab.oracle.policy import PolicyVerdict, judge
from k8snetlab.oracle.reasons import Step, reason, steps
from k8snetlab.oracle.services import Client, expect
from k8snetlab.oracle.under_policies import policy_protocol

Expected = Literal["allowed", "denied", "some", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """On one pod or address that the flow may end at; `verdict` is that on the client's own address. `allowed` is None
    when nobody says: when it hangs on whether policies see that address or the one of the node that masquerades it, or
    when the verdict is contested."""

    destination: str
    address: IPAddress
    port: int
    allowed: bool | None
    verdict: PolicyVerdict
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`expected` some: of the endpoints that the Service picks from some may be reached; open: nobody says which.
    `translated` is how the destination became what is judged, or why nothing can be said of it."""

    expected: Expected
    judgements: tuple[Judgement, ...]
    translated: str = ""

    @property
    def reason(self) -> str:
        """One line; of several endpoints the first that is denied, if any is."""
        ordered = sorted(self.judgements, key=lambda each: each.allowed is not False)
        return reason(ordered[0].verdict) if ordered else self.translated

    @property
    def decided(self) -> bool:
        """Whether any policy has a part in it."""
        return any(r.policy or r.isolating for j in self.judgements for r in j.verdict.rulings)


def explain(cluster: Cluster, flow: Flow) -> Explanation:
    """Whatever policies say on the flow, from the manifests alone; no packet is asked."""
    context = policy_context(cluster)
    address, why = _address(cluster, flow)
    if address is None:
        return Explanation(expected="open", judgements=(), translated=why)
    family: Family = 4 if address.version == 4 else 6
    source = party_of(cluster, context.owners, flow.sender, family)
    if source is None:
        return Explanation(expected="open", judgements=(), translated=f"{flow.sender} has no IPv{family} address")
    door = _door(cluster, context, address, flow)
    if door is None:
        verdict = judge(context.policies, source, context.owners.party(address), policy_protocol(flow), flow.port)
        allowed = None if verdict.contested else verdict.allowed
        return _explanation((_judgement(context, verdict, allowed=allowed),), why)
    service, port, entry = door
    client = Client(address=source.address, node=cluster.node(source.node), pod=source.pod)
    if entry is None and client.node is None:
        return Explanation(expected="open", judgements=(), translated="nobody outside has a route to a ClusterIP")
    expectation = expect(cluster, service, port, client, "node-port" if entry else "cluster-ip", entry)
    where = f"svc/{service.key} port {port.name or port.port}"
    if expectation.outcome != "ok":
        return Explanation(expected="open", judgements=(), translated=f"{where} has no endpoint to go to")
    found = endpoint_verdicts(context, client, port, expectation, entry)
    judged = tuple(_judgement(context, each.verdict, allowed=each.allowed) for each in found)
    return _explanation(judged, f"{where} is translated to its endpoints before policies are asked")


def _explanation(judged: tuple[Judgement, ...], translated: str) -> Explanation:
    answers = {each.allowed for each in judged}
    expected: Expected = "some"
    if None in answers:
        expected = "open"
    elif len(answers) == 1:
        expected = "allowed" if True in answers else "denied"
    return Explanation(expected=expected, judgements=judged, translated=translated)


def _judgement(context: PolicyContext, verdict: PolicyVerdict, *, allowed: bool | None) -> Judgement:
    return Judgement(
        destination=str(verdict.destination),
        address=verdict.destination.address,
        port=verdict.port,
        allowed=allowed,
        verdict=verdict,
        steps=steps(context.policies, verdict),
    )


def _address(cluster: Cluster, flow: Flow) -> tuple[IPAddress | None, str]:
    """Where the flow's packets are sent. Names of the cluster's Services are known, others only to their resolver."""
    try:
        return ip_address(flow.address), ""
    except ValueError:
        pass
    namespace = flow.sender.name.partition("/")[0] if flow.sender.kind == "pod" else "default"
    labels = flow.address.rstrip(".").split(".")
    known = ("svc", *cluster.config.cluster_domain.split("."))
    if labels[2:] == list(known[: len(labels[2:])]):
        service = cluster.service(f"{labels[1] if len(labels) > 1 else namespace}/{labels[0]}")
        if service is not None and service.cluster_ips:
            return service.cluster_ips[0], f"{flow.address} is svc/{service.key}"
    return None, f"{flow.address} is a name, and only its resolver knows what it stands for"


def _door(
    cluster: Cluster, context: PolicyContext, address: IPAddress, flow: Flow
) -> tuple[Service, ServicePort, Node | None] | None:
    """The Service port that is reached at an address, and the node when it is a NodePort of that."""
    protocol = policy_protocol(flow)
    node = context.owners.party(address)
    for service in cluster.services:
        virtual = (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
        for port in _ports(service, protocol):
            if address in virtual and port.port == flow.port:
                return service, port, None
            if node.node and node.pod is None and port.node_port and port.node_port == flow.port:
                return service, port, cluster.node(node.node)
    return None


def _ports(service: Service, protocol: str) -> Sequence[ServicePort]:
    return [port for port in service.ports if port.protocol == protocol] if service.proxied() else []


# --- Beside what the packet did ---------------------------------------------------------------------------------------


def agrees(given: Explanation, result: Result) -> bool | None:
    """Whether the packet did as policies say; None when that cannot be told. To be refused by the server is to be let
    through, for a policy drops in silence; by a router it tells nothing. Silence where policies allow may have another
    reason, but is not what they say."""
    unreached = result.outcome == "refused" and "ICMP" in result.reason and given.expected == "denied"
    if result.outcome == "error" or unreached or given.expected in ("some", "open"):
        return None
    return (result.outcome == "timeout") == (given.expected == "denied")


def explained(given: Explanation, result: Result) -> str:
    """The reason of a result with what the policies say to it, where they have a part in it."""
    if not given.decided or result.outcome == "error":
        return result.reason
    match agrees(given, result):
        case False if given.expected == "denied":
            said = f"NOT enforced: {given.reason}"
        case False:
            said = f"no policy denies it: {given.reason}"
        case None if given.expected == "some":
            said = f"not every endpoint may be reached: {given.reason}"
        case None:
            said = ""
        case _:
            said = given.reason
    return ": ".join(text for text in (result.reason, said) if text)
