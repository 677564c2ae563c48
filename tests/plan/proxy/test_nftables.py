"""kube-proxy's nftables mode: names, the reference scenario, both layouts in a real kernel, and small deltas."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.kernel.nft_listing import parse_listing
from k8snetlab.lab.diff import diff
from k8snetlab.plan.build import build
from k8snetlab.plan.proxy.nft_draft import addresses_text
from k8snetlab.plan.proxy.nft_names import endpoint_base, port_base
from k8snetlab.plan.proxy.nft_script import NftObject, making
from k8snetlab.plan.shell import script
from k8snetlab.plan.state import NftChain, NftElement, NftSet, NftTable, Plan
from k8snetlab.plan.text import describe

HERE = Path(__file__).parent
Resolved = Callable[..., Cluster]
LAYOUTS = ("kube-proxy", "flat")


def six_services(layout: str) -> str:
    text = (HERE / "six-services.yaml").read_text()
    return text.replace("  nodes: 1\n", f"  nodes: 1\n  kubeProxyMode: nftables\n  nftablesLayout: {layout}\n")


def nftables_of(plan: Plan, netns: str = "node1") -> list[NftObject]:
    return [
        obj for obj in plan.objects if isinstance(obj, NftTable | NftSet | NftChain | NftElement) and obj.netns == netns
    ]


def chains_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {obj.name: obj.rules for obj in nftables_of(plan) if isinstance(obj, NftChain)}


def elements_of(plan: Plan, container: str) -> dict[str, str]:
    return {obj.key: obj.value for obj in nftables_of(plan) if isinstance(obj, NftElement) and obj.set == container}


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "port", "endpoint", "ip"),
    [
        (1, "ULMVA6XW", "5OJB2KTY", "10.180.0.1"),
        (2, "42NFTM6N", "SGOXE6O3", "10.180.0.2"),
        (3, "4AT6LBPK", "UEIP74TE", "10.180.0.3"),
        (4, "LAUZTJTB", "UNZV3OEC", "10.180.0.4"),
        (4, "LAUZTJTB", "5RFCDDV7", "10.180.0.5"),
        (5, "HVFWP5L3", "GTK6MW7G", "10.180.0.3"),
    ],
)
def test_names_are_kube_proxys(number: int, port: str, endpoint: str, ip: str) -> None:
    """Conformance 4.4, the nftables equivalents."""
    plain = f"ns{number}/svc{number}/tcp/p80"
    assert port_base(f"ns{number}", f"svc{number}", "tcp", "p80") == f"{port}-{plain}"
    found = endpoint_base(f"ns{number}", f"svc{number}", "tcp", "p80", ip, 80)
    assert found == f"{endpoint}-{plain}__{ip}/80"


def test_a_port_without_a_name_leaves_a_slash() -> None:
    assert port_base("ns", "svc", "udp", "").endswith("-ns/svc/udp/")


def test_an_ipv6_address_has_dots_in_a_name() -> None:
    assert endpoint_base("ns", "svc", "tcp", "p", "fd00::1", 80).endswith("-ns/svc/tcp/p__fd00..1/80")


def test_a_long_name_is_cut_and_still_its_own() -> None:
    names = {
        endpoint_base("n" * 63, "s" * 63, "sctp", "p" * 63, f"fd00:1111:2222:3333:4444:5555:6666:{n}", 65535)
        for n in (1, 2)
    }
    assert {len(name) for name in names} == {240}
    assert all(name.endswith("...") for name in names)
    assert len(names) == 2


# --- the reference scenario -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_six_services_are_golden(resolved: Resolved, is_golden: Callable[[str, str], None], layout: str) -> None:
    objects = nftables_of(build(resolved(six_services(layout))))
    is_golden(f"six-services-{layout}.nft", "".join(f"{line}\n" for line in making(objects)))


def test_the_six_services_of_kube_proxys_own_test(resolved: Resolved) -> None:
    """Conformance 4.4: what must be there and, as much, what must not."""
    plan = build(resolved(six_services("kube-proxy")))
    chains = chains_of(plan)
    assert Counter(name.partition("-")[0] for name in chains if "/" in name) == {
        "service": 5, "external": 4, "endpoint": 6, "firewall": 1,
    }  # fmt: skip
    svc1, svc2 = "service-ULMVA6XW-ns1/svc1/tcp/p80", "service-42NFTM6N-ns2/svc2/tcp/p80"
    assert chains[svc1] == (
        "ip daddr 172.30.0.41 ip saddr != 10.0.0.0/8 jump mark-for-masquerade",
        "numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 }",
    )
    # No endpoint of ns2/svc2 is local: only what is short-circuited gets through.
    assert [rule.split(" comment ")[0] for rule in chains["external-42NFTM6N-ns2/svc2/tcp/p80"]] == [
        f"ip saddr 10.0.0.0/8 goto {svc2}",
        "fib saddr type local jump mark-for-masquerade",
        f"fib saddr type local goto {svc2}",
    ]
    assert elements_of(plan, "no-endpoint-nodeports") == {"tcp . 3001": "drop"}
    assert elements_of(plan, "no-endpoint-services") == {
        "1.2.3.4 . tcp . 80": "drop",
        "192.168.99.22 . tcp . 80": "drop",
        "172.30.0.46 . tcp . 80": "goto reject-chain",
    }
    assert {obj.comment for obj in nftables_of(plan) if isinstance(obj, NftElement) and obj.comment} == {
        "ns2/svc2:p80", "ns6/svc6:p80",
    }  # fmt: skip
    assert set(elements_of(plan, "cluster-ips")) == {f"172.30.0.4{number}" for number in range(1, 7)}
    assert set(elements_of(plan, "service-nodeports")) == {"tcp . 3001", "tcp . 3002", "tcp . 3003"}
    assert set(elements_of(plan, "nodeport-ips")) == {"192.168.0.2"}
    assert chains["firewall-HVFWP5L3-ns5/svc5/tcp/p80"] == ("ip saddr != 203.0.113.0/25 drop",)
    assert elements_of(plan, "firewall-ips") == {"5.6.7.8 . tcp . 80": "goto firewall-HVFWP5L3-ns5/svc5/tcp/p80"}
    sticky = [obj for obj in nftables_of(plan) if isinstance(obj, NftSet) and obj.flags]
    assert [(obj.name, obj.flags, obj.timeout) for obj in sticky] == [
        ("affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80", "dynamic,timeout", 10800)
    ]


def test_the_flat_layout_has_no_chain_for_a_plain_service(resolved: Resolved) -> None:
    chains = chains_of(build(resolved(six_services("flat"))))
    assert {name.partition("/")[0] for name in chains if "/" in name} == {
        "service-HVFWP5L3-ns5", "external-HVFWP5L3-ns5", "endpoint-GTK6MW7G-ns5", "firewall-HVFWP5L3-ns5",
    }  # fmt: skip


# --- what nft prints is what was planned ------------------------------------------------------------------------------

MIXED = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2, ipFamily: dual, kubeProxyMode: nftables, nftablesLayout: {layout}{lab}}}
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
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {{app: web}}
  externalTrafficPolicy: {policy}
  externalIPs: [192.0.2.7, "2001:db8::7"]
  loadBalancerSourceRanges: [{ranges}]
  ports:
  - {{name: http, port: 80}}
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: sctp, port: 9999, protocol: SCTP}}
---
apiVersion: v1
kind: Service
metadata: {{name: sticky}}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {{app: web}}
  internalTrafficPolicy: {policy}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout}}}}}
  ports: [{{port: 80}}]
---
apiVersion: v1
kind: Service
metadata: {{name: empty}}
spec: {{type: NodePort, ipFamilyPolicy: RequireDualStack, selector: {{app: none}}, ports: [{{port: 80}}]}}
"""


def mixed(
    layout: str, *, lab: str = "", replicas: int = 3, policy: str = "Local", timeout: int = 86399, ranges: str = ""
) -> str:
    ranges = ranges or '10.0.0.0/8, 203.0.113.7/32, 172.18.0.0/24, 172.18.1.0/25, "2001:db8:1::/64", "fd00::/8"'
    return MIXED.format(layout=layout, lab=lab, replicas=replicas, policy=policy, timeout=timeout, ranges=ranges)


@pytest.mark.root
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="local"),
        pytest.param({"policy": "Cluster"}, id="cluster"),
        pytest.param({"lab": ", masqueradeAll: true, nodePortAddresses: [0.0.0.0/0, '::/0']"}, id="all addresses"),
        pytest.param({"lab": ", nodePortAddresses: [172.18.0.0/16]"}, id="chosen addresses"),
        pytest.param({"ranges": "0.0.0.0/0, '::/0'"}, id="everybody"),
        pytest.param({"replicas": 0}, id="no endpoints"),
        pytest.param({"timeout": 10}, id="short affinity"),
    ],
)
def test_nft_prints_what_was_planned(resolved: Resolved, layout: str, options: dict[str, str]) -> None:
    """The same words both ways, so that nothing differs when nothing has changed; comments included."""
    planned = nftables_of(build(resolved(mixed(layout, **options))))  # type: ignore[arg-type]
    text = "".join(f"{line}\n" for line in making(planned))
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", "nft -f - && nft --numeric-priority --stateless list ruleset"],
        input=text, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(parse_listing("node1", done.stdout)) == set(planned)


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        pytest.param((), "", id="none"),
        pytest.param(("203.0.113.7/32",), "203.0.113.7", id="an address"),
        pytest.param(("10.0.0.0/24", "10.0.0.128/25"), "10.0.0.0/24", id="one within the other"),
        pytest.param(("10.0.1.0/24", "10.0.0.0/24"), "10.0.0.0/23", id="two that make one"),
        pytest.param(("10.0.0.0/24", "10.0.1.0/25"), "10.0.0.0-10.0.1.127", id="two that touch"),
        pytest.param(("2.2.2.2/32", "1.1.1.0/24"), "{ 1.1.1.0/24, 2.2.2.2 }", id="two apart"),
        pytest.param(("fd00::/64", "fd00:0:0:1::/65"), "fd00::-fd00::1:7fff:ffff:ffff:ffff", id="IPv6"),
    ],
)
def test_networks_as_nft_prints_them(networks: tuple[str, ...], expected: str) -> None:
    assert addresses_text([ip_network(network) for network in networks]) == expected


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        pytest.param(NftTable("n", 6, "t", "why"), "n: nft table ip6 t", id="table"),
        pytest.param(
            NftSet("n", 4, "t", "s", "map", "type mark : verdict", "timeout", 5, "why"),
            'n: nft ip t map s { type mark : verdict; flags timeout; timeout 5s; comment "why" }',
            id="map",
        ),
        pytest.param(
            NftElement("n", 4, "t", "s", "1", "drop", "x"),
            'n: nft ip t element s { 1 comment "x" : drop }',
            id="element",
        ),
        pytest.param(NftElement("n", 4, "t", "s", "1"), "n: nft ip t element s { 1 }", id="element of a set"),
        pytest.param(
            NftChain("n", 4, "t", "c", ("drop",), "hook;"), "n: nft ip t chain c\n    hook;\n    drop", id="chain"
        ),
    ],
)
def test_objects_are_described_in_the_words_of_nft(obj: NftObject, text: str) -> None:
    assert describe(obj) == text


# --- deltas -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "most"), [("kube-proxy", 8), ("flat", 24)])
def test_scaling_one_service_touches_few_objects(resolved: Resolved, layout: str, most: int) -> None:
    """Of 200 Services one gets another endpoint: on each node its own chains or elements change, nothing else."""
    others = "".join(
        f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: other-{number}}}\n"
        f"spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}\n"
        for number in range(200)
    )
    cluster = resolved(mixed(layout) + others)
    service = next(service for service in cluster.services if service.name == "other-7")
    endpoint = replace(service.ports[0].endpoints[0], port=81)
    port = replace(service.ports[0], endpoints=(*service.ports[0].endpoints, endpoint))
    services = tuple(replace(item, ports=(port,)) if item is service else item for item in cluster.services)
    drift = diff(build(replace(cluster, services=services)), build(cluster).objects)
    assert 0 < len(drift.missing) + len(drift.extra) <= most
    assert all("other-7" in str(obj) or "cluster-ip-" in str(obj) for obj in (*drift.missing, *drift.extra))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_two_services_with_one_external_address_the_first_has_it(resolved: Resolved, layout: str) -> None:
    second = """
---
apiVersion: v1
kind: Service
metadata: {name: zz}
spec: {externalIPs: [192.0.2.7], selector: {app: web}, ports: [{name: http, port: 80}]}
"""
    alone, both = (build(resolved(mixed(layout) + text)) for text in ("", second))
    key = "192.0.2.7 . tcp . 80"
    assert elements_of(both, "service-ips")[key] == elements_of(alone, "service-ips")[key]
    identities = Counter((obj.family, obj.set, obj.key) for obj in nftables_of(both) if isinstance(obj, NftElement))
    assert set(identities.values()) == {1}


def test_the_script_feeds_nft_once_a_node_and_family(resolved: Resolved) -> None:
    plan = build(resolved(mixed("kube-proxy")))
    text = script(plan, "lab")
    fed = text.split(" nft -f - <<'RULES'\n")[1:]
    assert len(fed) == 4
    lines = [line for part in fed for line in part.split("\nRULES\n")[0].splitlines()]
    assert Counter(lines) == Counter(line for netns in ("node1", "node2") for line in making(nftables_of(plan, netns)))
