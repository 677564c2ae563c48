"""nftables of a namespace: changed by one transaction of `nft -f`, read by `nft list`.

A transaction changes all of it or nothing. Chains are rewritten whole, sets and maps element by element, so that one
Service changed among thousands is a few lines. Tables of iptables-nft are not touched: they belong to `iptables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netlink, processes
from k8snetlab.kernel.iptables import BUILT_IN, find_program
from k8snetlab.kernel.nft_listing import NftObject, parse_listing
from k8snetlab.plan.proxy.nft_script import FAMILY, address, making
from k8snetlab.plan.state import Family, NftChain, NftElement, NftSet, NftTable

TableKey = tuple[Family, str]

_NETLINK_NETFILTER: Final = 12  # linux/netlink.h
_GET_TABLES: Final = 10 << 8 | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
_TABLE_NAME: Final = 1  # NFTA_TABLE_NAME
_NFGENMSG: Final = 4
_FAMILY_OF: Final[dict[int, Family]] = {2: 4, 10: 6}  # NFPROTO_IPV4, NFPROTO_IPV6

_BUSY: Final = "Device or resource busy"
_PLACE: Final = re.compile(r":(\d+):\d+-\d+: Error: (.*)")
_SERVICE_IN_NAME: Final = re.compile(r"-[A-Z2-7]{8}-([^/\s]+/[^/\s]+)/")
_SERVICE_IN_COMMENT: Final = re.compile(r'comment "([^"\s/]+/[^":\s]+)')
_RULE_OF_POLICY: Final = re.compile(r'comment "[^"]+ (?:in|e)gress\[\d+\]"')


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change of one namespace as input of `nft -f`; `last` removes the chains and sets that nothing refers to any
    more, and belongs to the same transaction."""

    netns: str
    text: str
    last: str = ""

    def command(self) -> processes.Command:
        return processes.Command((program(), "-f", "-"), self.netns, (self.text + self.last).encode())


@cache
def program() -> str:
    """The path of nft; HostError when there is none."""
    path = find_program("nft")
    if not path:
        raise HostError("this host has no nft, which kube-proxy's nftables mode needs", hint="install nftables")
    return path


def transaction(
    netns: str, missing: Iterable[NftObject], extra: Iterable[NftObject] = (), planned: Iterable[NftObject] = ()
) -> Transaction:
    """What makes the objects of `missing` and removes those of `extra`, all of them in one namespace.

    An object that changed is in both. `planned` is everything wanted of that namespace: needed with `extra`, since a
    set that changes its type must first let go of the rules and elements that hold it.
    """
    tables: dict[TableKey, _Change] = {}
    for items, kind in ((missing, "missing"), (extra, "extra"), (planned, "planned")):
        for item in items:
            getattr(tables.setdefault(_key(item), _Change([], [], [])), kind).append(item)
    text: list[str] = []
    last: list[str] = []
    for key, change in tables.items():
        if change.missing or change.extra:
            text += change.lines(key)
            last += change.last_lines()
    return Transaction(netns, _joined(text), _joined(last))


def apply(
    netns: str, missing: Iterable[NftObject], extra: Iterable[NftObject] = (), planned: Iterable[NftObject] = ()
) -> None:
    """Make and remove objects of one namespace, all or none. Raises KernelError naming the refused Service or rule."""
    change = transaction(netns, missing, extra, planned)
    if change.text or change.last:
        command = change.command()
        check(change, processes.run(command.argv, netns, stdin=command.stdin, timeout=300.0))


def check(change: Transaction, completed: processes.Completed) -> None:
    """Raise KernelError, with the Service it is about, when a transaction has failed: then nothing has changed.

    Kernels before 6.2 notice only after a transaction that a deleted map element no longer holds its chain
    (proxier.go, "Figure out which chains are now stale"): there the last part is a transaction of its own.
    """
    if completed.returncode == 0:
        return
    said = completed.stderr.decode(errors="replace")
    if change.last and _BUSY in said:
        for text in (change.text, change.last):
            if text:
                check(Transaction(change.netns, text), _run(change.netns, text))
        return
    lines = (change.text + change.last).splitlines()
    place = _PLACE.search(said)
    subject = _subject(lines, int(place[1])) if place else ""
    reason = place[2] if place else " ".join(said.split()) or f"exit code {completed.returncode}"
    raise KernelError("change nftables", netns=change.netns, subject=subject, reason=reason)


def tables(netns: str) -> tuple[TableKey, ...]:
    """The tables of the namespace the thread is in, without those of iptables-nft; `netns` is only named in errors."""
    found = []
    with netlink.Socket(netns, _NETLINK_NETFILTER) as connection:
        for body in connection.dump(_GET_TABLES, bytes(_NFGENMSG)):
            name = netlink.string(netlink.attributes(body, _NFGENMSG), _TABLE_NAME)
            if body[0] in _FAMILY_OF and name not in BUILT_IN:
                found.append((_FAMILY_OF[body[0]], name))
    return tuple(found)


def list_command(netns: str, key: TableKey) -> processes.Command:
    """The command that prints a table for `parse_listed`; one a table, since nft 1.0.6 finds only one at a time."""
    family, name = key
    argv = (program(), "--numeric-priority", "--stateless", "list", "table", FAMILY[family], name)
    return processes.Command(argv, netns)


def parse_listed(netns: str, completed: processes.Completed) -> tuple[NftObject, ...]:
    """What a `list_command` printed, as objects. Raises KernelError when it failed."""
    if completed.returncode != 0:
        reason = completed.stderr.decode(errors="replace").strip() or f"exit code {completed.returncode}"
        raise KernelError("list nftables", netns=netns, reason=reason)
    return tuple(parse_listing(netns, completed.stdout.decode(errors="replace")))


@dataclass(slots=True)
class _Change:
    """What is to happen to one table."""

    missing: list[NftObject]
    extra: list[NftObject]
    planned: list[NftObject]

    def lines(self, key: TableKey) -> Iterator[str]:
        """All but the removal of what nothing refers to any more."""
        if any(isinstance(item, NftTable) for item in self.extra):
            yield f"delete table {FAMILY[key[0]]} {key[1]}"
            remade = any(isinstance(item, NftTable) for item in self.missing)
            self.missing, self.extra = self.planned if remade else [], []
        self._widen()
        rebuilt = self._changed_sets()
        doomed = rebuilt | {item.name for item in self.extra if isinstance(item, NftSet)}
        for item in self.extra:
            if isinstance(item, NftElement) and item.set not in doomed:
                yield f"delete element {address(item)} {item.set} {{ {item.key} }}"
        wanted = {item.name: item for item in self.missing if isinstance(item, NftChain)}
        for item in self.extra:
            if isinstance(item, NftChain):
                yield f"flush chain {address(item)} {item.name}"
                # Type, hook and priority of a base chain cannot be changed; nothing refers to it.
                if item.hook and item.name in wanted and wanted[item.name].hook != item.hook:
                    yield f"delete chain {address(item)} {item.name}"
        for item in self.extra:
            if isinstance(item, NftSet) and item.name in rebuilt:
                yield f"delete set {address(item)} {item.name}"
        yield from making(self.missing)

    def last_lines(self) -> Iterator[str]:
        kept = {item.name for item in self.missing if isinstance(item, NftChain)}
        for item in self.extra:
            if isinstance(item, NftChain) and item.name not in kept:
                yield f"delete chain {address(item)} {item.name}"
        rebuilt = self._changed_sets()
        for item in self.extra:
            if isinstance(item, NftSet) and item.name not in rebuilt:
                yield f"delete set {address(item)} {item.name}"

    def _changed_sets(self) -> set[str]:
        """Sets whose type, flags or timeout are others now: no command changes them in place."""
        extra = {item.name for item in self.extra if isinstance(item, NftSet)}
        return extra & {item.name for item in self.missing if isinstance(item, NftSet)}

    def _widen(self) -> None:
        """Where a set is made anew, so are its elements and the chains that look into it, changed or not."""
        rebuilt = self._changed_sets()
        if not rebuilt:
            return
        missing = set(self.missing)
        holders = {f"@{name}" for name in rebuilt}
        for item in self.planned:
            if item in missing:
                continue
            if isinstance(item, NftElement) and item.set in rebuilt:
                self.missing.append(item)
            elif isinstance(item, NftChain) and any(not holders.isdisjoint(rule.split()) for rule in item.rules):
                self.missing.append(item)
                self.extra.append(item)


def _key(item: NftObject) -> TableKey:
    return item.family, item.name if isinstance(item, NftTable) else item.table


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _run(netns: str, text: str) -> processes.Completed:
    return processes.run((program(), "-f", "-"), netns, stdin=text.encode(), timeout=300.0)


def _subject(lines: Sequence[str], number: int) -> str:
    """The refused line and the Service it is there for: said by its comment or by the name of its chain."""
    if not 0 < number <= len(lines):
        return ""
    line = lines[number - 1].strip()
    if _RULE_OF_POLICY.search(line):
        return line
    heading = next((text for text in reversed(lines[:number]) if text.startswith(("chain ", "add ", "delete "))), "")
    for pattern, text in ((_SERVICE_IN_COMMENT, line), (_SERVICE_IN_NAME, line), (_SERVICE_IN_NAME, heading)):
        if found := pattern.search(text):
            return f"Service {found[1]}: {line}"
    return line
