"""Manifests as text in, a cluster or a plan out; golden plans; rules through a real kernel and back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.state import IptablesChain

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden plans anew")


@pytest.fixture(name="resolved")
def resolved_fixture() -> Callable[..., Cluster]:
    """`resolved(yaml, nodes=…)`: the keywords are command line options."""

    def resolved(text: str, **options: Any) -> Cluster:
        return resolve(load_text(dedent(text).encode(), "t.yaml"), Overrides(**options))

    return resolved


@pytest.fixture(name="golden_cluster")
def golden_cluster_fixture(resolved: Callable[..., Cluster]) -> Callable[[str], Cluster]:
    """The cluster of a manifest in tests/plan/golden."""
    return lambda name: resolved((GOLDEN / f"{name}.yaml").read_text())


@pytest.fixture(name="is_golden")
def is_golden_fixture(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a golden file, or write the file when told by --update-golden."""

    def is_golden(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(text)
        assert text == path.read_text()

    return is_golden


@pytest.fixture(name="restored")
def restored_fixture() -> Callable[[Iterable[IptablesChain]], frozenset[IptablesChain]]:
    """Load the chains of one namespace and family into a kernel and read them back, in a namespace that dies at once.

    The mount namespace is new too, with a /run of its own for the lock of xtables.
    """

    def restored(chains: Iterable[IptablesChain]) -> frozenset[IptablesChain]:
        chains = list(chains)
        netns, family = chains[0].netns, chains[0].family
        tool = "iptables-nft" if family == 4 else "ip6tables-nft"
        script = f"mount -t tmpfs none /run && {tool}-restore --noflush && {tool}-save"
        done = subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-ec", script],
            input=restore_text(chains), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return frozenset(read_saved(done.stdout, netns, family))

    return restored


def restore_text(chains: Iterable[IptablesChain]) -> str:
    lines: list[str] = []
    for table, group in groupby(chains, lambda chain: chain.table):
        of_table = list(group)
        lines.append(f"*{table}")
        lines += [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in of_table]
        lines += [f"-A {chain.name} {rule}" for chain in of_table for rule in chain.rules]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def read_saved(text: str, netns: str, family: Any) -> Iterable[IptablesChain]:
    table = ""
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy, _counters = line[1:].split()
            policies[table, name] = "" if policy == "-" else policy
            rules[table, name] = []
        elif line.startswith("-A "):
            _, name, rule = line.split(" ", 2)
            rules[table, name].append(rule)
    for (of_table, name), policy in policies.items():
        yield IptablesChain(netns, family, of_table, name, policy, tuple(rules[of_table, name]))
