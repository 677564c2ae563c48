"""Annotations of ingress-nginx: those that the lab obeys, and those that it says it ignores.

Source: ingress-nginx, docs/user-guide/nginx-configuration/annotations.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from k8snetlab.cluster.routing.patterns import pattern_fault
from k8snetlab.dataclass import dataclass

PREFIX: Final = "nginx.ingress.kubernetes.io/"
_OBEYED: Final = frozenset({
    "rewrite-target", "use-regex", "ssl-redirect", "force-ssl-redirect", "permanent-redirect",
    "permanent-redirect-code", "temporal-redirect", "canary",
    "canary-weight", "canary-weight-total", "canary-by-header", "canary-by-header-value",
    "canary-by-header-pattern", "canary-by-cookie",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A second set of backends for the same hosts and paths. A header wins over a cookie, a cookie over the weight."""

    header: str = ""
    header_value: str = ""
    header_pattern: str = ""
    cookie: str = ""
    weight: int = 0
    total: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxOptions:
    """`redirect` is `(URL, status)`; `https_only` sends plain HTTP to https with 308."""

    rewrite_target: str = ""
    use_regex: bool = False
    https_only: bool = False
    redirect: tuple[str, int] | None = None
    canary: Canary | None = None


def nginx_options(annotations: Mapping[str, str], *, has_tls: bool) -> NginxOptions:
    """ssl-redirect counts with TLS only, force-ssl-redirect always. Plain HTTP is served unless one of them is there.

    (ingress-nginx redirects by default wherever there is TLS; other controllers do not.)
    """
    given = {key.removeprefix(PREFIX): value for key, value in annotations.items() if key.startswith(PREFIX)}
    return NginxOptions(
        rewrite_target=given.get("rewrite-target", ""),
        use_regex=given.get("use-regex") == "true" or bool(given.get("rewrite-target")),
        https_only=given.get("force-ssl-redirect") == "true" or (has_tls and given.get("ssl-redirect") == "true"),
        redirect=_redirect(given),
        canary=_canary(given) if given.get("canary") == "true" else None,
    )


def ignored(annotations: Mapping[str, str]) -> list[str]:
    """What ingress-nginx would obey and the lab does not."""
    return sorted(
        key for key in annotations if key.startswith(PREFIX) and key.removeprefix(PREFIX) not in _OBEYED
    )  # fmt: skip


def _redirect(given: Mapping[str, str]) -> tuple[str, int] | None:
    if "temporal-redirect" in given:
        return given["temporal-redirect"], 302
    if "permanent-redirect" not in given:
        return None
    code = _number(given.get("permanent-redirect-code", ""), 301)
    return given["permanent-redirect"], code if code in (301, 302, 303, 307, 308) else 301


def _canary(given: Mapping[str, str]) -> Canary:
    pattern = given.get("canary-by-header-pattern", "")
    return Canary(
        header=given.get("canary-by-header", ""),
        header_value=given.get("canary-by-header-value", ""),
        header_pattern="" if pattern_fault(pattern) else pattern,
        cookie=given.get("canary-by-cookie", ""),
        weight=_number(given.get("canary-weight", ""), 0),
        total=_number(given.get("canary-weight-total", ""), 100) or 100,
    )


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else otherwise
