"""iptables chains of a namespace, in nf_tables: written by one atomic `iptables-nft-restore`, read by
`iptables-nft-save`.

As kube-proxy does it: `--noflush` touches only the chains that are named, and all of them change at once or none.
Everything here is by namespace and family; chains are `plan.state.IptablesChain`, in iptables-save's own form.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import processes
from k8snetlab.plan.state import Family, IptablesBackend, IptablesChain

# The chains each table has as soon as it exists (iptables/nft.c); they can be emptied but not deleted.
BUILT_IN: Final[dict[str, tuple[str, ...]]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_FAILED_LINE: Final = re.compile(r"line:? (\d+)")
_SEARCHED: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_QUOTED: Final = re.compile(r"'([^']+)'")
_HINT: Final = "install iptables 1.8 or newer (with iptables-nft-restore)"


@cache
def program(family: Family, verb: str) -> str:
    """The nf_tables variant of `iptables-VERB` or `ip6tables-VERB` on this host; HostError when there is none."""
    prefix = "iptables" if family == 4 else "ip6tables"
    for name in (f"{prefix}-nft-{verb}", f"{prefix}-{verb}"):
        path = find_program(name)
        # The plain name is the administrator's choice of variant; only nf_tables will do.
        if path and (name != f"{prefix}-{verb}" or b"nf_tables" in processes.run([path, "--version"]).stdout):
            return path
    raise HostError(f"this host has no nf_tables variant of {prefix}-{verb}", hint=_HINT)


def find_program(name: str) -> str:
    """The path of a program, also where an ordinary user's PATH does not look; empty when there is none."""
    for directory in (*os.get_exec_path(), *_SEARCHED):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    return ""


def restore_text(write: Iterable[IptablesChain], delete: Iterable[IptablesChain] = ()) -> str:
    """The input of `iptables-restore --noflush` that makes the chains of `write` exactly so and removes the others.

    A line `:CHAIN - [0:0]` makes a chain or empties it, but leaves a built-in one's rules: those need `-F`.
    """
    tables: defaultdict[str, tuple[list[IptablesChain], list[IptablesChain]]] = defaultdict(lambda: ([], []))
    for chain in write:
        tables[chain.table][0].append(chain)
    for chain in delete:
        tables[chain.table][1].append(chain)
    lines: list[str] = []
    for table, (written, deleted) in tables.items():
        lines.append(f"*{table}")
        lines += [f":{chain.name} {chain.policy or '-'} [0:0]" for chain in written]
        lines += [f":{chain.name} {'ACCEPT' if is_built_in(chain) else '-'} [0:0]" for chain in deleted]
        lines += [f"-F {chain.name}" for chain in (*written, *deleted) if is_built_in(chain)]
        lines += [f"-A {chain.name} {rule}" for chain in written for rule in chain.rules]
        lines += [f"-X {chain.name}" for chain in deleted if not is_built_in(chain)]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def restore_command(family: Family, *, fresh: bool = False) -> list[str]:
    """`fresh`: the namespace has no chain yet. Then --noflush would only make the tool look each new chain up among
    those it has read so far, which is quadratic: 5,000 Services take it 20 s instead of 1 s of CPU."""
    return [program(family, "restore"), *([] if fresh else ["--noflush"])]


def restore(netns: str, family: Family, write: Iterable[IptablesChain], delete: Iterable[IptablesChain] = ()) -> None:
    """Write and delete chains of one namespace and family, all or none. Raises KernelError naming the refused rule."""
    text = restore_text(write, delete)
    check(netns, text, processes.run(restore_command(family), netns, stdin=text.encode()))


def check(netns: str, text: str, completed: processes.Completed) -> None:
    """Raise KernelError, with the rule it is about, when a restore of `text` has failed."""
    if completed.returncode == 0:
        return
    said = completed.stderr.decode(errors="replace").strip()
    reason = " ".join(said.partition("\nTry ")[0].split()) or f"exit code {completed.returncode}"
    raise KernelError("restore iptables", netns=netns, subject=_refused(text.splitlines(), said), reason=reason)


def _refused(lines: list[str], said: str) -> str:
    """The line an error is about. One found only at COMMIT (a jump to nowhere) names the chain, not the rule."""
    match = _FAILED_LINE.search(said)
    if match is None or not 0 < int(match[1]) <= len(lines):
        return ""
    place = int(match[1]) - 1
    start = max(number for number in range(place + 1) if lines[number].startswith("*"))
    table, line = lines[start][1:], lines[place]
    name = _QUOTED.search(said)
    if line == "COMMIT" and name is not None:
        rules = (rule for rule in lines[start:place] if rule.startswith("-A ") and name[1] in rule.split()[2:])
        line = next(rules, line)
    return f"-t {table} {line}"


def save(netns: str, family: Family) -> tuple[IptablesChain, ...]:
    """Every chain of a namespace in one family, built-in ones included, as far as its tables exist."""
    completed = processes.run([program(family, "save")], netns)
    return parse_saved(netns, family, completed)


def parse_saved(
    netns: str, family: Family, completed: processes.Completed, backend: IptablesBackend = "nft"
) -> tuple[IptablesChain, ...]:
    """What `iptables-save` printed, as chains. Raises KernelError when it failed."""
    if completed.returncode != 0:
        reason = completed.stderr.decode(errors="replace").strip() or f"exit code {completed.returncode}"
        raise KernelError("save iptables", netns=netns, reason=reason)
    return tuple(_chains(netns, family, completed.stdout.decode(errors="replace"), backend))


def _chains(netns: str, family: Family, saved: str, backend: IptablesBackend) -> Iterator[IptablesChain]:
    table = ""
    policies: dict[str, str] = {}
    rules: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("-A "):
            _, name, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
            rules[name].append(rule)
        elif line.startswith(":"):
            name, policy, _ = line[1:].split(" ", 2)
            policies[name] = "" if policy == "-" else policy
            rules[name] = []
        elif line.startswith("*"):
            table, policies, rules = line[1:], {}, {}
        elif line == "COMMIT":
            for name, policy in policies.items():
                yield IptablesChain(netns, family, table, name, policy, tuple(rules[name]), backend)


def is_built_in(chain: IptablesChain) -> bool:
    """Whether it comes with its table."""
    return chain.name in BUILT_IN.get(chain.table, ())


def is_untouched(chain: IptablesChain) -> bool:
    """Whether it is a built-in chain as it comes with its table: empty, accepting."""
    return is_built_in(chain) and not chain.rules and chain.policy == "ACCEPT"
