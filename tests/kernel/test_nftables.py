"""nftables of a namespace: transactions in a real kernel, what nft prints, what is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from textwrap import dedent

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.errors import KernelError
from k8snetlab.kernel import netns, nftables, processes, syscalls
from k8snetlab.kernel.nft_listing import NftObject, parse_listing
from k8snetlab.lab.diff import diff
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.state import NftChain, NftElement, NftSet, NftTable, Plan

HOOK = "type filter hook input priority 0; policy accept;"
LAYOUTS = ("kube-proxy", "flat")


@pytest.fixture(name="own_namespace")
def own_namespace_fixture() -> Iterator[None]:
    """The test's thread in a network namespace without a name, which dies with the test."""
    with netns.returning():
        syscalls.unshare(syscalls.CLONE_NEWNET)
        yield


def here() -> frozenset[NftObject]:
    """What the namespace has, as namespace `n`."""
    commands = [nftables.list_command("", key) for key in nftables.tables("n")]
    return frozenset(item for done in processes.run_many(commands) for item in nftables.parse_listed("n", done))


def change(planned: Iterable[NftObject], before: Iterable[NftObject]) -> tuple[NftObject, ...]:
    """Bring the namespace from one state to another by the difference alone, which is returned."""
    planned, before = tuple(planned), tuple(before)
    drift = diff(Plan(planned), before)
    missing = [item for item in drift.missing if isinstance(item, NftTable | NftSet | NftChain | NftElement)]
    extra = [item for item in drift.extra if isinstance(item, NftTable | NftSet | NftChain | NftElement)]
    nftables.apply("", missing, extra, planned)
    return (*missing, *extra)


# --- a cluster through its life ---------------------------------------------------------------------------------------

SHOP = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2, kubeProxyMode: nftables, nftablesLayout: {layout}, nodePortAddresses: [{addresses}]}}
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
spec: {{type: LoadBalancer, selector: {{app: {app}}}, loadBalancerSourceRanges: [{ranges}], ports: [{{port: {port}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: sticky}}
spec:
  type: NodePort
  selector: {{app: web}}
  externalTrafficPolicy: {policy}
  sessionAffinity: ClientIP
  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout}}}}}
  ports: [{{port: 80}}]
"""
DEFAULTS: dict[str, object] = {
    "layout": "kube-proxy", "addresses": "", "replicas": 3, "app": "web", "ranges": "203.0.113.0/24", "port": 80,
    "policy": "Cluster", "timeout": 100,
}  # fmt: skip


def shop(**changed: object) -> Cluster:
    return resolve(load_text(SHOP.format(**(DEFAULTS | changed)).encode(), "t.yaml"), Overrides())


def planned(cluster: Cluster) -> tuple[NftObject, ...]:
    return tuple(
        replace(obj, netns="n")
        for obj in build(cluster).objects
        if isinstance(obj, NftTable | NftSet | NftChain | NftElement) and obj.netns == "node1"
    )


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"replicas": 5}, id="scaled up"),
        pytest.param({"replicas": 1}, id="scaled down"),
        pytest.param({"replicas": 0}, id="no endpoints left"),
        pytest.param({"app": "none"}, id="another selector"),
        pytest.param({"port": 81}, id="another port"),
        pytest.param({"timeout": 5}, id="another affinity timeout"),
        pytest.param({"timeout": 5, "replicas": 2}, id="another affinity timeout and scaled down"),
        pytest.param({"policy": "Local"}, id="another policy"),
        pytest.param({"ranges": "203.0.113.0/24, 192.0.2.0/24"}, id="another range"),
        pytest.param({"ranges": ""}, id="no range"),
        pytest.param({"addresses": "0.0.0.0/0"}, id="node ports on all addresses"),
    ],
)
def test_a_change_and_its_undoing_by_the_difference_alone(layout: str, changed: dict[str, object]) -> None:
    before, after = planned(shop(layout=layout)), planned(shop(layout=layout, **changed))
    change(before, ())
    assert here() == set(before)
    change(after, before)
    assert here() == set(after)
    change(before, after)
    assert here() == set(before)


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_from_one_layout_to_the_other() -> None:
    chained, flat = planned(shop()), planned(shop(layout="flat"))
    change(chained, ())
    change(flat, chained)
    assert here() == set(flat)
    change(chained, flat)
    assert here() == set(chained)


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_all_of_it_goes() -> None:
    change(planned(shop()), ())
    change((), here())
    assert nftables.tables("n") == ()


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_drift_is_mended() -> None:
    wanted = planned(shop())
    change(wanted, ())
    chain = next(obj.name for obj in wanted if isinstance(obj, NftChain) and obj.name.startswith("endpoint-"))
    nft(f"""
        flush chain ip kube-proxy {chain}
        flush map ip kube-proxy service-ips
        add element ip kube-proxy cluster-ips {{ 10.96.9.9 }}
        add chain ip kube-proxy foreign
        add rule ip kube-proxy services jump foreign
        add table ip6 foreign
    """)
    assert len(change(wanted, here())) > 5
    assert here() == set(wanted)


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_clients_are_remembered_through_changes_of_other_services() -> None:
    wanted = planned(shop())
    change(wanted, ())
    affinity = next(obj.name for obj in wanted if isinstance(obj, NftSet) and obj.flags)
    nft(f"add element ip kube-proxy {affinity} {{ 10.244.0.99 }}")
    after = planned(shop(port=81))
    assert change(after, here())
    assert here() == set(after)
    assert "10.244.0.99" in nft(f"list set ip kube-proxy {affinity}")


# --- single objects ---------------------------------------------------------------------------------------------------

TABLE = NftTable("n", 4, "t", "first")
BASE = NftChain("n", 4, "t", "base", ("ip saddr @s jump regular", "ip saddr vmap @m"), HOOK)
SMALL: tuple[NftObject, ...] = (
    TABLE,
    NftSet("n", 4, "t", "s", "set", "type ipv4_addr", comment="addresses"),
    NftSet("n", 4, "t", "m", "map", "type ipv4_addr : verdict"),
    BASE,
    NftChain("n", 4, "t", "regular", ('drop comment "a, b"',), comment="why"),
    NftElement("n", 4, "t", "s", "10.0.0.1", comment="ns/name:port"),
    NftElement("n", 4, "t", "m", "10.0.0.1", "goto regular", "x, y"),
)
# Without the regular chain and what leads to it.
SMALLER: tuple[NftObject, ...] = (*SMALL[:3], replace(BASE, rules=("ip saddr vmap @m",)), SMALL[5])


def changed(old: NftObject, **values: object) -> tuple[NftObject, ...]:
    return tuple(replace(old, **values) if item == old else item for item in SMALL)  # type: ignore[arg-type]


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
@pytest.mark.parametrize(
    "after",
    [
        pytest.param(changed(SMALL[0], comment="second"), id="the table's comment"),
        pytest.param(changed(SMALL[1], comment=""), id="a set's comment"),
        pytest.param(changed(SMALL[1], flags="interval"), id="a set's flags"),
        pytest.param(changed(SMALL[3], hook=HOOK.replace("0;", "-5;")), id="a base chain's priority"),
        pytest.param(changed(SMALL[3], hook=HOOK.replace("input", "forward")), id="a base chain's hook"),
        pytest.param(changed(SMALL[3], rules=()), id="all rules"),
        pytest.param(changed(SMALL[5], comment="ns/other:port"), id="an element's comment"),
        pytest.param(changed(SMALL[6], value="drop"), id="a map element's value"),
        pytest.param(SMALLER, id="a chain goes"),
        pytest.param((), id="everything goes"),
    ],
)
def test_one_object_changes(after: tuple[NftObject, ...]) -> None:
    change(SMALL, ())
    assert here() == set(SMALL)
    change(after, SMALL)
    assert here() == set(after)


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_tables_of_iptables_are_left_alone() -> None:
    nft("""
        add table ip nat
        add table ip6 filter
        add table inet both
        add table ip6 ours
    """)
    assert nftables.tables("n") == ((6, "ours"),)


# --- refusals ---------------------------------------------------------------------------------------------------------

ENDPOINT = "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
@pytest.mark.parametrize(
    ("bad", "subject", "reason"),
    [
        pytest.param(
            NftElement("n", 4, "t", "m", "10.0.0.9", "goto nowhere", "shop/web:http"),
            "Service shop/web: 10.0.0.9 ",
            "No such file",
            id="element with a comment",
        ),
        pytest.param(
            NftChain("n", 4, "t", ENDPOINT, ("meta l4proto tcp dnat to 10.180.0.1:80", "nonsense")),
            "Service ns1/svc1: nonsense",
            "syntax error",
            id="rule that nft refuses",
        ),
        pytest.param(
            NftChain("n", 4, "t", "nat", (f"jump {ENDPOINT}",), HOOK),
            f"Service ns1/svc1: jump {ENDPOINT}",
            "No such file",
            id="rule that the kernel refuses",
        ),
        pytest.param(
            NftSet("n", 4, "t", "affinity-GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80", "set", "type nothing"),
            "Service ns5/svc5: add set",
            "unknown datatype",
            id="set",
        ),
    ],
)
def test_a_refusal_leaves_all_as_it_was_and_names_the_service(bad: NftObject, subject: str, reason: str) -> None:
    change(SMALL, ())
    good = NftElement("n", 4, "t", "s", "10.0.0.2")
    with pytest.raises(KernelError) as raised:
        nftables.apply("", [good, bad], [SMALL[5], SMALL[6]], SMALL)
    assert raised.value.subject.startswith(subject)
    assert reason in raised.value.reason
    assert here() == set(SMALL)


@pytest.mark.root
@pytest.mark.usefixtures("own_namespace")
def test_a_chain_that_is_held_stays_but_all_else_is_done() -> None:
    """As with a kernel before 6.2, where a chain is let go only after the transaction that deletes the last element."""
    change(SMALL, ())
    nft("add table ip t; add chain ip t foreign; add rule ip t foreign jump regular")
    with pytest.raises(KernelError) as raised:
        change(SMALLER, SMALL)
    assert raised.value.subject == "delete chain ip t regular"
    assert "busy" in raised.value.reason
    left = {NftChain("n", 4, "t", "foreign", ("jump regular",)), NftChain("n", 4, "t", "regular", (), "", "why")}
    assert here() == {*SMALLER, *left}


def test_nothing_to_do_is_no_transaction() -> None:
    assert nftables.transaction("n", (), (), SMALL) == nftables.Transaction("n", "", "")


def test_a_listing_that_failed_says_why() -> None:
    with pytest.raises(KernelError) as raised:
        nftables.parse_listed("n", processes.Completed(1, b"", b"Error: it broke\n"))
    assert raised.value.reason == "Error: it broke"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        pytest.param(replace(BASE, rules=(BASE.rules[0], "drop")), f"lacks: {BASE.rules[1]}; has: drop", id="rule"),
        pytest.param(replace(BASE, rules=BASE.rules[::-1]), "the rules are in another order", id="order"),
        pytest.param(replace(BASE, comment="x"), "comment 'x', planned ''", id="comment"),
        pytest.param(replace(BASE, hook=""), f"hook , planned {HOOK}", id="hook"),
    ],
)
def test_drift_says_what_about_a_chain_differs(there: NftChain, said: str) -> None:
    assert list(diff(Plan((BASE,)), [there]).details.values()) == [said]


# --- what nft prints --------------------------------------------------------------------------------------------------


def test_a_listing_is_understood() -> None:
    text = dedent("""\
        table ip t {
        \tcomment "first"
        \tcounter hits {
        \t\tpackets 0 bytes 0
        \t}

        \tset s {
        \t\ttype ipv4_addr
        \t\tsize 65535
        \t\tflags dynamic,timeout
        \t\ttimeout 1d1h1m1s
        \t\telements = { 10.0.0.1 expires 5s }
        \t}

        \tmap m {
        \t\ttypeof ip daddr . th dport : ip daddr . th dport
        \t\tcomment "endpoints"
        \t\telements = { 10.0.0.1 . 80 comment "a, b : c" : 10.1.0.1 . 8080,
        \t\t\t     10.0.0.2 . 80 : 10.1.0.2 . 8080 }
        \t}

        \tchain base {
        \t\ttype filter hook input priority 0; policy drop;
        \t\tcomment "why"
        \t\taccept comment "type of it"
        \t}
        }
        table inet other {
        \tchain c {
        \t\tdrop
        \t}
        }
        table ip6 t {
        }
        """)
    assert set(parse_listing("n", text)) == {
        NftTable("n", 4, "t", "first"),
        NftSet("n", 4, "t", "s", "set", "type ipv4_addr", "dynamic,timeout", 90061),
        NftSet("n", 4, "t", "m", "map", "typeof ip daddr . th dport : ip daddr . th dport", comment="endpoints"),
        NftElement("n", 4, "t", "m", "10.0.0.1 . 80", "10.1.0.1 . 8080", "a, b : c"),
        NftElement("n", 4, "t", "m", "10.0.0.2 . 80", "10.1.0.2 . 8080"),
        NftChain(
            "n", 4, "t", "base", ('accept comment "type of it"',),
            "type filter hook input priority 0; policy drop;", "why",
        ),
        NftTable("n", 6, "t", ""),
    }  # fmt: skip


def nft(commands: str) -> str:
    done = subprocess.run(
        ["nft", "-f", "-"], input=dedent(commands), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
