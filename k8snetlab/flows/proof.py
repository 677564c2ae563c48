"""Never a false green: a block counts only when the controls around it held. Pure.

For every blocked pair the same connection must pass when it is exempt from policies, or something else is broken. And
on the way from its sender's node to its receiver's, a planted deny must be seen as a block, or the prober is blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.flows.matrix import Cell, MatrixOutcome, Pair, Sighting

Way = tuple[str, str]  # from a node to a node
CONTROL_PREFIX: Final = "drop control"  # what the planted deny logs


@dataclass(frozen=True, slots=True)
class Controls:
    """Which places of the pairs to send again: each exempt from policies, and one for each way into a planted deny."""

    positive: tuple[int, ...]
    negative: Mapping[Way, int]


def controls(pairs: Sequence[Pair], sightings: Sequence[Sighting], node_of: Mapping[str, str]) -> Controls:
    """`node_of` gives each pod's node. To deny, a connection that is allowed is best: nothing else blocks that."""
    positive = tuple(place for place, sighting in enumerate(sightings) if sighting.outcome == "blocked")
    negative: dict[Way, int] = {}
    for place in positive:
        negative.setdefault(way(pairs[place], node_of), place)
    open_ways = dict.fromkeys(negative, True)
    for place, sighting in enumerate(sightings) if negative else ():
        between = way(pairs[place], node_of)
        if sighting.outcome == "allowed" and open_ways.pop(between, False):
            negative[between] = place
    return Controls(positive, negative)


def way(pair: Pair, node_of: Mapping[str, str]) -> Way:
    return node_of[pair.sender], node_of[pair.receiver]


def prove(
    pairs: Sequence[Pair],
    expected: Sequence[MatrixOutcome],
    sightings: Sequence[Sighting],
    passed: Mapping[int, Sighting],
    denied: Mapping[Way, Sighting],
    node_of: Mapping[str, str],
) -> list[Cell]:
    """The cells; `passed` are the positive controls by place, `denied` the negative ones by way."""
    denied_at = controls(pairs, sightings, node_of).negative
    ways = {between for between, place in denied_at.items() if sightings[place].outcome == "allowed"}
    cells = []
    for place, (pair, wanted, seen) in enumerate(zip(pairs, expected, sightings, strict=True)):
        doubt = ""
        if seen.outcome == "blocked":
            between = way(pair, node_of)
            doubt = _doubt(passed.get(place), denied.get(between), between, was_open=between in ways)
        reason = f"not proven: {doubt} (seen: {seen.reason})" if doubt else seen.reason
        cells.append(Cell(pair, wanted, seen.outcome, reason, proven=not doubt))
    return cells


def _doubt(passed: Sighting | None, denied: Sighting | None, between: Way, *, was_open: bool) -> str:
    if passed is None or denied is None:
        return "the controls were not sent"
    if passed.outcome != "allowed":
        return f"it does not pass without the policies either: {passed.reason}"
    # What a policy blocks anyway proves nothing unless it was the planted rule that told of the drop.
    if denied.outcome != "blocked" or not (was_open or CONTROL_PREFIX in denied.reason):
        return f"a planted deny between {between[0]} and {between[1]} is not seen as a block"
    return ""
