"""A second reading of the policy APIs, as naive as can be: over plain data, pair by pair, nothing precomputed.

It shares no line with the oracle, so that a mistake would have to be made twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class End:
    """A pod (`namespace` set), a node, or an address outside."""

    ip: str
    namespace: str = ""
    namespace_labels: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    ports: tuple[tuple[str, str, int], ...] = ()  # name, protocol, number
    node: str = ""
    node_labels: tuple[tuple[str, str], ...] = ()


def selects(selector: Json, labels: tuple[tuple[str, str], ...]) -> bool:
    have = dict(labels)
    for key, value in selector.get("matchLabels", {}).items():
        if key not in have or have[key] != value:
            return False
    for term in selector.get("matchExpressions", []):
        key, values = term["key"], term.get("values", [])
        if term["operator"] == "In" and not (key in have and have[key] in values):
            return False
        if term["operator"] == "NotIn" and key in have and have[key] in values:
            return False
        if term["operator"] == "Exists" and key not in have:
            return False
        if term["operator"] == "DoesNotExist" and key in have:
            return False
    return True


def contains(cidr: str, address: str) -> bool:
    network, ip = ip_network(cidr, strict=False), ip_address(address)
    return network.version == ip.version and ip in network


# --- networking.k8s.io/v1 ---------------------------------------------------------------------------------------------


def peer_matches(peer: Json, namespace: str, end: End) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return contains(block["cidr"], end.ip) and not any(contains(each, end.ip) for each in block.get("except", []))
    if end.namespace == "":
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], end.namespace_labels):
            return False
    elif end.namespace != namespace:
        return False
    return "podSelector" not in peer or selects(peer["podSelector"], end.labels)


def port_matches(port: Json, destination: End, protocol: str, number: int) -> bool:
    if port.get("protocol", "TCP") != protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return (wanted, protocol, number) in destination.ports
    if "endPort" in port:
        return bool(wanted <= number <= port["endPort"])
    return bool(number == wanted)


def rule_matches(rule: Json, key: str, namespace: str, peer: End, destination: End, protocol: str, number: int) -> bool:
    peers, ports = rule.get(key) or [], rule.get("ports") or []
    if peers and not any(peer_matches(each, namespace, peer) for each in peers):
        return False
    return not ports or any(port_matches(each, destination, protocol, number) for each in ports)


def types_of(spec: Json) -> list[str]:
    if spec.get("policyTypes"):
        return list(spec["policyTypes"])
    return ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


# --- policy.networking.k8s.io/v1alpha2 --------------------------------------------------------------------------------


def chosen(choice: Json, end: End) -> bool:
    if end.namespace == "":
        return False
    if "namespaces" in choice:
        return selects(choice["namespaces"], end.namespace_labels)
    pods = choice["pods"]
    return selects(pods.get("namespaceSelector", {}), end.namespace_labels) and selects(pods["podSelector"], end.labels)


def admin_peer_matches(peer: Json, end: End) -> bool:
    if "networks" in peer:
        return any(contains(each, end.ip) for each in peer["networks"])
    if "nodes" in peer:
        return end.namespace == "" and end.node != "" and selects(peer["nodes"], end.node_labels)
    return chosen(peer, end)


def admin_port_matches(port: Json, destination: End, protocol: str, number: int) -> bool:
    if "destinationNamedPort" in port:
        return (port["destinationNamedPort"], protocol, number) in destination.ports
    if protocol.lower() not in port:
        return False
    wanted = port[protocol.lower()]["destinationPort"]
    if "number" in wanted:
        return bool(wanted["number"] == number)
    return bool(wanted["range"]["start"] <= number <= wanted["range"]["end"])


def admin_rule_matches(rule: Json, key: str, peer: End, destination: End, protocol: str, number: int) -> bool:
    if not any(admin_peer_matches(each, peer) for each in rule[key]):
        return False
    if "protocols" not in rule:
        return True
    return any(admin_port_matches(each, destination, protocol, number) for each in rule["protocols"])


# --- The verdict ------------------------------------------------------------------------------------------------------


def tier_says(policies: list[Json], tier: str, way: str, subject: End, *flow: Any) -> str:
    key = "from" if way == "ingress" else "to"
    mine = [p for p in policies if p["kind"] == "ClusterNetworkPolicy" and p["spec"]["tier"] == tier]
    for policy in sorted(mine, key=lambda each: (each["spec"]["priority"], each["metadata"]["name"])):
        if chosen(policy["spec"]["subject"], subject):
            for rule in policy["spec"].get(way, []):
                if admin_rule_matches(rule, key, *flow):
                    return str(rule["action"])
    return ""


def one_way(policies: list[Json], way: str, source: End, destination: End, protocol: str, number: int) -> bool:
    subject, peer = (destination, source) if way == "ingress" else (source, destination)
    if subject.namespace == "":
        return True
    flow = (peer, destination, protocol, number)
    said = tier_says(policies, "Admin", way, subject, *flow)
    if said in ("Accept", "Deny"):
        return said == "Accept"
    isolated = allowed = False
    for policy in policies:
        if policy["kind"] != "NetworkPolicy" or policy["metadata"]["namespace"] != subject.namespace:
            continue
        spec = policy["spec"]
        if way.title() in types_of(spec) and selects(spec.get("podSelector", {}), subject.labels):
            isolated = True
            for rule in spec.get(way) or []:
                key = "from" if way == "ingress" else "to"
                allowed = allowed or rule_matches(rule, key, subject.namespace, *flow)
    if isolated:
        return allowed
    return tier_says(policies, "Baseline", way, subject, *flow) != "Deny"


def allowed(policies: list[Json], source: End, destination: End, protocol: str, number: int) -> bool:
    if source == destination:
        return True
    if source.node and source.node == destination.node and "" in (source.namespace, destination.namespace):
        return True
    ways = ("egress", "ingress")
    return all(one_way(policies, way, source, destination, protocol, number) for way in ways)
