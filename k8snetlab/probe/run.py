"""Send flows with real packets. These functions run in a process that has entered the lab's namespaces.

A flow to an address needs nothing of its sender but the network namespace. One to a name is sent by a process that has
taken the sender's identity, since its resolv.conf and hosts decide where the packets go.
"""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import BinaryIO, NoReturn

from k8snetlab.errors import LabError, ProbeError
from k8snetlab.flows.model import Flow, Result
from k8snetlab.kernel import netns as namespaces
from k8snetlab.kernel import syscalls
from k8snetlab.kernel.identity import Identity, assume
from k8snetlab.probe import datagrams, resolver, tools
from k8snetlab.probe.engine import Attempt, drive

Progress = Callable[[str, int, int], None]  # of what, done, to do


def send(
    flows: Sequence[Flow],
    identities: Mapping[str, Identity],
    timeout: float = 1.0,
    parallel: int = 4,
    progress: Progress | None = None,
) -> list[Result]:
    """Try each flow once, `parallel` at a time; results in the order of the flows.

    `timeout` is each flow's, in seconds. `identities`, by network namespace, must have the senders of flows whose
    address is a name. What goes wrong with one flow is its Result, outcome `error`. Raises ProbeError for a sender that
    has no namespace or lacks its identity.
    """
    by_address, by_name = _sorted(flows, identities)
    results: dict[int, Result] = {}
    told = 0.0
    for place, result in _all(flows, by_address, by_name, identities, timeout, parallel):
        results[place] = result
        if progress and (len(results) == len(flows) or time.monotonic() - told > 0.1):  # enough for an eye
            told = time.monotonic()
            progress("probes", len(results), len(flows))
    return [results[place] for place in range(len(flows))]


def _sorted(flows: Sequence[Flow], identities: Mapping[str, Identity]) -> tuple[list[int], dict[str, list[int]]]:
    """Places of the flows to addresses, and of those to names by the sender's namespace."""
    by_address: list[int] = []
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for place, flow in enumerate(flows):
        netns = flow.sender.netns
        if not netns:
            raise ProbeError(f"{flow.sender} has no network namespace to send from")
        if _is_address(flow.address):
            by_address.append(place)
        elif netns in identities:
            by_name[netns].append(place)
        else:
            raise ProbeError(f"the identity of {flow.sender} is not known, so it cannot look up {flow.address}")
    return by_address, by_name


def _all(
    flows: Sequence[Flow],
    by_address: Sequence[int],
    by_name: Mapping[str, Sequence[int]],
    identities: Mapping[str, Identity],
    timeout: float,
    parallel: int,
) -> Iterator[tuple[int, Result]]:
    attempts = (_attempt(flows[place], flows[place].sender.netns, timeout) for place in by_address)
    for number, result in drive(attempts, parallel):
        yield by_address[number], result
    for netns, places in by_name.items():
        named = [flows[place] for place in places]
        yield from zip(places, _send_as(identities[netns], netns, named, timeout, parallel), strict=True)


def _attempt(flow: Flow, netns: str, timeout: float) -> Attempt:
    match flow.protocol:
        case "ICMP":
            return tools.ping(flow, netns, timeout)
        case "TCP" | "HTTP":
            return tools.curl(flow, netns, timeout)
        case "UDP":
            return datagrams.udp(flow, netns, timeout)
        case "SCTP":
            return datagrams.sctp(flow, netns, timeout)
        case "DNS":
            return datagrams.dns(flow, netns, timeout)


def _attempt_by_name(flow: Flow, timeout: float) -> Attempt:
    """From where this process is. curl looks names up by itself."""
    if flow.protocol in ("TCP", "HTTP"):
        return (yield from _attempt(flow, "", timeout))
    if flow.query:
        return (yield from resolver.look_up(flow, timeout))
    address = yield from tools.resolve(flow.address, timeout)
    if not address:
        return Result(outcome="error", reason=f"could not resolve {flow.address}")
    return (yield from _attempt(replace(flow, address=address), "", timeout))


def _send_as(identity: Identity, netns: str, flows: Sequence[Flow], timeout: float, parallel: int) -> list[Result]:
    """Send flows to names from a child that takes the identity: this process must keep its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with open(writer, "wb") as answer:  # noqa: PTH123
            _become(identity, netns, flows, timeout, parallel, answer)
    os.close(writer)
    with open(reader, "rb") as answers:  # noqa: PTH123
        content = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise ProbeError(f"the process that probes from {netns} ended with status {status}")
    results: list[Result] = pickle.loads(content)
    return results


def _become(
    identity: Identity, netns: str, flows: Sequence[Flow], timeout: float, parallel: int, answer: BinaryIO
) -> NoReturn:
    status = 1
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        try:
            syscalls.setns(namespaces.open_netns(netns), syscalls.CLONE_NEWNET)
            assume(identity)
            ended = dict(drive((_attempt_by_name(flow, timeout) for flow in flows), parallel))
            results = [ended[place] for place in range(len(flows))]
        except (LabError, OSError) as error:
            results = [Result(outcome="error", reason=str(error))] * len(flows)
        pickle.dump(results, answer)
        answer.flush()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
