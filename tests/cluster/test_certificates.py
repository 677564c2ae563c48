"""Certificates in Secrets: what is read, and what is refused with its file and line."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from k8snetlab.cluster.certificates import certificate_fault, key_fault
from k8snetlab.cluster.model import Cluster

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  tls: [{hosts: [x.com], secretName: pair}]
  defaultBackend: {service: {name: a, port: {number: 80}}}
---
"""


@pytest.fixture(name="pair", scope="module")
def pair_fixture(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key, made by openssl."""
    folder: Path = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-subj", "/CN=x.com", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(argv, check=True, capture_output=True)
    return (folder / "crt").read_text(), (folder / "key").read_text()


def secret(certificate: str, key: str, *, name: str = "pair") -> str:
    encoded = [base64.b64encode(text.encode()).decode() for text in (certificate, key)]
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n"
        f"data: {{tls.crt: {encoded[0]}, tls.key: {encoded[1]}}}\n"
    )


def test_a_secret_that_an_ingress_names_is_read(build: Callable[..., Cluster], pair: tuple[str, str]) -> None:
    cluster = build(INGRESS + secret(*pair))
    found = cluster.tls_secrets["default/pair"]
    assert (found.certificate, found.key) == pair
    assert pair[1] not in repr(cluster), "a key is not for logs"


def test_one_that_nobody_names_is_not_even_looked_at(build: Callable[..., Cluster]) -> None:
    assert build(secret("base64 encoded cert", "key", name="other")).tls_secrets == {}


def test_one_that_does_not_parse_is_refused(problems: Callable[..., list[str]], pair: tuple[str, str]) -> None:
    broken = pair[0].replace(pair[0].splitlines()[3], "")
    assert problems(INGRESS + secret(broken, "nothing")) == [
        "t.yaml:9: Secret default/pair: data[tls.crt]: certificate 1 does not parse: it is no X.509 certificate in DER",
        "t.yaml:9: Secret default/pair: data[tls.key]: holds no PEM block PRIVATE KEY",
    ]


def test_faults(pair: tuple[str, str]) -> None:
    certificate, key = pair
    assert certificate_fault(certificate) == certificate_fault(certificate * 2) == key_fault(key) == ""
    assert certificate_fault(key) == "holds no PEM block CERTIFICATE"
    assert "certificate 2" in certificate_fault(certificate + certificate.replace("M", "A"))
    assert "is encrypted" in key_fault(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    assert "does not parse" in key_fault("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
