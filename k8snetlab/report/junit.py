"""JUnit XML, as CI systems read it: one suite, one case a scenario."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from k8snetlab.dataclass import dataclass

# XML 1.0, production Char: no other control characters, not even escaped.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario that was run: `failures` are the checks that failed, `error` says why it could not be run."""

    name: str
    checks: int
    failures: tuple[str, ...]
    error: str
    seconds: float


def junit_xml(cases: Sequence[Case]) -> str:
    failures = sum(1 for case in cases if case.failures)
    errors = sum(1 for case in cases if case.error)
    seconds = sum(case.seconds for case in cases)
    attributes = f'tests="{len(cases)}" failures="{failures}" errors="{errors}" time="{seconds:.3f}"'
    body = "".join(_case(case) for case in cases)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="k8snetlab" {attributes}>\n{body}</testsuite>\n'


def _case(case: Case) -> str:
    head = f'  <testcase classname="k8snetlab" name={_attribute(case.name)} time="{case.seconds:.3f}"'
    if case.error:
        text = escape(_clean(case.error))
        return f"{head}>\n    <error message={_attribute(case.error)}>{text}</error>\n  </testcase>\n"
    if case.failures:
        message = f"{len(case.failures)} of {case.checks} checks failed"
        text = escape(_clean("\n".join(case.failures)))
        return f"{head}>\n    <failure message={_attribute(message)}>{text}</failure>\n  </testcase>\n"
    return f"{head}/>\n"


def _attribute(text: str) -> str:
    """The first line that says something."""
    return quoteattr(next((line for line in _clean(text).splitlines() if line.strip()), ""))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
