"""The iptables tables of one namespace and family while they are being written.

Several parties write into them (the pod network, kube-proxy), each its own chains and its jumps in the built-in ones;
the result is one list of chains. Rules are in the form `iptables-save` prints: see `plan.state.IptablesChain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from k8snetlab.plan.state import Family, IptablesBackend, IptablesChain

BUILT_IN: Final = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}


class Ruleset:
    """Rules by table and chain. A table named at all has its built-in chains, as the kernel has them."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, list[str]]] = {}

    def chain(self, table: str, name: str) -> list[str]:
        """The rules of a chain, to be added to; the chain is made when it is new."""
        chains = self._tables.get(table)
        if chains is None:
            chains = self._tables[table] = {built_in: [] for built_in in BUILT_IN[table]}
        return chains.setdefault(name, [])

    def set_chains(self, table: str, chains: dict[str, list[str]]) -> None:
        """Many chains of a table at once."""
        self.chain(table, BUILT_IN[table][0])
        self._tables[table].update(chains)

    def objects(self, netns: str, family: Family, backend: IptablesBackend) -> Iterator[IptablesChain]:
        """Every chain, table by table, the built-in ones first."""
        for table, built_in in BUILT_IN.items():
            for name, rules in self._tables.get(table, {}).items():
                policy = "ACCEPT" if name in built_in else ""
                yield IptablesChain(netns, family, table, name, policy, tuple(rules), backend)
