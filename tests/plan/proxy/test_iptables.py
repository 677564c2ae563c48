"""kube-proxy's iptables mode: names, the reference scenario, large clusters, node port addresses, and a real kernel."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.proxy.chains import chain_hash, endpoint_text, port_name
from k8snetlab.plan.proxy.service_rules import probability
from k8snetlab.plan.state import IptablesChain, Plan, Sysctl

HERE = Path(__file__).parent
Resolved = Callable[..., Cluster]
Chain = tuple[str, str]  # table, name


def chains_of(plan: Plan, netns: str = "node1", family: int = 4) -> dict[Chain, tuple[str, ...]]:
    return {
        (obj.table, obj.name): obj.rules
        for obj in plan.objects
        if isinstance(obj, IptablesChain) and (obj.netns, obj.family) == (netns, family)
    }


@pytest.mark.parametrize(
    ("port", "protocol", "endpoint", "expected"),
    [
        pytest.param(port_name("ns1", "svc1", "p80"), "tcp", "", "XPGD46QRK7WJZT7O", id="port"),
        pytest.param(port_name("ns1", "svc1", "p80"), "tcp", "10.180.0.1:80", "SXIVWICOYRO3J4NJ", id="endpoint"),
        pytest.param(port_name("ns4", "svc4", "p80"), "tcp", "10.180.0.5:80", "C6EBXVWJJZMIWKLZ", id="other endpoint"),
        pytest.param(port_name("default", "kubernetes", "https"), "tcp", "", "NPX46M4PTMTKRN6Y", id="kubernetes"),
        pytest.param(port_name("kube-system", "kube-dns", "dns"), "udp", "", "TCOU7JCQXEZGVUNU", id="UDP"),
        pytest.param(port_name("kube-system", "kube-dns", "dns-tcp"), "tcp", "", "ERIFXISQEP7F7OF4", id="dns-tcp"),
        pytest.param(port_name("default", "web", ""), "tcp", "", "LOLE4ISW44XBNF3G", id="port without a name"),
    ],
)
def test_hash_is_what_real_clusters_show(port: str, protocol: str, endpoint: str, expected: str) -> None:
    assert chain_hash(port, protocol, endpoint) == expected


def test_an_ipv6_endpoint_is_bracketed() -> None:
    assert endpoint_text("fd00::1", 80, 6) == "[fd00::1]:80"


# --- the reference scenario -------------------------------------------------------------------------------------------


def meaning(rule: str) -> frozenset[tuple[str, ...]]:
    """A rule without regard to the order of its options, nor to what only `iptables-save` spells out."""
    words = iter(shlex.split(rule))
    found: set[tuple[str, ...]] = set()
    negation: tuple[str, ...] = ()
    option: list[str] = []
    for word in words:
        if word == "!":
            negation = ("!",)
        elif word.startswith("-"):
            if option:
                found.add(tuple(option))
            option, negation = [*negation, word], ()
        else:
            option.append(word)
    found.add(tuple(option))
    spelt_out = {("--rsource",), ("--mask", "255.255.255.255"), ("--reject-with", "icmp-port-unreachable")}
    same: dict[tuple[str, ...], tuple[str, ...]] = {
        ("--or-mark", "0x4000"): ("--set-xmark", "0x4000/0x4000"),
        ("--xor-mark", "0x4000"): ("--set-xmark", "0x4000/0x0"),
        ("--probability", "0.5000000000"): ("--probability", "0.50000000000"),
    }
    found = {same.get(item, item) for item in found}
    return frozenset(tuple(word.removesuffix("/32") for word in item) for item in found - spelt_out)


def reference() -> Iterator[tuple[Chain, str]]:
    table = ""
    for line in (HERE / "six-services.rules").read_text().splitlines():
        if line.startswith("*"):
            table = line[1:]
        else:
            _, name, rule = line.split(" ", 2)
            yield (table, name), rule


def test_the_six_services_of_kube_proxys_own_test(resolved: Resolved) -> None:
    chains = chains_of(build(resolved((HERE / "six-services.yaml").read_text())))
    expected: dict[Chain, list[frozenset[tuple[str, ...]]]] = {}
    for chain, rule in reference():
        expected.setdefault(chain, []).append(meaning(rule))
    built_in = {"INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING", "IP-MASQ", "KUBE-PROXY-CANARY"}
    found = {chain: list(map(meaning, rules)) for chain, rules in chains.items() if rules and chain[1] not in built_in}
    unordered = {"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS"}  # kube-proxy walks a Go map
    assert found.keys() == expected.keys()
    for chain, rules in expected.items():
        if chain[1] in unordered:
            assert Counter(found[chain]) == Counter(rules), chain
        else:
            assert found[chain] == rules, chain
    assert "must be the last rule" in chains["nat", "KUBE-SERVICES"][-1]


# --- variants ---------------------------------------------------------------------------------------------------------

WEB = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2{lab}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: web}}
spec:
  replicas: {replicas}
  serviceName: web
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80}}]{service}}}
"""
WEB_HASH = "LOLE4ISW44XBNF3G"


def web(replicas: int = 2, lab: str = "", service: str = "") -> str:
    return WEB.format(replicas=replicas, lab=lab, service=service)


@pytest.mark.parametrize(
    ("lab", "family", "expected"),
    [
        pytest.param("", 4, ["-m addrtype --dst-type LOCAL"], id="all"),
        pytest.param(", ipFamily: ipv6", 6, ["! -d ::1/128 -m addrtype --dst-type LOCAL"], id="IPv6, never on ::1"),
        pytest.param(", nodePortAddresses: [0.0.0.0/0]", 4, ["-m addrtype --dst-type LOCAL"], id="all, spelt out"),
        pytest.param(", nodePortAddresses: [172.18.0.0/16]", 4, ["-d 172.18.0.2/32"], id="node subnet"),
        pytest.param(
            ", nodePortAddresses: [10.244.0.0/16, 127.0.0.0/8]", 4, ["-d 127.0.0.1/32", "-d 10.244.0.1/32"], id="two"
        ),
        pytest.param(", nodePortAddresses: ['fd00::/8']", 4, ["-m addrtype --dst-type LOCAL"], id="other family only"),
    ],
)
def test_node_port_addresses(resolved: Resolved, lab: str, family: int, expected: list[str]) -> None:
    plan = build(resolved(web(lab=lab)))
    comment = ' -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain"'
    rules = [rule for rule in chains_of(plan, family=family)["nat", "KUBE-SERVICES"] if "NOTE" in rule]
    plain = [f" {rule}".replace(comment, "").removesuffix(" -j KUBE-NODEPORTS").strip() for rule in rules]
    assert plain == expected


@pytest.mark.parametrize(
    ("lab", "open_to_loopback"),
    [
        pytest.param("", True, id="all addresses"),
        pytest.param(", nodePortAddresses: [172.18.0.0/16]", False, id="loopback left out"),
        pytest.param(", nodePortAddresses: [127.0.0.0/8]", True, id="loopback only"),
        pytest.param(", ipFamily: ipv6", False, id="no IPv4"),
    ],
)
def test_localhost_node_ports_need_route_localnet_and_a_guard(
    resolved: Resolved, lab: str, open_to_loopback: bool
) -> None:
    plan = build(resolved(web(lab=lab)))
    sysctl = Sysctl("node1", "net.ipv4.conf.all.route_localnet", "1")
    assert (sysctl in plan.objects) == open_to_loopback
    guard = chains_of(plan, family=6 if "ipv6" in lab else 4)["filter", "KUBE-FIREWALL"]
    assert bool(guard) == open_to_loopback


def more(*names: str) -> str:
    """Other Services for the same pods."""
    service = (
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n"
    )
    return "".join(service % name for name in names)


@pytest.mark.parametrize(("replicas", "comments"), [pytest.param(250, 1, id="1000"), pytest.param(251, 0, id="1004")])
def test_above_a_thousand_endpoints_rules_to_endpoints_have_no_comments(
    resolved: Resolved, replicas: int, comments: int
) -> None:
    text = web(replicas=replicas) + more("a", "b", "c")
    chains = chains_of(build(resolved(text)))
    assert len(chains["nat", f"KUBE-SVC-{WEB_HASH}"]) == replicas + 1
    endpoint = next(rules for (_, name), rules in chains.items() if name.startswith("KUBE-SEP-"))
    assert [rule.count("--comment") for rule in endpoint] == [comments, comments]
    assert chains["nat", f"KUBE-SVC-{WEB_HASH}"][1].count("--comment") == comments
    assert "--comment" in chains["nat", f"KUBE-EXT-{WEB_HASH}"][0]  # the others keep theirs


@pytest.mark.parametrize("endpoints", [1, 2, 3, 7])
def test_every_endpoint_is_as_likely_as_any_other(resolved: Resolved, endpoints: int) -> None:
    rules = chains_of(build(resolved(web(replicas=endpoints))))["nat", f"KUBE-SVC-{WEB_HASH}"][1:]
    left, shares = 1.0, []
    for rule in rules:
        words = rule.split()
        chance = float(words[words.index("--probability") + 1]) if "--probability" in words else 1.0
        shares.append(left * chance)
        left *= 1 - chance
    assert len(shares) == endpoints
    assert shares == pytest.approx([1 / endpoints] * endpoints, rel=1e-6)
    assert "--probability" not in rules[-1]


@pytest.mark.parametrize(
    ("left", "expected"), [(2, "0.50000000000"), (3, "0.33333333349"), (10, "0.10000000009"), (7, "0.14285714272")]
)
def test_probability_is_as_the_kernel_keeps_it(left: int, expected: str) -> None:
    assert probability(left) == expected


def test_only_usable_endpoints_have_chains(resolved: Resolved) -> None:
    """With internalTrafficPolicy Local and no way in from outside, a node knows its own endpoints only."""
    text = web(replicas=4, service=", internalTrafficPolicy: Local").replace("type: NodePort, ", "")
    for node, prefix in (("node1", "10.244.0."), ("node2", "10.244.1.")):
        chains = chains_of(build(resolved(text)), node)
        targets = [rules[1].split()[-1] for (_, name), rules in chains.items() if name.startswith("KUBE-SEP-")]
        assert len(targets) == 2
        assert all(target.startswith(prefix) for target in targets)
        assert ("nat", f"KUBE-SVC-{WEB_HASH}") not in chains
        assert ("nat", f"KUBE-SVL-{WEB_HASH}") in chains


@pytest.mark.parametrize(
    "labels",
    ["{service.kubernetes.io/service-proxy-name: other}", "{service.kubernetes.io/headless: ''}"],
)
def test_services_that_are_not_for_kube_proxy_leave_no_rule(resolved: Resolved, labels: str) -> None:
    text = web().replace(
        "kind: Service\nmetadata: {name: web}", f"kind: Service\nmetadata: {{name: web, labels: {labels}}}"
    )
    assert not any("default/web" in rule for rules in chains_of(build(resolved(text))).values() for rule in rules)


# --- a real kernel ----------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize(
    "name",
    ["one-pod", "services", "vxlan", "dual-stack-vxlan", "six", "large", "masquerade-all", "addresses", "seven"],
)
def test_the_kernel_prints_the_rules_as_planned(
    name: str,
    resolved: Resolved,
    golden_cluster: Callable[[str], Cluster],
    restored: Callable[..., frozenset[IptablesChain]],
) -> None:
    texts = {
        "six": (HERE / "six-services.yaml").read_text(),
        "large": web(replicas=253) + more("a", "b", "c"),
        "masquerade-all": web(lab=", masqueradeAll: true"),
        "addresses": web(lab=", nodePortAddresses: [172.18.0.0/16, 127.0.0.0/8], ipFamily: dual"),
        "seven": web(replicas=7),
    }
    cluster = resolved(texts[name]) if name in texts else golden_cluster(name)
    chains = [obj for obj in build(cluster).objects if isinstance(obj, IptablesChain)]
    assert chains
    for (_netns, _family), group in groupby(chains, lambda obj: (obj.netns, obj.family)):
        planned = list(group)
        assert restored(planned) == frozenset(planned)
