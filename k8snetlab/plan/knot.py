"""Knot DNS in place of the lab's own server: its configuration and zone files.

Both replicas read the same files; what each writes itself lies in its own mount namespace. Knot has no wildcard for
addresses inside names, so a pod's dashed name is made by mod-synthrecord, in a zone of its own for each namespace; and
it does not follow an alias out of its zones, so an ExternalName is answered with the CNAME alone. A namespace without
Services has no name here (NXDOMAIN instead of an answer without data): a zone file cannot say that it exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from k8snetlab.cluster.addons import KNOT_CONF
from k8snetlab.cluster.dns import TTL, Zone, cluster_records, resolver_addresses
from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.state import File

FOLDER: Final = KNOT_CONF.split("/")[-2]
_RUN: Final = "/run/k8snetlab"  # of the pod's own: kernel.identity covers the lab's state with an empty tmpfs

_HEAD: Final = f"""\
# Written by k8snetlab.
server:
    rundir: {_RUN}
    listen: [ "0.0.0.0@53", "::@53" ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    user: root:root
log:
  - target: stderr
    any: warning
database:
    storage: {_RUN}
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 1M
    catalog-db-max-size: 16M
control:
    listen: {_RUN}/knot.sock
"""


def files(cluster: Cluster) -> Iterator[File]:
    """knot.conf and a file for each zone."""
    zones = split_zones(cluster_records(cluster), cluster.config.cluster_domain)
    pods = _pod_zones(cluster)
    yield File(f"{FOLDER}/knot.conf", _conf(cluster, tuple(zones), pods))
    for zone, records in zones.items():
        # A zone of its own must not also be a name of the zone above it.
        yield File(f"{FOLDER}/{zone}.zone", zone_file(zone, {n: r for n, r in records.items() if n not in pods}))
    for zone in pods:
        yield File(f"{FOLDER}/{zone}.zone", zone_file(zone, {}))


def split_zones(records: Zone, domain: str) -> dict[str, Zone]:
    """The cluster's own zone, and one for each reverse network (a /16, or 64 bits) that has names in it."""
    zones: dict[str, dict[str, tuple[str, ...]]] = {domain: {}}
    for name, texts in records.items():
        if name == domain or name.endswith(f".{domain}"):
            zones[domain][name] = texts
        else:
            labels = name.split(".")
            zones.setdefault(".".join(labels[-4 if name.endswith("in-addr.arpa") else -18 :]), {})[name] = texts
    return {zone: dict(names) for zone, names in zones.items()}


def zone_file(zone: str, records: Zone) -> str:
    """A zone in text (RFC 1035, 5.1); with a SOA record of its own when it has none. Names without data are implied."""
    lines = [f"{name}. {text}" for name, texts in records.items() for text in texts]
    if not any(" SOA " in text for text in records.get(zone, ())):
        lines.insert(0, f"{zone}. {TTL} SOA ns.dns.{zone}. hostmaster.{zone}. 1 7200 1800 86400 {TTL}")
        lines.insert(1, f"{zone}. {TTL} NS localhost.")  # of no use here, but no zone may lack one
    return "".join(f"{line}\n" for line in sorted(lines, key=lambda line: " SOA " not in line))


def _pod_zones(cluster: Cluster) -> tuple[str, ...]:
    if cluster.config.dns_pods != "insecure":
        return ()
    return tuple(f"{namespace}.pod.{cluster.config.cluster_domain}" for namespace in cluster.namespaces)


def _conf(cluster: Cluster, zones: tuple[str, ...], pods: tuple[str, ...]) -> str:
    (upstream,) = resolver_addresses(cluster.config.families)
    everything = ", ".join(f'"{ip_network(net)}"' for net in ("0.0.0.0/0", "::/0"))
    blocks = [
        _HEAD,
        # The remote must stand before the module that names it.
        f'remote:\n  - id: upstream\n    address: "{upstream}@53"\n',
        f"mod-synthrecord:\n  - id: pod\n    type: forward\n    ttl: {TTL}\n    network: [ {everything} ]\n"
        if pods
        else "",
        "mod-dnsproxy:\n  - id: outside\n    remote: upstream\n    fallback: on\n",
        f"template:\n  - id: default\n    storage: /run/files/{FOLDER}\n    semantic-checks: off\n",
        "    zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n",
        "    global-module: mod-dnsproxy/outside\n",
        "zone:\n" + "".join(f'  - domain: "{zone}"\n    file: "{zone}.zone"\n' for zone in zones),
        *(f'  - domain: "{zone}"\n    file: "{zone}.zone"\n    module: mod-synthrecord/pod\n' for zone in pods),
    ]
    return "".join(blocks)
