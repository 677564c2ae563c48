"""Walk a packet through a node's iptables rules without a kernel.

It understands exactly the forms of rules that the planners write and refuses all others, so it can never read a rule
wrongly by leaving something out. The packet is the first of its connection (conntrack state NEW); where the kernel
throws dice (`-m statistic`) both ways are followed, and an affinity rule (`-m recent --rcheck`) never matches, since a
new client has no history. So the answer is every way that such a packet can go.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Literal

from k8snetlab.errors import LabError
from k8snetlab.plan.state import Family, IPAddress, IPNetwork, IptablesChain

Verdict = Literal["ACCEPT", "DROP", "REJECT"]


class UnknownRuleError(LabError):
    """A rule, or a jump, that no planner of ours writes."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"iptables rule not understood: {what}: {rule}")
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it meets a node.

    `made_here` for one that a process of the node itself sends. `mark`, `translated` (by DNAT) and `masqueraded` are
    what the rules have made of it so far.
    """

    source: IPAddress
    destination: IPAddress
    protocol: Literal["tcp", "udp", "sctp"]
    port: int
    made_here: bool = False
    mark: int = 0
    translated: bool = False
    masqueraded: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that the packet matched."""

    table: str
    chain: str
    rule: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way a packet can go: what became of it, how it looks at the end, and every rule that it matched."""

    verdict: Verdict
    packet: Packet
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule taken apart: options with their negation and value, the target (empty for none) and the target's value."""

    text: str
    options: tuple[tuple[str, bool, str], ...]
    target: str
    argument: str


def walk(
    chains: Iterable[IptablesChain], packet: Packet, local: frozenset[IPAddress], family: Family = 4
) -> tuple[Way, ...]:
    """Every way that `packet` can go through the chains of one namespace; `local` are the namespace's own addresses.

    Raises UnknownRuleError for a rule that it does not understand, when the packet comes to it.
    """
    tables: dict[str, dict[str, IptablesChain]] = {}
    for chain in chains:
        if chain.family == family:
            tables.setdefault(chain.table, {})[chain.name] = chain
    return tuple(dict.fromkeys(_journey(tables, packet, local)))


def _journey(
    tables: Mapping[str, Mapping[str, IptablesChain]], packet: Packet, local: frozenset[IPAddress]
) -> Iterator[Way]:
    """The hooks in the order of the kernel: translate, route, filter, and translate the source on the way out.

    What the namespace sends to itself goes out by OUTPUT and POSTROUTING and comes in again, by lo, through INPUT; it
    is not translated a second time.
    """
    nat, filters = (_Table(name, tables.get(name, {}), local) for name in ("nat", "filter"))
    for arrived in nat.hook("OUTPUT" if packet.made_here else "PREROUTING", packet, ()):
        inside = arrived.packet.destination in local or arrived.packet.destination.is_loopback
        hook = "OUTPUT" if packet.made_here else "INPUT" if inside else "FORWARD"
        for filtered in filters.hook(hook, arrived.packet, arrived.steps):
            if filtered.verdict != "ACCEPT" or hook == "INPUT":
                yield filtered
                continue
            for sent in nat.hook("POSTROUTING", filtered.packet, filtered.steps):
                if inside:
                    yield from filters.hook("INPUT", sent.packet, sent.steps)
                else:
                    yield sent


class _Table:
    """The chains of one table, ready to be walked."""

    def __init__(self, name: str, chains: Mapping[str, IptablesChain], local: frozenset[IPAddress]) -> None:
        self.name = name
        self.chains = chains
        self.local = local

    def hook(self, name: str, packet: Packet, steps: tuple[Step, ...]) -> Iterator[Way]:
        """All ways out of a built-in chain; one that does not exist lets everything pass."""
        if name not in self.chains:
            yield Way("ACCEPT", packet, steps)
            return
        for after, taken, verdict in self._chain(name, 0, packet, steps):
            policy: Verdict = "DROP" if self.chains[name].policy == "DROP" else "ACCEPT"
            yield Way(verdict or policy, after, taken)

    def _chain(
        self, name: str, start: int, packet: Packet, steps: tuple[Step, ...]
    ) -> Iterator[tuple[Packet, tuple[Step, ...], Verdict | None]]:
        """All ways through a chain from a rule on: with a verdict, or None when the packet comes back out of it."""
        rules = self.chains[name].rules
        for position in range(start, len(rules)):
            rule = parse(rules[position])
            if not all(self._holds(rule, option, packet) for option in rule.options):
                continue
            matched = (*steps, Step(self.name, name, rule.text))
            if rule.target in ("", "MARK"):
                if any(option == "--probability" for option, _, _ in rule.options):
                    raise UnknownRuleError(rule.text, "chance without a jump")
                packet, steps = _marked(rule, packet), matched
                continue
            if rule.target == "RETURN":
                yield packet, matched, None
            elif rule.target in self.chains:
                for after, taken, verdict in self._chain(rule.target, 0, packet, matched):
                    if verdict is None:
                        yield from self._chain(name, position + 1, after, taken)
                    else:
                        yield after, taken, verdict
            else:
                yield (*_final(rule, packet, matched),)
            if not any(option == "--probability" for option, _, _ in rule.options):
                return
        yield packet, steps, None

    def _holds(self, rule: Rule, option: tuple[str, bool, str], packet: Packet) -> bool:
        name, negated, value = option
        if name in ("--src-type", "--dst-type"):
            if value != "LOCAL":
                raise UnknownRuleError(rule.text, f"{name} {value}")
            address = packet.source if name == "--src-type" else packet.destination
            return (address in self.local or address.is_loopback) != negated
        return TESTS[name](packet, value) != negated


def _marked(rule: Rule, packet: Packet) -> Packet:
    if not rule.target:
        return packet
    value, mask = (int(part, 16) for part in rule.argument.split("/"))
    return replace(packet, mark=(packet.mark & ~mask) ^ value)


def _final(rule: Rule, packet: Packet, steps: tuple[Step, ...]) -> tuple[Packet, tuple[Step, ...], Verdict]:
    """What a target that ends the walk through a table makes of the packet."""
    match rule.target:
        case "ACCEPT" | "DROP" | "REJECT":
            return packet, steps, "ACCEPT" if rule.target == "ACCEPT" else "DROP" if rule.target == "DROP" else "REJECT"
        case "MASQUERADE":
            return replace(packet, masqueraded=True), steps, "ACCEPT"
        case "DNAT":
            address, port = rule.argument.rsplit(":", 1)
            to = ip_address(address.strip("[]"))
            return replace(packet, destination=to, port=int(port), translated=True), steps, "ACCEPT"
        case _:
            raise UnknownRuleError(rule.text, f"target {rule.target}")


def _states(packet: Packet) -> set[str]:
    return {"NEW", "DNAT"} if packet.translated else {"NEW"}


def _mark(packet: Packet, value: str) -> bool:
    wanted, mask = (int(part, 16) for part in value.split("/"))
    return packet.mark & mask == wanted


@lru_cache(maxsize=4096)
def _network(text: str) -> IPNetwork:
    return ip_network(text)


TESTS: Final[Mapping[str, Callable[[Packet, str], bool]]] = {
    "-s": lambda packet, value: packet.source in _network(value),
    "-d": lambda packet, value: packet.destination in _network(value),
    "-p": lambda packet, value: packet.protocol == value,
    "--dport": lambda packet, value: packet.port == int(value),
    "--dports": lambda packet, value: packet.port in {int(number) for number in value.split(",")},
    "--ctstate": lambda packet, value: bool(_states(packet) & set(value.split(","))),
    "--mark": _mark,
    "--probability": lambda _packet, _value: True,  # both ways are followed: see _Table._chain
    "--rcheck": lambda _packet, _value: False,
}
TYPES: Final = frozenset({"--src-type", "--dst-type"})
MODULES: Final = frozenset(
    {"comment", "tcp", "udp", "sctp", "addrtype", "conntrack", "mark", "statistic", "recent", "multiport"}
)
# Options that say nothing about whether a first packet matches: with a value, and without.
WITH_VALUE: Final = frozenset({"--comment", "--mode", "--name", "--mask", "--seconds"})
FLAGS: Final = frozenset({"--set", "--reap", "--rsource"})
TARGET_OPTIONS: Final = {
    "MARK": "--set-xmark",
    "DNAT": "--to-destination",
    "REJECT": "--reject-with",
    "MASQUERADE": "--random-fully",
}


@lru_cache(maxsize=65536)
def parse(text: str) -> Rule:
    """Take a rule apart. Raises UnknownRuleError for any word that has no meaning here."""
    words = iter(shlex.split(text))
    options: list[tuple[str, bool, str]] = []
    negated = False
    for word in words:
        if word == "-j":
            target = next(words, "")
            return Rule(text, tuple(options), target, _target_argument(text, target, list(words)))
        if word in TESTS or word in TYPES:
            options.append((word, negated, "" if word == "--rcheck" else next(words, "")))
        elif word == "-m":
            if (module := next(words, "")) not in MODULES:
                raise UnknownRuleError(text, f"-m {module}")
        elif word in WITH_VALUE:
            next(words, "")
        elif word not in FLAGS and word != "!":
            raise UnknownRuleError(text, word)
        negated = word == "!"
    return Rule(text, tuple(options), "", "")


def _target_argument(text: str, target: str, words: list[str]) -> str:
    if not words:
        return ""
    if words[0] != TARGET_OPTIONS.get(target) or len(words) > 2:
        raise UnknownRuleError(text, " ".join(words))
    return words[1] if len(words) == 2 else ""
