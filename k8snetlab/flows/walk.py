"""What a resolver did to find a name: every question it sent, with what came back. Values only."""

from __future__ import annotations

from k8snetlab.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question on the wire. `code` is empty and `ms` None when no answer came; `answers` are `TYPE DATA`.

    `at_ms` counts from the first question.
    """

    name: str
    type: str
    server: str
    protocol: str
    at_ms: float
    code: str = ""
    answers: tuple[str, ...] = ()
    truncated: bool = False
    ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """All that was asked for one name, in order, and what the resolver made of it; `reason` when it found nothing."""

    asked: tuple[Asked, ...]
    found: tuple[str, ...]
    reason: str
    ms: float
    resolv_conf: str
