"""iptables of the legacy kind: the same rules as in nf_tables, to the letter, by way of libiptc."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import iptables, iptables_legacy, netns, processes
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.iptables_legacy import Work
from k8snetlab.kernel.observe import observe
from k8snetlab.plan.state import Family, IptablesChain, Netns

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("lab", "namespace")]

HERE = Path(__file__).parent


@pytest.fixture(name="namespace")
def namespace_fixture(lab: None) -> None:
    with netns.returning():
        os.close(netns.create("n"))


def forms(family: Family) -> dict[str, tuple[str, ...]]:
    """By table, the rules of rules.txt; `POSTROUTING` has what is possible there only."""
    found: dict[str, list[str]] = {}
    rules: list[str] = []
    for line in (HERE / "rules.txt").read_text().splitlines():
        if line.startswith("*"):
            of, table = line[1:].split()
            rules = found.setdefault(table, []) if of == ("ip" if family == 4 else "ip6") else []
        elif not line.startswith("#"):
            rules.append(line)
    return {table: tuple(rules) for table, rules in found.items()}


def chain(table: str, name: str, *rules: str, family: Family = 4, policy: str = "") -> IptablesChain:
    return IptablesChain("n", family, table, name, policy, rules, "legacy")


@contextmanager
def opened(name: str = "n") -> Iterator[int]:
    fd = netns.open_netns(name)
    try:
        yield fd
    finally:
        os.close(fd)


def restore(*write: IptablesChain, delete: tuple[IptablesChain, ...] = (), family: Family = 4) -> None:
    with opened() as fd:
        iptables_legacy.restore(family, [Work("n", fd, write, delete)])


def touched(family: Family = 4) -> frozenset[IptablesChain]:
    return frozenset(chain for chain in iptables_legacy.save("n", family) if not iptables.is_untouched(chain))


@pytest.mark.parametrize("family", [4, 6])
def test_every_form_of_rule_comes_back_to_the_letter(family: Family) -> None:
    chains = []
    for table, rules in forms(family).items():
        chains += [chain(table, name, family=family) for name in ("CUSTOM", "KUBE-MARK-MASQ")]
        chains.append(chain(table, "MINE", *rules, family=family))
    restore(*chains, family=family)
    assert touched(family) == frozenset(chains)


def test_what_is_possible_in_postrouting_only() -> None:
    written = chain(
        "nat", "POSTROUTING",
        '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        "-s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE",
        "-s 10.244.0.0/16 -o eth0 -j SNAT --to-source 172.18.0.2",
        policy="ACCEPT",
    )  # fmt: skip
    restore(written)
    assert touched() == {written}


def test_a_rule_that_names_a_set() -> None:
    assert processes.run(["ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"], "n").returncode == 0
    written = chain("nat", "MINE", "-m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT")
    restore(written)
    assert touched() == {written}


def test_a_comment_may_be_long_and_odd() -> None:
    """255 bytes fit (XT_MAX_COMMENT_LEN, with its final zero); a longer one is refused, not cut."""
    written = chain("nat", "A", f'-m comment --comment "{"x" * 200} it\\\'s \\"so\\"" -j RETURN')
    restore(written)
    assert touched() == {written}
    with pytest.raises(KernelError, match="comment"):
        restore(chain("nat", "A", f"-m comment --comment {'x' * 256} -j RETURN"))
    assert touched() == {written}


def test_only_what_is_named_changes() -> None:
    first, second = chain("nat", "A", "-j RETURN"), chain("nat", "B", "-j RETURN")
    forward = chain("filter", "FORWARD", "-j ACCEPT", policy="DROP")
    restore(first, second, forward)
    changed = chain("nat", "A", "-s 10.0.0.1/32 -j RETURN", "-j ACCEPT")
    restore(changed)
    assert touched() == {changed, second, forward}


def test_a_built_in_chain_is_replaced_and_can_be_emptied() -> None:
    for policy in ("DROP", "ACCEPT"):
        written = chain("filter", "INPUT", "-p icmp -j ACCEPT", policy=policy)
        restore(written)
        assert touched() == {written}
    restore(chain("filter", "INPUT", policy="ACCEPT"))
    assert touched() == frozenset()


def test_chains_that_jump_to_each_other_go_together() -> None:
    chains = (
        chain("nat", "OUTPUT", "-j A", policy="ACCEPT"),
        chain("nat", "A", "-j B"),
        chain("nat", "B", "-j RETURN"),
    )
    restore(*chains)
    restore(delete=chains)
    assert touched() == frozenset()


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        pytest.param("-m nosuchmatch -j ACCEPT", "can't find match nosuchmatch", id="a match that does not exist"),
        pytest.param("-m tcp --no-such 1 -j ACCEPT", "invalid parameter", id="an option that does not exist"),
        pytest.param("-p tcp -m tcp --dport 99999 -j ACCEPT", "dport", id="a value that makes no sense"),
        pytest.param("-j NOWHERE", "can't find target NOWHERE", id="a jump to nowhere"),
        pytest.param("-p nosuch -j ACCEPT", "protocol nosuch", id="a protocol without a number"),
        pytest.param(
            "-j DNAT --to-destination 10.0.0.1", "Invalid argument", id="only the kernel knows: DNAT in filter"
        ),
    ],
)
def test_all_or_nothing_and_the_rule_is_named(rule: str, reason: str) -> None:
    good = chain("filter", "A", "-j RETURN"), chain("nat", "A", "-j RETURN")
    restore(*good)
    bad = chain("filter", "B", "-j RETURN", rule, "-j ACCEPT")
    with pytest.raises(KernelError, match=reason) as caught:
        restore(bad, chain("filter", "A", "-j ACCEPT"), chain("nat", "A", "-j ACCEPT"))
    assert caught.value.subject == f"-t filter -A B {rule}"
    assert caught.value.netns == "n"
    assert touched() == frozenset(good)


def test_both_families_in_one_process() -> None:
    """An extension registers itself for one family only, the first time it is loaded."""
    four = chain("nat", "A", "-p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80")
    six = chain("nat", "A", "-p tcp -m tcp -j DNAT --to-destination [fd00::1]:80", family=6)
    apply([Netns("m"), *(IptablesChain("m", c.family, c.table, c.name, "", c.rules, "legacy") for c in (four, six))])
    restore(four)
    restore(six, family=6)
    assert touched(4) == {four}
    assert touched(6) == {six}


def test_it_waits_for_whoever_has_the_lock() -> None:
    """As the iptables command does; else two who read and replace a table would each undo the other's work."""
    with Path("/run/xtables.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            restore(chain("nat", "A", "-j RETURN"))
            os._exit(0)
        pidfd = os.pidfd_open(child)
        try:
            assert not processes.wait(pidfd, 0.3)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert processes.wait(pidfd, 10)
        finally:
            os.waitpid(child, 0)
            os.close(pidfd)
    assert touched() == {chain("nat", "A", "-j RETURN")}


def test_a_change_of_backend_moves_the_rules() -> None:
    """Both kinds side by side would translate twice; what is observed tells them apart."""
    nft = IptablesChain("n", 4, "nat", "A", "", ("-j RETURN",), "nft")
    legacy = chain("nat", "A", "-j RETURN")
    apply([nft])
    apply([legacy], [nft], [Netns("n"), legacy])
    found = {item for item in observe([Netns("n"), legacy]) if isinstance(item, IptablesChain)}
    assert found == {legacy}
    apply([nft], [legacy], [Netns("n"), nft])
    found = {item for item in observe([Netns("n"), nft]) if isinstance(item, IptablesChain)}
    assert found == {nft}


def test_a_fault_in_the_library_is_an_error_here() -> None:
    with pytest.raises(KernelError, match="libiptc's process ended with -9"), opened() as fd:
        iptables_legacy.restore(
            4, (Work("n", fd, (), ()) for _ in iter(lambda: os.kill(os.getpid(), signal.SIGKILL), 1))
        )


def test_without_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "_SEARCHED", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="no iptables-legacy-save") as caught:
        iptables_legacy.save_command(4)
    assert "iptables" in caught.value.hint


def test_the_six_services_are_the_same_in_both_kinds(reference: tuple[IptablesChain, ...]) -> None:
    """What kube-proxy's own test scenario becomes (conformance 4.4), written by both and read back by both."""
    assert len(reference) > 40
    iptables.restore("n", 4, reference)
    by_nft = {(c.table, c.name, c.policy, c.rules) for c in iptables.save("n", 4)}
    ordered = sorted(reference, key=lambda each: each.table)
    chains = [
        chain(table, each.name, *each.rules, policy=each.policy)
        for table, group in groupby(ordered, lambda each: each.table)
        for each in group
    ]
    restore(*chains)
    by_legacy = {(c.table, c.name, c.policy, c.rules) for c in iptables_legacy.save("n", 4)}
    assert by_legacy == by_nft
    assert sum(len(rules) for *_, rules in by_legacy) == sum(len(each.rules) for each in reference)


@pytest.fixture(name="reference")
def reference_fixture() -> tuple[IptablesChain, ...]:
    from k8snetlab.cluster.resolve import Overrides, resolve
    from k8snetlab.manifests.load import load
    from k8snetlab.plan.build import build

    manifests = load([str(HERE.parent / "plan/proxy/six-services.yaml")])
    objects = build(resolve(manifests, Overrides())).objects
    found = [item for item in objects if isinstance(item, IptablesChain) and (item.netns, item.family) == ("node1", 4)]
    return tuple(IptablesChain("n", 4, c.table, c.name, c.policy, c.rules) for c in found)
