"""The names of kube-proxy's per-Service chains (conformance 4.1).

A name is a prefix and the first 16 characters of the base32 SHA-256 of what it stands for; a service port is written
`namespace/name:port`, without the colon when the port has no name. Source: kubernetes, pkg/proxy/iptables/proxier.go.
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256


def port_name(namespace: str, name: str, port: str) -> str:
    """`namespace/name:port`, as it stands in comments and in the hash."""
    return f"{namespace}/{name}:{port}" if port else f"{namespace}/{name}"


def chain_hash(port: str, protocol: str, endpoint: str = "") -> str:
    """The hash in a chain's name; `protocol` in lower case, `endpoint` as `ip:port` for a KUBE-SEP chain."""
    return b32encode(sha256(f"{port}{protocol}{endpoint}".encode()).digest()[:10]).decode()


def endpoint_text(ip: object, port: int, family: int) -> str:
    """`ip:port`, an IPv6 address in brackets."""
    return f"{ip}:{port}" if family == 4 else f"[{ip}]:{port}"
