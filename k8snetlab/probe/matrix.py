"""The matrix from inside the lab: sweep all pairs, try again what is not clear, ask Services until each endpoint spoke.

These functions run in the process that has entered the lab (`lab.enter.run_in`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from k8snetlab.flows.matrix import Pair, Sighting
from k8snetlab.kernel import netns as namespaces
from k8snetlab.kernel.extern_learned import Member, introduced
from k8snetlab.probe.sweep import Manner, Progress, sweep

# To miss one of n endpoints that are chosen at random in 12 n tries has the probability e^-12.
_ROUNDS: Final = 12
# Of /proc/net/netstat and /proc/net/snmp (proc(5)): what a receiver counts when it has no room.
_FULL: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    "TCP": (("netstat", "TcpExt", "ListenOverflows"), ("netstat", "TcpExt", "TCPReqQFullDrop")),
    "UDP": (("snmp", "Udp", "RcvbufErrors"),),
    "SCTP": (),
}


def observe(
    pairs: Sequence[Pair],
    nodes: Sequence[str],
    manner: Manner,
    receivers: Mapping[str, str],
    bridges: Sequence[Sequence[Member]] = (),
    progress: Progress | None = None,
) -> list[Sighting]:
    """What each pair came to, in the order of the pairs.

    `nodes` are the namespaces whose drops are listened to, `receivers` gives each receiver's namespace, `bridges` the
    pods that must first be introduced to each other.
    """
    with introduced(bridges):
        several = any(pair.endpoints > 1 for pair in pairs)
        sightings = (_through_services if several else sweep)(pairs, nodes, manner, progress)
        return _again(pairs, sightings, nodes, manner, receivers)


def _again(
    pairs: Sequence[Pair], sightings: list[Sighting], nodes: Sequence[str], manner: Manner, receivers: Mapping[str, str]
) -> list[Sighting]:
    """Silence is tried once more, since a SYN or datagram may be lost; a receiver that had no room is no block."""
    silent = [place for place, sighting in enumerate(sightings) if sighting.silent]
    if not silent:
        return sightings
    places = {receivers[pairs[place].receiver] for place in silent}
    before = _shortages(places, manner.protocol)
    second = sweep([pairs[place] for place in silent], nodes, manner)
    after = _shortages(places, manner.protocol)
    for place, sighting in zip(silent, second, strict=True):
        netns = receivers[pairs[place].receiver]
        if sighting.silent and after[netns] > before[netns]:
            sighting = Sighting("error", "the receiver has no room: its queue is full and nobody reads it")
        sightings[place] = sighting
    return sightings


def _shortages(places: Iterable[str], protocol: str) -> dict[str, int]:
    found = {}
    for netns in places:
        with namespaces.inside(netns):
            found[netns] = sum(_counter(*which) for which in _FULL[protocol])
    return found


def _counter(file: str, group: str, name: str) -> int:
    """A counter of the namespace the thread is in: two lines a group, its names and then its values."""
    with open(f"/proc/thread-self/net/{file}", encoding="ascii") as lines:  # noqa: PTH123
        rows = [line.split() for line in lines if line.startswith(f"{group}:")]
    return int(dict(zip(*rows, strict=True)).get(name, "0")) if len(rows) == 2 else 0


def _through_services(
    pairs: Sequence[Pair], nodes: Sequence[str], manner: Manner, progress: Progress | None
) -> list[Sighting]:
    """Through a Service with several endpoints nobody can choose one: ask until each has answered or was dropped."""
    found: dict[int, Sighting] = {}
    siblings: defaultdict[tuple[str, str, int], dict[str, int]] = defaultdict(dict)
    for place, pair in enumerate(pairs):
        group = siblings[pair.netns, pair.address, pair.port]
        group[pair.receiver] = group[pair.endpoint] = place
    for _ in range(_ROUNDS):
        places = [place for place in range(len(pairs)) if place not in found]
        shots = [place for place in places for _ in range(pairs[place].endpoints)]
        for place, sighting in zip(shots, sweep([pairs[n] for n in shots], nodes, manner, progress), strict=True):
            found.update(_attributed(pairs[place], place, sighting, siblings))
        if len(found) == len(pairs):
            break
    never = Sighting("error", f"the Service never showed this endpoint in {_ROUNDS} rounds")
    return [found.get(place, never) for place in range(len(pairs))]


def _attributed(
    pair: Pair, place: int, sighting: Sighting, siblings: Mapping[tuple[str, str, int], Mapping[str, int]]
) -> Iterator[tuple[int, Sighting]]:
    """Which pair a sighting is about: the one whose endpoint it names; with a single endpoint it must be that."""
    about = siblings[pair.netns, pair.address, pair.port].get(sighting.reached)
    if about is not None:
        yield about, sighting
    elif pair.endpoints == 1 or sighting.outcome == "error":
        if sighting.reached and sighting.outcome == "allowed":  # by a pod that is no endpoint
            sighting = replace(sighting, outcome="error", reason=f"answered by {sighting.reached}")
        yield place, sighting
