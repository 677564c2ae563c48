"""What the lab's proxy needs beside its process: its files, and certificates for those whose Secrets are not given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from k8snetlab.cluster.gateway_addon import ADDON, BOOTSTRAP, FOLDER
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.state import KernelObject, Plan, Process, ProxyFile, SelfSigned

ADMIN = f"{FOLDER}/admin.sock"
PROGRAM = "envoy"


def gateway_objects(cluster: Cluster) -> Iterator[KernelObject]:
    """Nothing, unless the cluster has the proxy's pod."""
    if not any(pod.addon == ADDON for pod in cluster.pods):
        return
    import json

    from k8snetlab.cluster.routing.table import routing_table
    from k8snetlab.plan.gateway.envoy import bootstrap, discovery_files, used_certificates

    table = routing_table(cluster)
    paths = {}
    for certificate in used_certificates(table):
        pair = cluster.tls_secrets.get(certificate.secret)
        # Another content is another file: Envoy takes a listener's certificate as new when its path is.
        content = f"{pair.certificate}{pair.key}" if pair else " ".join(certificate.names)
        name = f"tls-{sha256(content.encode()).hexdigest()[:16]}"
        paths[certificate] = (f"{FOLDER}/{name}.crt", f"{FOLDER}/{name}.key")
        if pair:
            yield ProxyFile(f"{name}.crt", pair.certificate)
            yield ProxyFile(f"{name}.key", pair.key)
        else:
            yield SelfSigned(name, certificate.names)
    yield ProxyFile(BOOTSTRAP.removeprefix(f"{FOLDER}/"), json.dumps(bootstrap(FOLDER, ADMIN)) + "\n")
    files = discovery_files(table, FOLDER, paths, ipv6=6 in cluster.config.families)
    yield from (ProxyFile(name, text) for name, text in files.items())


def is_proxy(item: KernelObject) -> bool:
    return isinstance(item, Process) and BOOTSTRAP in item.argv


def with_program(plan: Plan, path: str) -> Plan:
    """The plan with the program's path on this host; without a path nothing runs, and nothing is served."""
    found: list[KernelObject] = []
    for item in plan.objects:
        if isinstance(item, Process) and is_proxy(item):
            if path:
                found.append(replace(item, argv=(path, *item.argv[1:])))
        else:
            found.append(item)
    return Plan(tuple(found))
