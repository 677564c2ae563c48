"""Which node each pod runs on: the scheduler's filters, then the most even spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from k8snetlab.cluster.hostports import HostPorts, host_ports
from k8snetlab.cluster.model import ADDON_LABEL, Node, Pod
from k8snetlab.cluster.node_fit import evicted, misfit, preference
from k8snetlab.cluster.pod_affinity import Constraints, Topology
from k8snetlab.cluster.problems import problem
from k8snetlab.cluster.workloads import PodSeed
from k8snetlab.errors import Problem
from k8snetlab.manifests.api import core
from k8snetlab.manifests.api.meta import Labels


@dataclass(slots=True)
class _Board:
    """The nodes while pods are put on them: how many each has, in all and of each owner, and which host ports."""

    nodes: Sequence[Node]
    by_name: Mapping[str, Node]
    topology: Topology
    ports: HostPorts = field(default_factory=HostPorts)
    totals: dict[str, int] = field(default_factory=dict)
    owned: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)  # namespace, owner → by node
    shy: bool = False  # whether some node would rather not have pods
    misfits: dict[int, dict[str, str]] = field(default_factory=dict)  # id of a pod spec → node → reason
    specs: list[core.PodSpec] = field(default_factory=list)  # keeps those ids alive

    def put(self, seed: PodSeed, node: Node) -> None:
        # The lab's add-ons weigh nothing: where the user's pods go does not depend on them.
        self.totals[node.name] += ADDON_LABEL not in seed.labels
        self.owned.setdefault((seed.namespace, seed.owner), Counter())[node.name] += 1
        self.topology.put(seed, node)

    def misfits_of(self, spec: core.PodSpec) -> dict[str, str]:
        # Specs that ask for nothing all get the same answer.
        key = id(spec) if spec.node_selector or spec.affinity or spec.tolerations else 0
        found = self.misfits.get(key)
        if found is None:
            found = self.misfits[key] = {node.name: misfit(spec, node) for node in self.nodes}
            self.specs.append(spec)
        return found


def schedule(
    seeds: Sequence[PodSeed],
    nodes: Sequence[Node],
    namespaces: Mapping[str, Labels],
    previous: Mapping[str, Pod],
    problems: list[Problem],
) -> list[tuple[PodSeed, Node]]:
    """A node for each pod, in the order of `seeds`; a pod that fits nowhere is a problem and left out.

    A pod of the previous cluster stays where it is, as a running pod does, unless its spec changed so that it no longer
    fits there or a NoExecute taint drives it away. Pods bound to a node come next, then all others in order.
    """
    board = _Board(nodes, {node.name: node for node in nodes}, Topology(seeds, nodes, namespaces))
    board.totals = {node.name: 0 for node in nodes}
    board.shy = any(taint.effect == "PreferNoSchedule" for node in nodes for taint in node.taints)
    placed: dict[str, Node] = {}
    rest: list[PodSeed] = []
    for seed in seeds:
        node = _kept(seed, board, previous)
        if node is None:
            rest.append(seed)
        elif _take_ports(board, seed, node, problems):
            placed[seed.key] = node
            board.put(seed, node)
    for seed in [seed for seed in rest if seed.node] + [seed for seed in rest if not seed.node]:
        node = _bound(board, seed, problems) if seed.node else _choose(board, seed, problems)
        if node is not None:
            placed[seed.key] = node
            board.put(seed, node)
    return [(seed, placed[seed.key]) for seed in seeds if seed.key in placed]


def _kept(seed: PodSeed, board: _Board, previous: Mapping[str, Pod]) -> Node | None:
    before = previous.get(seed.key)
    node = board.by_name.get(before.node) if before else None
    if before is None or node is None or (seed.node and seed.node != node.name) or evicted(seed.spec, node):
        return None
    unchanged = seed.spec is before.spec or seed.spec == before.spec
    if unchanged or not board.misfits_of(seed.spec)[node.name]:
        return node if not board.ports.conflict(seed, node) else None
    return None


def _take_ports(board: _Board, seed: PodSeed, node: Node, problems: list[Problem]) -> bool:
    conflict = board.ports.conflict(seed, node)
    if conflict:
        problems.append(problem(seed.source, seed.subject, "spec.containers", conflict))
        return False
    board.ports.take(seed, node)
    return True


def _bound(board: _Board, seed: PodSeed, problems: list[Problem]) -> Node | None:
    """A pod with nodeName never meets the scheduler; the kubelet still refuses a host port that is taken."""
    node = board.by_name.get(seed.node)
    if node is None:
        known = ", ".join(board.by_name) if len(board.by_name) <= 10 else f"{len(board.by_name)} nodes"
        message = f"there is no node {seed.node!r} in the lab; it has {known}"
        problems.append(problem(seed.source, seed.subject, "spec.nodeName", message))
        return None
    return node if _take_ports(board, seed, node, problems) else None


def _choose(board: _Board, seed: PodSeed, problems: list[Problem]) -> Node | None:
    """Fewest pods of the same owner first, then what the pod prefers, then fewest pods, then the first node."""
    spec, misfits = seed.spec, board.misfits_of(seed.spec)
    reasons: Counter[str] = Counter()
    feasible: list[Node] = []
    constrained = board.topology.constraints_of(seed)
    has_ports = bool(host_ports(spec))
    for node in board.nodes:
        reason = (
            misfits[node.name]
            or (has_ports and board.ports.misfit(seed, node))
            or (constrained and constrained.misfit(node))
        )
        if reason:
            reasons[reason] += 1
        else:
            feasible.append(node)
    if not feasible:
        causes = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        message = f"0/{len(board.nodes)} nodes are available: {causes}."
        problems.append(problem(seed.source, seed.subject, "", message))
        return None
    node = _best(board, seed, feasible, constrained)
    board.ports.take(seed, node)
    return node


def _best(board: _Board, seed: PodSeed, feasible: Sequence[Node], constrained: Constraints | None) -> Node:
    spec, totals = seed.spec, board.totals
    owned: Mapping[str, int] = board.owned.get((seed.namespace, seed.owner), {}) if seed.owner else {}
    if not board.shy and spec.affinity is None and not spec.topology_spread_constraints:
        return min(feasible, key=lambda node: (owned.get(node.name, 0), totals[node.name], node.index))

    def rank(node: Node) -> tuple[int, int, int, int]:
        liking = preference(spec, node) + (constrained.liking(node) if constrained else 0)
        return owned.get(node.name, 0), -liking, totals[node.name], node.index

    return min(feasible, key=rank)
