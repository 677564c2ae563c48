"""What came of one mutant of the policies."""

from __future__ import annotations

from typing import Literal

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import Source

Fate = Literal["killed", "survived", "equivalent", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`fate` killed: `by` is the check that noticed; survived: nobody did, and `witness` is a connection that would
    have told; equivalent: no connection in this lab tells it from the original; error: a probe could not run.

    `milliseconds` is what it took to bring the lab to the mutant's policies.
    """

    policy: str
    part: str
    change: str
    source: Source | None
    fate: Fate
    by: str = ""
    witness: str = ""
    milliseconds: float = 0.0
