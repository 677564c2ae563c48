"""Put the prober's control rules at the head of chains, and take them out again; all else in the chains stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from k8snetlab.errors import KernelError
from k8snetlab.kernel import iptables, legacy_rules, netns, nftables, processes, rules
from k8snetlab.plan.controls import COMMENT, ControlPoint
from k8snetlab.plan.state import Family

_FAMILY = {4: "ip", 6: "ip6"}


def plant(points: Sequence[ControlPoint]) -> None:
    """Raises KernelError when a chain is not there, or the kernel cannot match a code point."""
    commands = list(_commands(points))
    with processes.Pool(commands, parallel=2) as pool:
        while ended := pool.advance(block=True):
            for place, completed in ended:
                _check(commands[place].netns, completed)


def lift(nodes: Collection[str]) -> None:
    """Take out every control rule in the namespaces, planted just now or left by somebody who was killed."""
    for node in nodes:
        with netns.inside(node):
            rules.delete(node, [rule for rule in rules.read(node) if rule.comment == COMMENT])
            legacy = [rule for rule in legacy_rules.read(node) if rule.comment == COMMENT]
        for family in {rule.family for rule in legacy}:
            text = legacy_rules.deletion([rule for rule in legacy if rule.family == family])
            _check(node, processes.run(legacy_rules.restore_command(family), node, stdin=text.encode()))


def _check(node: str, completed: processes.Completed) -> None:
    if completed.returncode:
        reason = completed.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise KernelError(
            "plant control rules", netns=node, reason=reason, hint="k8snetlab doctor says what is missing"
        )


def _commands(points: Iterable[ControlPoint]) -> Iterator[processes.Command]:
    """One program a namespace, family and tool."""
    by_tool: defaultdict[tuple[str, Family, str], list[ControlPoint]] = defaultdict(list)
    for point in points:
        by_tool[point.netns, point.family, point.tool].append(point)
    for (node, family, tool), group in by_tool.items():
        if tool != "nft":
            lines = [f"-I {point.chain} {place} {rule}" for point in group for place, rule in enumerate(point.rules, 1)]
            text = "\n".join(("*filter", *lines, "COMMIT", ""))
            program = iptables if tool == "iptables" else legacy_rules
            yield processes.Command(program.restore_command(family), node, text.encode())
        else:
            lines = [
                f"insert rule {_FAMILY[family]} {point.table} {point.chain} {rule}"
                for point in group
                for rule in reversed(point.rules)
            ]
            yield processes.Command((nftables.program(), "-f", "-"), node, "\n".join((*lines, "")).encode())
