"""Is this a valid name? Each function gives the API server's objection, or None (apimachinery, util/validation).

Names that pass hold only letters, digits, `-`, `.` and `_`: this is why they may stand in a path, a rule or a
command further down.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name', or '123-abc')"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name', or 'abc-123')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com')"
)
_WILDCARD_RULE = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com')"
)
_QUALIFIED_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName', or 'my.name', or '123-abc')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')"
)


def _too_long(most: int) -> str:
    return f"must be no more than {most} characters"


def dns_label(name: str) -> str | None:
    """RFC 1123 label: namespaces, container names, hostnames."""
    if len(name) > 63:
        return _too_long(63)
    return None if _LABEL.fullmatch(name) else _LABEL_RULE


def dns_1035_label(name: str) -> str | None:
    """RFC 1035 label, which cannot begin with a digit: Services."""
    if len(name) > 63:
        return _too_long(63)
    return None if _LABEL_1035.fullmatch(name) else _LABEL_1035_RULE


def dns_subdomain(name: str) -> str | None:
    """RFC 1123 subdomain: most objects, host names."""
    if len(name) > 253:
        return _too_long(253)
    return None if _SUBDOMAIN.fullmatch(name) else _SUBDOMAIN_RULE


def wildcard_subdomain(name: str) -> str | None:
    """`*.` and a subdomain: hosts of an Ingress or a Gateway."""
    if len(name) > 253:
        return _too_long(253)
    return None if name.startswith("*.") and _SUBDOMAIN.fullmatch(name[2:]) else _WILDCARD_RULE


@lru_cache(maxsize=4096)
def qualified_name(name: str) -> str | None:
    """Keys of labels, annotations and taints: a name, or a DNS subdomain, `/` and a name."""
    prefix, slash, short = name.rpartition("/")
    if slash:
        if not prefix:
            return "prefix part must be non-empty"
        fault = dns_subdomain(prefix)
        if fault:
            return f"prefix part {fault}"
    if not short:
        return "name part must be non-empty"
    if len(short) > 63:
        return f"name part {_too_long(63)}"
    return None if _QUALIFIED.fullmatch(short) else _QUALIFIED_RULE


@lru_cache(maxsize=4096)
def label_value(value: str) -> str | None:
    """Values of labels."""
    if len(value) > 63:
        return _too_long(63)
    return None if not value or _QUALIFIED.fullmatch(value) else _LABEL_VALUE_RULE


def port_name(name: str) -> str | None:
    """IANA_SVC_NAME (RFC 6335): names of container ports, and what a targetPort or a policy may refer to."""
    if len(name) > 15:
        return _too_long(15)
    if not re.fullmatch(r"[-a-z0-9]+", name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", name):
        return "must contain at least one letter (a-z)"
    if "--" in name:
        return "must not contain consecutive hyphens"
    if name[0] == "-" or name[-1] == "-":
        return "must not begin or end with a hyphen"
    return None


def domain_prefixed_path(name: str) -> str | None:
    """`example.com/controller`: names of controllers."""
    domain, slash, path = name.partition("/")
    if not slash or not domain or not path:
        return 'must be a domain-prefixed path (such as "acme.io/foo")'
    fault = dns_subdomain(domain)
    if fault:
        return fault
    return None if re.fullmatch(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", path) else "invalid path"
