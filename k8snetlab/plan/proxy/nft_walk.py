"""Walk a packet through a node's nftables without a kernel, as `walk` does through iptables.

The packet is the first of its connection; where the kernel throws dice (`numgen random`) every way is followed, and a
set that packets fill is empty, since a new client has no history. So the answer is every way such a packet can go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Final

from k8snetlab.plan.proxy import walk as iptables_walk
from k8snetlab.plan.proxy.nft_rule import (
    Flag,
    Key,
    Lookup,
    Mark,
    Marked,
    Masquerade,
    Remember,
    Rule,
    Test,
    Translate,
    UnknownNftRuleError,
    Verdict,
    VerdictMap,
    parse,
    parse_verdict,
)
from k8snetlab.plan.proxy.walk import Packet, Step, Way
from k8snetlab.plan.state import Family, IPAddress, KernelObject, NftChain, NftElement

State = tuple[Packet, tuple[Step, ...]]
Outcome = tuple[Packet, tuple[Step, ...], Verdict | None]

FINAL: Final[Mapping[str, iptables_walk.Verdict]] = {"drop": "DROP", "reject": "REJECT", "accept": "ACCEPT"}


def walk(
    objects: Iterable[KernelObject], packet: Packet, local: frozenset[IPAddress], family: Family = 4
) -> tuple[Way, ...]:
    """Every way that `packet` can go through the nftables of one namespace; `local` are its own addresses.

    Raises UnknownNftRuleError for a rule that it does not understand, when the packet comes to it.
    """
    chains: dict[str, NftChain] = {}
    containers: dict[str, dict[str, str]] = {}
    for item in objects:
        if isinstance(item, NftChain) and item.family == family:
            chains[item.name] = item
        elif isinstance(item, NftElement) and item.family == family:
            containers.setdefault(item.set, {})[item.key] = item.value
    return tuple(dict.fromkeys(_Ruleset(chains, containers, local).journey(packet)))


class _Ruleset:
    def __init__(
        self, chains: Mapping[str, NftChain], containers: Mapping[str, Mapping[str, str]], local: frozenset[IPAddress]
    ) -> None:
        self.chains = chains
        self.containers = containers
        self.local = local

    def journey(self, packet: Packet) -> Iterator[Way]:
        """The hooks in the order of the kernel. What the namespace sends to itself comes in again, by lo; it is not
        translated a second time."""
        for sent in self._hook("output" if packet.made_here else "prerouting", (packet, ())):
            if sent.verdict != "ACCEPT":
                yield sent
                continue
            inside = self._is_local(sent.packet.destination)
            hooks = ("prerouting", "input") if packet.made_here and inside else ("input",) if inside else ()
            if not inside:
                hooks = ("postrouting",) if packet.made_here else ("forward", "postrouting")
            yield from self._hooks(hooks, sent)

    def _hooks(self, hooks: tuple[str, ...], way: Way) -> Iterator[Way]:
        if not hooks or way.verdict != "ACCEPT":
            yield way
            return
        translate = not (way.packet.made_here and hooks[0] == "prerouting")
        for after in self._hook(hooks[0], (way.packet, way.steps), translate=translate):
            yield from self._hooks(hooks[1:], after)

    def _hook(self, name: str, state: State, *, translate: bool = True) -> Iterator[Way]:
        """All base chains of a hook, by priority; what one accepts the next one sees."""
        base = [(hook, chain) for chain in self.chains.values() if (hook := _hook_of(chain)) and hook[1] == name]
        wanted = [chain for hook, chain in sorted(base, key=lambda pair: pair[0][2]) if translate or hook[0] != "nat"]
        yield from self._base(wanted, state)

    def _base(self, chains: list[NftChain], state: State) -> Iterator[Way]:
        if not chains:
            yield Way("ACCEPT", *state)
            return
        for packet, steps, verdict in self._chain(chains[0].name, 0, state):
            final = FINAL[verdict.name] if verdict is not None else "ACCEPT"
            if final == "ACCEPT":
                yield from self._base(chains[1:], (packet, steps))
            else:
                yield Way(final, packet, steps)

    def _chain(self, name: str, start: int, state: State) -> Iterator[Outcome]:
        """All ways through a chain from a rule on: with a verdict, or None when the packet comes back out of it."""
        packet, steps = state
        rules = self.chains[name].rules
        for position in range(start, len(rules)):
            rule = parse(rules[position])
            if all(self._holds(test, packet) for test in rule.tests):
                matched = (*steps, Step("nft", name, rule.text))
                for after, verdict in list(self._effects(rule, packet)) or [(packet, None)]:
                    yield from self._decided(name, position, (after, matched), verdict)
                return
        yield packet, steps, None

    def _decided(self, name: str, position: int, state: State, verdict: Verdict | None) -> Iterator[Outcome]:
        match verdict:
            case None:
                yield from self._chain(name, position + 1, state)
            case Verdict("return"):
                yield *state, None
            case Verdict("goto", chain):
                yield from self._chain(chain, 0, state)
            case Verdict("jump", chain):
                for packet, steps, inner in self._chain(chain, 0, state):
                    if inner is None:
                        yield from self._chain(name, position + 1, (packet, steps))
                    else:
                        yield packet, steps, inner
            case _:
                yield *state, verdict

    def _effects(self, rule: Rule, packet: Packet) -> Iterator[tuple[Packet, Verdict | None]]:
        """What a statement makes of the packet and where it sends it; None for on to the next rule."""
        match rule.action:
            case Verdict():
                yield packet, self._existing(rule, rule.action)
            case VerdictMap():
                yield from self._looked_up(rule, rule.action, packet)
            case Translate():
                for target in self._targets(rule.action, packet):
                    yield (packet, None) if target is None else _translated(packet, target)
            case Masquerade():
                yield replace(packet, masqueraded=True), Verdict("accept")
            case Mark("or", bit):
                yield replace(packet, mark=packet.mark | bit), None
            case Mark(_, bit):
                yield replace(packet, mark=packet.mark ^ bit), None
            case Remember():
                yield packet, None

    def _looked_up(self, rule: Rule, action: VerdictMap, packet: Packet) -> Iterator[tuple[Packet, Verdict | None]]:
        named, anonymous = self.containers.get(action.name, {}), dict(action.verdicts)
        for key in self._keys(action.key, packet):
            verdict = parse_verdict(named[key]) if key in named else anonymous.get(key)
            yield packet, self._existing(rule, verdict) if verdict is not None else None

    def _targets(self, action: Translate, packet: Packet) -> Iterator[str | None]:
        """`ip . port` for each number that the key may draw; None where the map has nothing."""
        if action.target:
            yield " . ".join(action.target.rsplit(":", 1))
        else:
            yield from (self.containers.get(action.name, {}).get(key) for key in self._keys(action.key, packet))

    def _existing(self, rule: Rule, verdict: Verdict) -> Verdict:
        if verdict.chain and verdict.chain not in self.chains:
            raise UnknownNftRuleError(rule.text, f"there is no chain {verdict.chain}")
        return verdict

    def _keys(self, key: Key, packet: Packet) -> list[str]:
        """The values of a key: several where it draws a number, none where it is about another protocol."""
        values = {
            "saddr": str(packet.source),
            "daddr": str(packet.destination),
            "l4proto": packet.protocol,
            "dport": str(packet.port),
            f"{packet.protocol} dport": str(packet.port),
        }
        drawn: list[list[str]] = []
        for field in key:
            if field.startswith("mod "):
                drawn.append([str(number) for number in range(int(field[4:]))])
            else:
                drawn.append([values[field]] if field in values else [])
        return [" . ".join(parts) for parts in product(*drawn)]

    def _holds(self, test: Test, packet: Packet) -> bool:
        match test:
            case Marked():
                return packet.mark & test.mask == test.value
            case Flag("new"):
                return True
            case Flag("translated"):
                return packet.translated
            case Flag():
                return self._is_local(packet.source if test.name.startswith("saddr") else packet.destination)
            case Lookup():
                keys = self._keys(test.key, packet)
                found = any(self._matches(key, operand) for key in keys for operand in test.operand)
                return bool(keys) and found != test.negated

    def _matches(self, key: str, operand: str) -> bool:
        if operand.startswith("@"):
            return key in self.containers.get(operand[1:], {})
        return key == operand or _within(key, operand)

    def _is_local(self, address: IPAddress) -> bool:
        return address in self.local or address.is_loopback


def _translated(packet: Packet, target: str) -> tuple[Packet, Verdict]:
    ip, port = target.split(" . ")
    moved = replace(packet, destination=ip_address(ip.strip("[]")), port=int(port), translated=True)
    return moved, Verdict("accept")


@lru_cache(maxsize=4096)
def _hook_of(chain: NftChain) -> tuple[str, str, int] | None:
    """Type, hook and priority of a base chain."""
    if not chain.hook:
        return None
    words = chain.hook.replace(";", "").split()
    return words[1], words[3], int(words[5])


def _within(key: str, operand: str) -> bool:
    """Whether an address is in a network or a range."""
    if "/" in operand:
        return ip_address(key) in ip_network(operand)
    first, dash, last = operand.partition("-")
    return bool(dash) and int(ip_address(first)) <= int(ip_address(key)) <= int(ip_address(last))
