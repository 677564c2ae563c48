"""All pairs of pods: what is asked of each, what was seen, and whether a block was proven to be one."""

from __future__ import annotations

from typing import Literal

from k8snetlab.dataclass import dataclass

MatrixOutcome = Literal["allowed", "blocked", "error"]
Via = Literal["pod", "service"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One cell of the matrix: may `sender` open a connection to `receiver`? Both are `ns/pod`.

    Packets leave from `netns` to `address` and `port`: the receiver's own, or a ClusterIP of a Service that has
    `endpoints` endpoints for this sender. `endpoint` and `target_port` are where they must arrive. `listening` says
    that the lab's own server has that port open: a refusal then is a fault and no answer of the pod.
    """

    sender: str
    receiver: str
    netns: str
    address: str
    port: int
    endpoint: str
    target_port: int
    listening: bool = True
    endpoints: int = 1


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one connection came to. `reached` is the address that a drop names, or the `ns/pod` that answered.

    `silent`: there was neither an answer nor a trace of the packet; `refused`: the answer was no, by the pod itself
    (nothing listens there) or, when blocked, by a rule that rejects.
    """

    outcome: MatrixOutcome
    reason: str = ""
    reached: str = ""
    silent: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A pair with its judgements. `proven` is False for a block that the controls did not confirm (see
    `probe.controls`); `reason` then says what was missing."""

    pair: Pair
    expected: MatrixOutcome
    observed: MatrixOutcome
    reason: str = ""
    proven: bool = True

    @property
    def as_expected(self) -> bool:
        return self.observed == self.expected and self.proven
