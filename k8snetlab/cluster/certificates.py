"""The TLS Secrets that Ingresses and Gateways name: PEM text, and whether it is a certificate and a key at all."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from k8snetlab.cluster.model import KeyPair
from k8snetlab.cluster.problems import problem
from k8snetlab.errors import Problem
from k8snetlab.manifests.document import Document

if TYPE_CHECKING:
    from k8snetlab.manifests.api.secret import Secret

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
_KEYS: Final = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
_SEQUENCE, _BIT_STRING = 0x30, 0x03


def tls_secrets(documents: Sequence[Document], problems: list[Problem]) -> dict[str, KeyPair]:
    """By `ns/name`, those that something names; one that does not parse is a problem."""
    wanted = set(_named(documents))
    found: dict[str, KeyPair] = {}
    for document in documents:
        if document.kind != "Secret":
            continue
        secret: Any = document.object
        key = f"{secret.metadata.namespace}/{secret.metadata.name}"
        if key not in wanted:
            continue
        pair = KeyPair(_text(secret, "tls.crt"), _text(secret, "tls.key"))
        for name, fault in (("tls.crt", certificate_fault(pair.certificate)), ("tls.key", key_fault(pair.key))):
            if fault:
                problems.append(problem(document.source, f"Secret {key}", f"data[{name}]", fault))
        found[key] = pair
    return found


def _named(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        written: Any = document.object
        namespace = document.object.metadata.namespace
        if document.kind == "Ingress":
            yield from (f"{namespace}/{tls.secret_name}" for tls in written.spec.tls)
        elif document.kind == "Gateway":
            for listener in written.spec.listeners:
                for ref in listener.tls.certificate_refs if listener.tls else ():
                    yield f"{ref.namespace or namespace}/{ref.name}"


def _text(secret: Secret, key: str) -> str:
    text = secret.string_data.get(key)
    return text if text is not None else binascii.a2b_base64(secret.data.get(key, "")).decode("ascii", "replace")


def certificate_fault(pem: str) -> str:
    """Why it is no chain of certificates; empty when it is one. Signatures and dates are not looked at."""
    blocks = [body for label, body in _BLOCK.findall(pem) if label == "CERTIFICATE"]
    if not blocks:
        return "holds no PEM block CERTIFICATE"
    for number, body in enumerate(blocks, 1):
        content = _der(body)
        # X.509, 4.1: SEQUENCE of the certificate proper, the algorithm, and the signature as a BIT STRING.
        parts = _children(content) if content is not None else None
        if parts is None or [tag for tag, _ in parts] != [_SEQUENCE, _SEQUENCE, _BIT_STRING]:
            return f"certificate {number} does not parse: it is no X.509 certificate in DER"
    return ""


def key_fault(pem: str) -> str:
    blocks = [(label, body) for label, body in _BLOCK.findall(pem) if label in _KEYS]
    if not blocks:
        encrypted = "ENCRYPTED" in pem
        return "is encrypted: no proxy can read it" if encrypted else "holds no PEM block PRIVATE KEY"
    content = _der(blocks[0][1])
    if content is None or not _children(content):
        return "does not parse: it is no private key in DER"
    return ""


def _der(body: str) -> bytes | None:
    """What the outermost SEQUENCE holds; None when it is none, or is cut off."""
    try:
        data = binascii.a2b_base64("".join(body.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        return None
    found = _children(data)
    return found[0][1] if found and len(found) == 1 and found[0][0] == _SEQUENCE else None


def _children(data: bytes) -> list[tuple[int, bytes]] | None:
    """The elements in a row, as tag and content (X.690, 8.1); None when the last one is cut off."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            return None
        found.append((tag, data[at : at + length]))
        at += length
    return found
