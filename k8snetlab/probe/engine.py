"""Many probes at once in one thread: each is a generator that says what it waits for and ends with its result.

What a probe holds (a program, a socket) it holds in a `with`; ending the generator early lets go of it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Iterable, Iterator

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import LabError
from k8snetlab.flows.model import Result


@dataclass(frozen=True, slots=True)
class Waiting:
    """Until `fd` is ready for `events` (of poll), or `deadline` (of time.monotonic) has come."""

    fd: int
    deadline: float
    events: int = select.POLLIN


# Is sent whether the file became ready in time. LabError and OSError that leave it mean that the probe could not run.
Attempt = Generator[Waiting, bool, Result]


def drive(attempts: Iterable[Attempt], parallel: int) -> Iterator[tuple[int, Result]]:
    """Run the probes, at most `parallel` at a time; yields each one's place and result as it ends."""
    queue = iter(enumerate(attempts))
    pending: dict[int, tuple[int, Attempt, float]] = {}
    poll = select.poll()
    try:
        while True:
            while len(pending) < parallel and (following := next(queue, None)) is not None:
                yield from _take(*following, None, pending, poll)
            if not pending:
                return
            for fd, ready in _ended(pending, poll):
                poll.unregister(fd)
                place, attempt, _ = pending.pop(fd)
                yield from _take(place, attempt, ready, pending, poll)
    finally:
        for _, attempt, _ in pending.values():
            attempt.close()


def _take(
    place: int,
    attempt: Attempt,
    ready: bool | None,
    pending: dict[int, tuple[int, Attempt, float]],
    poll: select.poll,
) -> Iterator[tuple[int, Result]]:
    """Let one go on, to its end or to what it waits for next; `ready` is None for its first step."""
    step = _step(attempt, ready)
    if isinstance(step, Result):
        yield place, step
    else:
        pending[step.fd] = (place, attempt, step.deadline)
        poll.register(step.fd, step.events)


def _step(attempt: Attempt, ready: bool | None) -> Waiting | Result:
    try:
        return next(attempt) if ready is None else attempt.send(ready)
    except StopIteration as end:
        result: Result = end.value
        return result
    except LabError as error:
        return Result(outcome="error", reason=error.message)
    except OSError as error:
        return Result(outcome="error", reason=str(error))


def _ended(pending: dict[int, tuple[int, Attempt, float]], poll: select.poll) -> list[tuple[int, bool]]:
    """Those whose file is ready, and those whose time is up."""
    left = min(deadline for *_, deadline in pending.values()) - time.monotonic()
    ready = {fd for fd, _ in poll.poll(max(0.0, left) * 1000)}
    now = time.monotonic()
    return [(fd, fd in ready) for fd, (*_, deadline) in pending.items() if fd in ready or deadline <= now]
