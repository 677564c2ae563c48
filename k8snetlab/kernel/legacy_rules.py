"""Single rules of the kernel's older iptables: read with their counters, put at the head of a chain, taken out again.

`iptables_legacy` writes whole chains; this is for rules among others', which must stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import KernelError
from k8snetlab.kernel import iptables_legacy, processes
from k8snetlab.plan.state import Family

FAMILIES: Final[tuple[Family, ...]] = (4, 6)
_RULE: Final = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")
_COMMENT: Final = re.compile(r'--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))')


@dataclass(frozen=True, slots=True)
class LegacyRule:
    """One rule of the table `filter`, as `iptables-save` prints it without `-A CHAIN`; see `rules.KernelRule`."""

    family: Family
    chain: str
    rule: str
    comment: str
    packets: int | None


def read(netns: str) -> Iterator[LegacyRule]:
    """The rules of the namespace the thread is in; none where there are no such tables, which reading does not make."""
    for family in FAMILIES:
        if iptables_legacy.has_tables(family):
            completed = processes.run([*iptables_legacy.save_command(family), "-c", "-t", "filter"])
            if completed.returncode:
                raise KernelError("read rules", netns=netns, reason=completed.stderr.decode(errors="replace").strip())
            for line in completed.stdout.decode(errors="replace").splitlines():
                if found := _RULE.fullmatch(line):
                    packets, chain, rule = found.groups()
                    comment = _COMMENT.search(rule)
                    said = (comment[1] or comment[2] or "") if comment else ""
                    counted = None if " -j NFLOG " in rule else int(packets)
                    yield LegacyRule(family, chain, rule, said.replace("\\", ""), counted)


def deletion(rules: Sequence[LegacyRule]) -> str:
    """The input of `restore_command` that takes out these rules of one family, the first that is equal each."""
    return "\n".join(("*filter", *(f"-D {rule.chain} {rule.rule}" for rule in rules), "COMMIT", ""))


def restore_command(family: Family) -> list[str]:
    """Changes single rules; HostError when it is not installed."""
    (save,) = iptables_legacy.save_command(family)
    return [f"{save.removesuffix('save')}restore", "--noflush"]
