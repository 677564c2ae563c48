"""Checks that need no program: whether a TCP, UDP or SCTP connection of a pod comes through, by the sweep.

A denied one is known by its logged drop within milliseconds, where `curl` and `ping` wait until their time is up. Who
answers and whom it saw is not asked; for that there is `probe.run`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address

from k8snetlab.flows.matrix import Pair, Sighting
from k8snetlab.flows.model import Check, Outcome
from k8snetlab.probe.sweep import Manner, Protocol, sweep

_PROTOCOLS: dict[str, Protocol] = {"TCP": "TCP", "HTTP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}


def pair_of(check: Check) -> Pair | None:
    """The check's connection; None for a check that the sweep cannot do: a ping, a name, a source that must be seen."""
    flow = check.flow
    if flow.protocol not in _PROTOCOLS or check.sources or check.tries > 1 or not flow.sender.netns:
        return None
    try:
        ip_address(flow.address)
    except ValueError:
        return None
    # A Service's endpoint is not known: then any drop of this sender's port counts.
    endpoint = "" if flow.destination.kind == "service" else flow.address
    return Pair(
        sender=flow.sender.name,
        receiver=flow.destination.name,
        netns=flow.sender.netns,
        address=flow.address,
        port=flow.port,
        endpoint=endpoint,
        target_port=flow.port,
        listening=False,
    )


def outcomes(
    checks: Sequence[Check], pairs: Sequence[Pair], nodes: Sequence[str], timeout: float
) -> list[tuple[Outcome, str]]:
    """What each check's connection came to, with the reason; in the order of the checks."""
    places: defaultdict[Protocol, list[int]] = defaultdict(list)
    for place, check in enumerate(checks):
        places[_PROTOCOLS[check.flow.protocol]].append(place)
    found: dict[int, tuple[Outcome, str]] = {}
    for protocol, mine in places.items():
        seen = sweep([pairs[place] for place in mine], nodes, Manner(protocol=protocol, timeout=timeout))
        found |= {place: (_outcome(sighting), sighting.reason) for place, sighting in zip(mine, seen, strict=True)}
    return [found[place] for place in range(len(checks))]


def _outcome(sighting: Sighting) -> Outcome:
    if sighting.outcome == "error":
        return "error"
    if sighting.outcome == "blocked":
        return "refused" if sighting.refused else "timeout"
    return "refused" if sighting.refused else "ok"
