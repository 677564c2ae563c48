"""Text that manifests write for addresses, read the way Kubernetes' API reads it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from k8snetlab.cluster.model import IPAddress, IPNetwork


def parse_address(text: str) -> IPAddress | None:
    """An address, or None. Leading zeros of an IPv4 octet are decimal, not octal (CVE-2021-29923)."""
    text = text.strip()
    try:
        return ip_address(_decimal(text))
    except ValueError:
        return None


def parse_network(text: str) -> IPNetwork | None:
    """A CIDR whose host bits are ignored, or None; whitespace around it is allowed (conformance LB.4)."""
    try:
        return ip_network(_decimal(text.strip()), strict=False)
    except ValueError:
        return None


def _decimal(text: str) -> str:
    if ":" in text or ".0" not in f".{text}":
        return text
    host, slash, length = text.partition("/")
    return ".".join(octet.lstrip("0") or "0" for octet in host.split(".")) + slash + length
