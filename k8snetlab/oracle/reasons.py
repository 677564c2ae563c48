"""Why policies allow or deny a connection, in words: one line, or the whole way to the verdict step by step."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source
from k8snetlab.oracle.policy import TIERS, PolicyVerdict, Ruling
from k8snetlab.oracle.policy_rules import DirectedPolicies, DirectedPolicy, Direction, Rule

MOST_NAMED = 3
EXEMPT = {
    "itself": "a pod always reaches itself",
    "own node": "a pod and its own node always reach each other",
}
CONTESTED = (
    "a pod always reaches its own node, says the documentation; engines that hold egress policies against it deny this"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was looked at. `matched` is None where nothing is matched; `policy` is `Kind name` and `rule` like
    `ingress[0]`, both empty when the step is about none."""

    direction: Direction | None
    text: str
    policy: str = ""
    rule: str = ""
    source: Source | None = None
    matched: bool | None = None


def reason(verdict: PolicyVerdict) -> str:
    """One line: the rules that allow it, or what denies it and where that is written."""
    if verdict.exempt:
        return CONTESTED if verdict.contested else EXEMPT[verdict.exempt]
    denied = [ruling for ruling in verdict.rulings if not ruling.allowed]
    if denied:
        return _denied(verdict, denied[0])
    accepting = [ruling for ruling in verdict.rulings if ruling.policy is not None]
    if not accepting:
        return "no policy denies it"
    return "allowed by " + " and ".join(cited(r.policy, r.rule) for r in accepting if r.policy is not None)


def cited(policy: DirectedPolicy, rule: Rule | None = None) -> str:
    """`NetworkPolicy shop/db ingress[0] (db.yaml:7)`."""
    where = (rule.source if rule else None) or policy.source
    return f"{policy}{f' {rule_name(policy, rule)}' if rule else ''}{f' ({where})' if where else ''}"


def rule_name(policy: DirectedPolicy, rule: Rule) -> str:
    return f"{policy.direction}[{rule.index}]{f' {rule.name!r}' if rule.name else ''}"


def _denied(verdict: PolicyVerdict, ruling: Ruling) -> str:
    if ruling.policy is not None:
        return f"denied by {cited(ruling.policy, ruling.rule)}"
    named = ", ".join(cited(policy) for policy in ruling.isolating[:MOST_NAMED])
    more = len(ruling.isolating) - MOST_NAMED
    verb = "isolates" if len(ruling.isolating) == 1 else "isolate"
    return (
        f"{named}{f' and {more} more' if more > 0 else ''} {verb} {ruling.subject} for {ruling.direction} "
        f"and nothing allows {what(verdict)} {'from' if ruling.direction == 'ingress' else 'to'} {ruling.peer}"
    )


def what(verdict: PolicyVerdict) -> str:
    """`TCP 80`, or `ICMP`."""
    return f"{verdict.protocol} {verdict.port}" if verdict.port else verdict.protocol


# --- Step by step -----------------------------------------------------------------------------------------------------


def steps(policies: DirectedPolicies, verdict: PolicyVerdict) -> tuple[Step, ...]:
    """Everything that was asked on the way to the verdict, in order; rules behind the one that decided are not."""
    if verdict.exempt:
        return (Step(direction=None, text=CONTESTED if verdict.contested else EXEMPT[verdict.exempt]),)
    found = [step for ruling in verdict.rulings for step in _ruling_steps(policies, verdict, ruling)]
    if not found:
        found = [Step(direction=None, text="neither end is a pod of the pod network: no policy applies")]
    return tuple(found)


def _ruling_steps(policies: DirectedPolicies, verdict: PolicyVerdict, ruling: Ruling) -> Iterator[Step]:
    assert ruling.subject.pod is not None
    direction, pod = ruling.direction, ruling.subject.pod.key
    selected = False
    for tier in TIERS:
        tiered = policies.selecting(direction, pod, tier)
        selected = selected or bool(tiered)
        for policy in tiered:
            ends = yield from _policy_steps(verdict, ruling, policy)
            if ends == "ruling":
                return
            if ends == "tier":
                break
        if tier == "NetworkPolicy" and tiered:
            yield Step(
                direction=direction, text=f"no rule allows it: {pod} is isolated for {direction}, so it is denied"
            )
            return
    text = "nothing decided" if selected else f"no policy selects {pod} for {direction}"
    yield Step(direction=direction, text=f"{text}: allowed")


def _policy_steps(verdict: PolicyVerdict, ruling: Ruling, policy: DirectedPolicy) -> Generator[Step, None, str]:
    """The steps of one policy; returns whether it ended the ruling, its tier, or nothing."""
    isolates = policy.tier == "NetworkPolicy"
    effect = f"isolates it for {policy.direction}" if isolates else f"tier {policy.tier}"
    text = f"{policy} selects {ruling.subject}: {effect}"
    yield Step(direction=policy.direction, policy=str(policy), source=policy.source, text=text)
    for rule in policy.rules:
        matched = rule.matches(ruling.peer, verdict.destination, verdict.protocol, verdict.port)
        yield Step(
            direction=policy.direction,
            policy=str(policy),
            rule=f"{policy.direction}[{rule.index}]",
            source=rule.source,
            matched=matched,
            text=f"{rule_name(policy, rule)} {_match(verdict, ruling, rule, matched=matched)}",
        )
        if matched:
            return "tier" if rule.action == "Pass" else "ruling"
    return ""


_OUTCOMES = {"Accept": "allowed", "Deny": "denied", "Pass": "passed on to the next tier"}


def _match(verdict: PolicyVerdict, ruling: Ruling, rule: Rule, *, matched: bool) -> str:
    if matched:
        return f"matches: {_OUTCOMES[rule.action]}"
    misses = []
    if not rule.matches_peer(ruling.peer):
        misses.append(f"{'from' if ruling.direction == 'ingress' else 'to'} does not match {ruling.peer}")
    if not rule.matches_port(verdict.destination, verdict.protocol, verdict.port):
        misses.append(f"ports do not match {what(verdict)}{_of_name(verdict, rule)}")
    return f"does not match: {' and '.join(misses)}"


def _of_name(verdict: PolicyVerdict, rule: Rule) -> str:
    """A named port is a port of the destination pod, which is where people look last."""
    named = [port.name for port in rule.ports or () if port.name]
    return f" ({', '.join(named)}: looked up in {verdict.destination})" if named else ""
