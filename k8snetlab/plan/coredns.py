"""A CoreDNS of the user's in place of the lab's server: its Corefile, and zone files for the kubernetes plugin."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from k8snetlab.cluster.addons import COREFILE
from k8snetlab.cluster.dns import cluster_records, resolver_addresses
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.knot import split_zones, zone_file
from k8snetlab.plan.state import File

FOLDER: Final = COREFILE.split("/")[-2]
# Names of pods by their address, in one label: what the kubernetes plugin calls `pods insecure`.
_POD: Final = """\
    template IN A pod.{zone} {{
        match ^(?P<a>[0-9]+)-(?P<b>[0-9]+)-(?P<c>[0-9]+)-(?P<d>[0-9]+)[.]({namespaces})[.]pod[.]{escaped}[.]$
        answer "{{{{ .Name }}}} 5 IN A {{{{ .Group.a }}}}.{{{{ .Group.b }}}}.{{{{ .Group.c }}}}.{{{{ .Group.d }}}}"
        fallthrough
    }}
"""


def files(cluster: Cluster) -> Iterator[File]:
    """The Corefile and a file for each zone.

    CoreDNS reads a zone again when its serial number has changed, so that is made from what the zone contains.
    """
    zones = split_zones(cluster_records(cluster), cluster.config.cluster_domain)
    yield File(f"{FOLDER}/Corefile", _corefile(cluster, tuple(zones)))
    for zone, records in zones.items():
        text = zone_file(zone, records)
        serial = int.from_bytes(sha256(text.encode()).digest()[:4], "big") >> 1
        yield File(f"{FOLDER}/{zone}.zone", text.replace(" 1 7200 ", f" {serial} 7200 ", 1))


def _corefile(cluster: Cluster, zones: tuple[str, ...]) -> str:
    (upstream,) = resolver_addresses(cluster.config.families)
    domain = cluster.config.cluster_domain
    lines = [".:53 {", "    errors", "    health", "    ready", "    prometheus :9153"]
    if cluster.config.dns_pods == "insecure":
        namespaces = "|".join(cluster.namespaces)
        lines += _POD.format(zone=domain, escaped=domain.replace(".", "[.]"), namespaces=namespaces).splitlines()
    for zone in zones:
        lines += [f"    file /run/files/{FOLDER}/{zone}.zone {zone} {{", "        reload 1s", "    }"]
    lines += [f"    forward . {upstream}", "    cache 5", "    loop", "    reload 2s", "    loadbalance", "}"]
    return "".join(f"{line}\n" for line in lines)
