"""Secrets of type kubernetes.io/tls (core validation, ValidateSecret)."""

from __future__ import annotations

import binascii

from k8snetlab.manifests.api.secret import TLS_SECRET, Secret
from k8snetlab.manifests.decode import Wrong
from k8snetlab.manifests.validate.messages import Wrongs, required


def check_secret(secret: Secret) -> Wrongs:
    """Both halves of the pair must be there, and base64 in `data`; what they contain is not looked at."""
    for key in ("tls.crt", "tls.key") if secret.type == TLS_SECRET else ():
        if key not in secret.data and key not in secret.string_data:
            yield required(("data", key))
    for key, text in secret.data.items():
        try:
            binascii.a2b_base64("".join(text.split()), strict_mode=True)
        except (binascii.Error, ValueError):
            # The value itself is not repeated: it is meant to be secret.
            yield Wrong(("data", key), "Invalid value: must be base64; plain text goes into stringData")
