"""The names of kube-proxy's per-Service chains and sets in nftables mode (conformance 1.17 #5).

Unlike in iptables mode the name says in full what it stands for; the hash in front only tells similar ones apart.
Source: kubernetes, pkg/proxy/nftables/proxier.go, servicePortChainNameBase and servicePortEndpointChainNameBase.
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256
from typing import Final

LONGEST: Final = 240  # without a prefix such as `service-`; the kernel takes names of 255 characters


def port_base(namespace: str, service: str, protocol: str, port: str) -> str:
    """`HASH-namespace/service/protocol/port`; the port may have no name, which leaves a slash at the end."""
    return _hashed(f"{namespace}/{service}/{protocol}/{port}")


def endpoint_base(namespace: str, service: str, protocol: str, port: str, ip: str, target_port: int) -> str:
    """The same with `__ip/port` of an endpoint; the colons of an IPv6 address are no part of a name, dots are."""
    address = ip.replace(":", ".")
    return _hashed(f"{namespace}/{service}/{protocol}/{port}__{address}/{target_port}")


def _hashed(name: str) -> str:
    full = f"{b32encode(sha256(name.encode()).digest()[:5]).decode()}-{name}"
    return full if len(full) <= LONGEST else f"{full[: LONGEST - 3]}..."
