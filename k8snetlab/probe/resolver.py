"""Look a name up as the C library would: the search list of /etc/resolv.conf, each server in turn, TCP for what UDP
cannot carry. For where this process is: it must have the sender's identity.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Generator
from pathlib import Path

from k8snetlab.flows.lookup import candidates, parse
from k8snetlab.flows.model import Flow, Result
from k8snetlab.probe.answers import negative, not_sent, silence
from k8snetlab.probe.engine import Attempt, Waiting
from k8snetlab.workloads.dnswire import TYPES, Message, question

PORT = 53


def look_up(flow: Flow, timeout: float) -> Attempt:
    """The records of type `flow.query` that `flow.address` has, all servers and searches within `timeout` seconds.

    `refused` when the servers say that there is no such name (NXDOMAIN), or none with such a record (NODATA).
    """
    conf = parse(Path("/etc/resolv.conf").read_text(encoding="utf-8"))
    if not conf.servers:
        return Result(outcome="error", reason=f"{flow.sender.name} has no nameserver in its resolv.conf")
    begin = time.monotonic()
    last = "NXDOMAIN"
    for name in candidates(conf, flow.address):
        answer = yield from _ask_each(flow, conf.servers, name, begin + timeout, timeout)
        if isinstance(answer, Result):
            return answer
        records = tuple(text.split(" ", 1)[1] for _, text in answer.sections[0])
        if answer.code == "NOERROR" and any(flow.query in (record.split(" ")[0], "ANY") for record in records):
            rtt_ms = (time.monotonic() - begin) * 1000
            return Result(outcome="ok", rtt_ms=rtt_ms, reason=f"{name}: {', '.join(records)}", records=records)
        if answer.code not in ("NOERROR", "NXDOMAIN"):
            return Result(outcome="refused", reason=f"{answer.code} for {name}")
        if answer.code == "NOERROR":
            last = f"NODATA: {name} has no {flow.query} record"
    return Result(outcome="refused", reason=last)


def _ask_each(
    flow: Flow, servers: tuple[str, ...], name: str, deadline: float, timeout: float
) -> Generator[Waiting, bool, Message | Result]:
    """The first answer of a server, or what the last one's silence or refusal means."""
    answer: Message | Result = silence(timeout)
    for position, server in enumerate(servers):
        share = (deadline - time.monotonic()) / (len(servers) - position)
        until = time.monotonic() + max(share, 0.05)
        answer = yield from _ask(flow, server, name, until, timeout, tcp=False)
        if isinstance(answer, Message) and answer.truncated:
            answer = yield from _ask(flow, server, name, until, timeout, tcp=True)
        if isinstance(answer, Message) and answer.code in ("NOERROR", "NXDOMAIN"):
            break
    return answer


def _ask(
    flow: Flow, server: str, name: str, deadline: float, timeout: float, *, tcp: bool
) -> Generator[Waiting, bool, Message | Result]:
    number = int.from_bytes(os.urandom(2), "big")
    try:
        message = question(number, name, TYPES[flow.query])
    except ValueError as problem:
        return Result(outcome="error", reason=str(problem))
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    begin = time.monotonic()
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        try:
            one.connect_ex((server, PORT))
            if tcp:
                yield Waiting(one.fileno(), deadline, select.POLLOUT)
                message = len(message).to_bytes(2, "big") + message
            one.send(message)
        except OSError as error:
            return not_sent(flow, error.errno or 0, str(error.strerror))
        data = b""
        while (yield Waiting(one.fileno(), deadline)):
            try:
                part = one.recv(65537)
            except OSError as error:
                return negative(flow, error.errno or 0, str(error.strerror), time.monotonic() - begin)
            data = data + part if tcp else part
            whole = data[2:] if tcp else data
            if tcp and part and len(data) < 2 + int.from_bytes(data[:2], "big"):
                continue
            try:
                answer = Message(whole)
            except ValueError as problem:
                return Result(outcome="error", reason=f"the answer is no DNS reply: {problem}")
            if answer.id == number:
                return answer
        return silence(timeout)
