"""Which rules of the policies were hit, for people and for scripts."""

from __future__ import annotations

from collections.abc import Sequence

from k8snetlab.oracle.coverage import RuleCoverage, Unmatched
from k8snetlab.report.table import table


def coverage_table(rules: Sequence[RuleCoverage], nothing: Sequence[Unmatched], *, colour: bool = False) -> str:
    """One line a rule, and one for each selector that chooses nothing."""
    parts = []
    if rules:
        rows = [(_state(rule), rule.policy, rule.rule, _hits(rule), str(rule.source or "-")) for rule in rules]
        styles = {0: ["green" if rule.packets else "red" for rule in rules]} if colour else None
        parts.append(table(("", "POLICY", "RULE", "CONNECTIONS", "SOURCE"), rows, styles))
    if nothing:
        lines = [(each.policy, each.selector, str(each.source or "-")) for each in nothing]
        parts.append("\n" + table(("SELECTS NOTHING", "SELECTOR", "SOURCE"), lines))
    return "\n".join(parts)


def coverage_totals(rules: Sequence[RuleCoverage]) -> str:
    if not rules:
        return "no policy has a rule"
    hit = sum(1 for rule in rules if rule.packets)
    absent = sum(1 for rule in rules if rule.packets is None)
    lacking = f"; {absent} NOT enforced" if absent else ""
    return f"{hit} of {len(rules)} rules hit ({percent(rules):.0f} %){lacking}"


def percent(rules: Sequence[RuleCoverage]) -> float:
    return 100 * sum(1 for rule in rules if rule.packets) / len(rules) if rules else 100.0


def coverage_json(lab: str, rules: Sequence[RuleCoverage], nothing: Sequence[Unmatched]) -> dict[str, object]:
    """`hits` is null where no rule in the kernel enforces the policy's."""
    return {
        "lab": lab,
        "covered": sum(1 for rule in rules if rule.packets),
        "total": len(rules),
        "rules": [
            {
                "policy": rule.policy,
                "rule": rule.rule,
                "source": str(rule.source) if rule.source else None,
                "hits": rule.packets,
            }
            for rule in rules
        ],
        "unmatched": [
            {
                "policy": each.policy,
                "selector": each.selector,
                "source": str(each.source) if each.source else None,
            }
            for each in nothing
        ],
    }


def _state(rule: RuleCoverage) -> str:
    return "NOT ENFORCED" if rule.packets is None else "hit" if rule.packets else "NEVER HIT"


def _hits(rule: RuleCoverage) -> str:
    return "-" if rule.packets is None else str(rule.packets)
