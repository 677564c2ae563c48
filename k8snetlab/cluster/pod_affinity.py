"""Scheduling rules that look at the pods already placed: pod affinity, pod anti-affinity and topology spread.

After pkg/scheduler/framework/plugins: interpodaffinity, podtopologyspread. A *domain* is the set of nodes with the same
value of a topology key. Each distinct rule keeps its counts by domain while pods are placed, and is found from a pod by
one of the labels it asks for, so the cost does not grow with rules × pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.model import Node
from k8snetlab.cluster.node_fit import selects
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.manifests.api import core, scheduling
from k8snetlab.manifests.api.meta import Labels, LabelSelector
from k8snetlab.manifests.selectors import matches

RuleKey = tuple[frozenset[str] | None, str, object]


@dataclass(slots=True, eq=False)
class Rule:
    """One (namespaces, selector, topology key): its matching pods and the pods that repel those, per domain."""

    namespaces: frozenset[str] | None  # None: all
    selector: LabelSelector | None  # None matches nothing
    topology_key: str
    matching: Counter[str] = field(default_factory=Counter)
    repelling: Counter[str] = field(default_factory=Counter)

    def covers(self, seed: PodSeed) -> bool:
        if self.selector is None or (self.namespaces is not None and seed.namespace not in self.namespaces):
            return False
        return matches(self.selector, seed.labels)


@dataclass(frozen=True, slots=True)
class Spread:
    constraint: scheduling.TopologySpreadConstraint
    rule: Rule


@dataclass(frozen=True, slots=True)
class RulesOfPod:
    """What one kind of pod (same namespace, same spec) asks for."""

    attract: tuple[Rule, ...] = ()
    repel: tuple[Rule, ...] = ()
    spread: tuple[Spread, ...] = ()
    like: tuple[tuple[int, Rule], ...] = ()  # weight, negative for dislike

    def all(self) -> Iterable[Rule]:
        yield from self.attract
        yield from self.repel
        yield from (spread.rule for spread in self.spread)
        yield from (rule for _, rule in self.like)


@dataclass(frozen=True, slots=True)
class Constraints:
    """The rules as they stand for one pod at this moment of the placement."""

    seed: PodSeed
    rules: RulesOfPod
    repelled_by: tuple[Rule, ...]
    lowest: Mapping[int, int]  # index of a spread constraint → fewest matching pods of any eligible domain

    def misfit(self, node: Node) -> str:
        """Why the node is out, in the scheduler's words; empty when it is not."""
        if not self._attracted(node):
            return "node(s) didn't match pod affinity rules"
        for rule in self.rules.repel:
            domain = node.labels.get(rule.topology_key)
            if domain is not None and rule.matching[domain]:
                return "node(s) didn't match pod anti-affinity rules"
        for rule in self.repelled_by:
            domain = node.labels.get(rule.topology_key)
            if domain is not None and rule.repelling[domain]:
                return "node(s) didn't satisfy existing pods anti-affinity rules"
        return self._spread_misfit(node)

    def _attracted(self, node: Node) -> bool:
        rules = self.rules.attract
        if any(rule.topology_key not in node.labels for rule in rules):
            return False
        if all(rule.matching[node.labels[rule.topology_key]] for rule in rules):
            return True
        # The first pod of a group that wants to be with itself may go anywhere, or none ever could.
        return not any(rule.matching.total() for rule in rules) and all(rule.covers(self.seed) for rule in rules)

    def _spread_misfit(self, node: Node) -> str:
        for index, spread in enumerate(self.rules.spread):
            if spread.constraint.when_unsatisfiable != "DoNotSchedule":
                continue
            domain = node.labels.get(spread.rule.topology_key)
            if domain is None:
                return "node(s) didn't match pod topology spread constraints (missing required label)"
            skew = spread.rule.matching[domain] + spread.rule.covers(self.seed) - self.lowest.get(index, 0)
            if skew > spread.constraint.max_skew:
                return "node(s) didn't match pod topology spread constraints"
        return ""

    def liking(self, node: Node) -> int:
        """How much the pod prefers the node: weighted matches, less the pods a ScheduleAnyway spread should avoid."""
        score = 0
        for weight, rule in self.rules.like:
            domain = node.labels.get(rule.topology_key)
            score += weight * rule.matching[domain] if domain is not None else 0
        for spread in self.rules.spread:
            domain = node.labels.get(spread.rule.topology_key)
            score -= spread.rule.matching[domain] if domain is not None else 0
        return score


class Topology:
    """All rules of all pods, and their counts as pods are placed."""

    def __init__(self, seeds: Sequence[PodSeed], nodes: Sequence[Node], namespaces: Mapping[str, Labels]) -> None:
        self._nodes = nodes
        self._namespaces = namespaces
        self._rules: dict[RuleKey, Rule] = {}
        self._by_label: dict[tuple[str, str], list[Rule]] = {}
        self._without_label: list[Rule] = []
        self._of_pod: dict[tuple[str, int], RulesOfPod] = {}
        self._specs: list[core.PodSpec] = []  # keeps the ids in _of_pod alive
        for seed in seeds:
            if seed.spec.affinity is not None or seed.spec.topology_spread_constraints:
                self._rules_of(seed)

    def put(self, seed: PodSeed, node: Node) -> None:
        """Count a placed pod where it matches, and where it repels others."""
        if not self._rules:
            return
        for rule in self._covering(seed):
            domain = node.labels.get(rule.topology_key)
            if domain is not None and not seed.terminating:
                rule.matching[domain] += 1
        for rule in self._rules_of(seed).repel:
            domain = node.labels.get(rule.topology_key)
            if domain is not None:
                rule.repelling[domain] += 1

    def constraints_of(self, seed: PodSeed) -> Constraints | None:
        """None when no rule at all concerns the pod."""
        if not self._rules:
            return None
        rules = self._rules_of(seed)
        repelled_by = tuple(rule for rule in self._covering(seed) if rule.repelling)
        if not repelled_by and not rules.attract and not rules.repel and not rules.spread and not rules.like:
            return None
        return Constraints(seed, rules, repelled_by, self._lowest(seed, rules))

    def _lowest(self, seed: PodSeed, rules: RulesOfPod) -> dict[int, int]:
        """Domains count for the skew when a node of theirs has every key and passes the pod's node affinity."""
        lowest: dict[int, int] = {}
        keys = [spread.rule.topology_key for spread in rules.spread if _hard(spread)]
        if not keys:
            return lowest
        eligible = [
            node for node in self._nodes if all(key in node.labels for key in keys) and selects(seed.spec, node)
        ]
        for index, spread in enumerate(rules.spread):
            if _hard(spread):
                domains = {node.labels[spread.rule.topology_key] for node in eligible}
                lowest[index] = min((spread.rule.matching[domain] for domain in domains), default=0)
        return lowest

    def _covering(self, seed: PodSeed) -> list[Rule]:
        found = [rule for rule in self._without_label if rule.covers(seed)]
        for pair in seed.labels.items():
            found.extend(rule for rule in self._by_label.get(pair, ()) if rule.covers(seed))
        return found

    def _rules_of(self, seed: PodSeed) -> RulesOfPod:
        key = (seed.namespace, id(seed.spec))
        found = self._of_pod.get(key)
        if found is None:
            found = self._of_pod[key] = self._read(seed)
            self._specs.append(seed.spec)
        return found

    def _read(self, seed: PodSeed) -> RulesOfPod:
        affinity = seed.spec.affinity or scheduling.Affinity()
        attract = affinity.pod_affinity or scheduling.PodAffinity()
        repel = affinity.pod_anti_affinity or scheduling.PodAffinity()
        return RulesOfPod(
            attract=tuple(
                self._rule(seed, term) for term in attract.required_during_scheduling_ignored_during_execution
            ),
            repel=tuple(self._rule(seed, term) for term in repel.required_during_scheduling_ignored_during_execution),
            spread=tuple(
                Spread(
                    constraint,
                    self._intern(frozenset((seed.namespace,)), constraint.label_selector, constraint.topology_key),
                )
                for constraint in seed.spec.topology_spread_constraints
            ),
            like=tuple(
                (sign * term.weight, self._rule(seed, term.pod_affinity_term))
                for sign, terms in ((1, attract), (-1, repel))
                for term in terms.preferred_during_scheduling_ignored_during_execution
            ),
        )

    def _rule(self, seed: PodSeed, term: scheduling.PodAffinityTerm) -> Rule:
        """Neither namespaces nor namespaceSelector means the pod's own namespace; an empty selector means all."""
        names: set[str] = set(term.namespaces)
        if term.namespace_selector is not None:
            selector = term.namespace_selector
            if not selector.match_labels and not selector.match_expressions:
                return self._intern(None, term.label_selector, term.topology_key)
            names |= {name for name, labels in self._namespaces.items() if matches(selector, labels)}
        elif not names:
            names = {seed.namespace}
        return self._intern(frozenset(names), term.label_selector, term.topology_key)

    def _intern(self, namespaces: frozenset[str] | None, selector: LabelSelector | None, topology_key: str) -> Rule:
        shape = None if selector is None else (tuple(sorted(selector.match_labels.items())), selector.match_expressions)
        rule = self._rules.get((namespaces, topology_key, shape))
        if rule is None:
            rule = self._rules[namespaces, topology_key, shape] = Rule(namespaces, selector, topology_key)
            if selector is not None and selector.match_labels:
                self._by_label.setdefault(next(iter(sorted(selector.match_labels.items()))), []).append(rule)
            else:
                self._without_label.append(rule)
        return rule


def _hard(spread: Spread) -> bool:
    return spread.constraint.when_unsatisfiable == "DoNotSchedule"
