"""Send the matrix of a running lab and prove its blocks: what `matrix` and `mutate` share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from k8snetlab.cli.output import progress, say
from k8snetlab.cli.running import say_waiting
from k8snetlab.errors import UsageError
from k8snetlab.flows.matrix import Cell, MatrixOutcome, Pair, Sighting
from k8snetlab.flows.proof import Controls, Way, controls, prove
from k8snetlab.lab import life
from k8snetlab.lab.enter import run_in
from k8snetlab.oracle import matrix as oracle
from k8snetlab.probe.matrix import observe
from k8snetlab.probe.sweep import Manner

if TYPE_CHECKING:
    from k8snetlab.lab.life import OwnedLab
    from k8snetlab.lab.store import Record
    from k8snetlab.oracle.matrix import Question


class Matrix:
    """The pairs of one lab, to be sent as often as need be, and what policies say of them."""

    def __init__(self, lab: OwnedLab, record: Record, question: Question, timeout: float) -> None:
        self.lab, self.record, self.question, self.timeout = lab, record, question, timeout
        self.pairs = oracle.pairs(record.cluster, question)
        self.node_of = {pod.key: pod.node for pod in record.cluster.pods}
        self.expected: list[MatrixOutcome] = []

    def send(self, pairs: Sequence[Pair] | None = None, dscp: int = 0) -> list[Sighting]:
        """What each pair comes to; what is expected of all is worked out meanwhile, the first time."""
        from k8snetlab.probe.placement import bridges, namespaces

        assert self.lab.holder is not None
        cluster, pairs = self.record.cluster, self.pairs if pairs is None else pairs
        several = any(pair.endpoints > 1 for pair in pairs)
        manner = Manner(protocol=self.question.protocol, ask=several, dscp=dscp, timeout=self.timeout)
        places = namespaces(cluster)
        nodes = [node.name for node in cluster.nodes]
        arguments = (pairs, nodes, manner, places, bridges(cluster, pairs, self.question.family))
        with progress() as show:
            return run_in(
                self.lab.holder, observe, *arguments, progress=show, meanwhile=None if self.expected else self._expect
            )

    def cells(self) -> list[Cell]:
        """Send everything, and the controls of what was blocked."""
        sightings = self.send()
        wanted = controls(self.pairs, sightings, self.node_of)
        passed, denied = self._control(wanted) if wanted.positive else ({}, {})
        return prove(self.pairs, self.expected, sightings, passed, denied, self.node_of)

    def _control(self, wanted: Controls) -> tuple[dict[int, Sighting], dict[Way, Sighting]]:
        from k8snetlab.flows.evidence import DROP_GROUP
        from k8snetlab.plan.controls import DENY, PASS, control_points

        nodes = [node.name for node in self.record.cluster.nodes]
        points = control_points(self.record.plan, nodes, (self.question.family,), DROP_GROUP)
        with life.controlled(self.lab, points):
            exempt = self.send([self.pairs[place] for place in wanted.positive], PASS)
            planted = self.send([self.pairs[place] for place in wanted.negative.values()], DENY)
        return (
            dict(zip(wanted.positive, exempt, strict=True)),
            dict(zip(wanted.negative, planted, strict=True)),
        )

    def _expect(self) -> None:
        self.expected = oracle.expected(self.record.cluster, self.question, self.pairs)


@contextmanager
def owned(name: str, *, mend: bool = False) -> Iterator[tuple[OwnedLab, Record]]:
    """Own a running lab for as long as it is tried out; one that a killed command has left changed is mended first.

    With `mend` it is brought to its plan whoever changed it.
    """
    with life.locked(name, on_wait=say_waiting) as lab:
        record = lab.record()
        if record is None:
            raise UsageError(f"lab {name} does not run", hint="start it with: k8snetlab up -f FILE")
        if not record.clean:
            say(f"the last change of lab {name} did not reach its end; mending it first")
        if (mend or not record.clean) and life.up(lab, record) and record.clean:
            say(f"lab {name} was not as planned; it is now")
        yield lab, record
