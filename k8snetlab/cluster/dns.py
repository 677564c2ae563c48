"""Every DNS record of a cluster, after the Kubernetes DNS specification 1.1.0 and CoreDNS' kubernetes plugin.

Names are lower case and without the final dot. A record is text as in a zone file without its owner, `5 A 10.96.0.1`:
time to live in seconds, type, data; names in the data end with a dot. A name without records exists all the same: it is
answered NOERROR without data, not NXDOMAIN (conformance 1.18, 2 and 12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.cluster.endpoint_slices import group_endpoints
from k8snetlab.cluster.model import Cluster, Endpoint, Family, IPAddress, Service

TTL: Final = 5  # CoreDNS, kubernetes plugin
VERSION: Final = "1.1.0"  # of the specification
VERSION_TTL: Final = 28800
OUTSIDE_TTL: Final = 300
LONGEST_NAME: Final = 253
# The names that the lab's internet has, each with all that is below it: RFC 2606 keeps them for documentation.
OUTSIDE_DOMAINS: Final = ("example", "example.com", "example.net", "example.org")
OUTSIDE_NAME: Final = "internet.example"

Record = tuple[str, str]  # name, record
Zone = Mapping[str, tuple[str, ...]]


def cluster_records(cluster: Cluster) -> Zone:
    """All that the cluster's DNS knows by itself; each name with its records, in order.

    A name with a SOA record is the top of a zone: what is below it and not listed does not exist.
    """
    zone = cluster.config.cluster_domain
    found: dict[str, list[str]] = {zone: []}
    for name, record in _records(cluster, zone):
        found.setdefault(name, []).append(record)
    for namespace in cluster.namespaces:
        found.setdefault(f"{namespace}.svc.{zone}", [])
        if cluster.config.dns_pods != "disabled":
            found.setdefault(f"{namespace}.pod.{zone}", [])
    found.setdefault(f"svc.{zone}", [])
    found.setdefault(f"pod.{zone}", [])
    return _complete(found, zone)


def internet_records(cluster: Cluster) -> Zone:
    """What the lab's internet knows: the domains of documentation lead to it, the hosts of Ingresses and HTTPRoutes to
    their load balancers. No other name exists."""
    addresses = [names.outside_address(names.INTERNET, family) for family in cluster.config.families]
    own = [_address(address, OUTSIDE_TTL) for address in addresses]
    found: dict[str, list[str]] = {"": [_soa("", OUTSIDE_NAME, OUTSIDE_TTL)], OUTSIDE_NAME: list(own)}
    for domain in OUTSIDE_DOMAINS:
        if domain.count("."):
            found[domain] = list(own)
        found[f"*.{domain}"] = list(own)
    if cluster.ingresses or cluster.gateways:
        from k8snetlab.cluster.routing.names import public_names

        for host, ips in public_names(cluster).items():
            found[host] = [_address(ip, OUTSIDE_TTL) for ip in ips]
    for address in addresses:
        found[address.reverse_pointer] = [f"{OUTSIDE_TTL} PTR {OUTSIDE_NAME}."]
    return _complete(found, "")


def dashed(address: IPAddress) -> str:
    """An address as a label: `10-244-0-2`, `fd00-10-244--2`."""
    return str(address).replace(".", "-").replace(":", "-")


def _complete(found: dict[str, list[str]], top: str) -> Zone:
    """With the names between those found and the top of their zone: they exist, too. Not so those of addresses."""
    for name in [name for name in found if not name.endswith(".arpa")]:
        while name != top and (name.endswith(f".{top}") or not top):
            name = name.partition(".")[2]
            if name in found:
                break
            found[name] = []
    return {name: tuple(dict.fromkeys(found[name])) for name in sorted(found) if len(name) <= LONGEST_NAME}


def _records(cluster: Cluster, zone: str) -> Iterator[Record]:
    yield zone, _soa(zone, f"ns.dns.{zone}", TTL)
    yield zone, f"{TTL} NS ns.dns.{zone}."
    yield f"dns-version.{zone}", f'{VERSION_TTL} TXT "{VERSION}"'
    for service in cluster.services:
        name = f"{service.name}.{service.namespace}.svc.{zone}"
        if service.key == "kube-system/kube-dns":
            for address in service.cluster_ips:
                yield f"ns.dns.{zone}", _address(address)
        if service.spec.type == "ExternalName":
            yield from _external_name(service, name)
        elif service.headless:
            yield from _headless(cluster, service, name)
        else:
            yield from _virtual(service, name)
    if cluster.config.dns_pods == "verified":
        for pod in cluster.pods:
            for address in pod.ips if pod.phase not in ("Failed", "Succeeded") else ():
                yield f"{dashed(address)}.{pod.namespace}.pod.{zone}", _address(address)


def _external_name(service: Service, name: str) -> Iterator[Record]:
    """One that looks like an IPv4 address is no name, and is not served (Kubernetes, "Service", type ExternalName)."""
    target = service.spec.external_name.rstrip(".")
    if not target.replace(".", "").isdigit():
        yield name, f"{TTL} CNAME {target.lower()}."


def _virtual(service: Service, name: str) -> Iterator[Record]:
    """The ClusterIP, whether or not anything is behind it; SRV has the Service's port (specification 2.3)."""
    for address in service.cluster_ips:
        yield name, _address(address)
        yield address.reverse_pointer, f"{TTL} PTR {name}."
    for port in service.ports if service.cluster_ips else ():
        record = f"{TTL} SRV 0 100 {port.port} {name}."
        yield name, record  # CoreDNS: all ports, also those without a name
        if port.name:
            yield f"_{port.name}._{port.protocol.lower()}.{name}", record


def _headless(cluster: Cluster, service: Service, name: str) -> Iterator[Record]:
    """Each ready endpoint's address, and a name for each; without one the Service's name does not exist (2.4)."""
    ready: list[tuple[tuple[int, ...], Endpoint]] = [
        (numbers, endpoint)
        for _family, numbers, endpoints in group_endpoints(cluster, service)
        for endpoint in endpoints
        if endpoint.ready or service.spec.publish_not_ready_addresses
    ]
    weight = max(1, 100 // max(1, len(ready)))
    for numbers, endpoint in ready:
        own = f"{endpoint.hostname or dashed(endpoint.ip)}.{name}"
        yield name, _address(endpoint.ip)
        yield own, _address(endpoint.ip)
        if endpoint.hostname:
            yield endpoint.ip.reverse_pointer, f"{TTL} PTR {own}."
        for port, number in zip(service.ports, numbers, strict=False):
            if number:
                record = f"{TTL} SRV 0 {weight} {number} {own}."
                yield name, record
                if port.name:
                    yield f"_{port.name}._{port.protocol.lower()}.{name}", record


def _address(address: IPAddress, ttl: int = TTL) -> str:
    return f"{ttl} {'A' if address.version == 4 else 'AAAA'} {address}"


def _soa(zone: str, server: str, ttl: int) -> str:
    """RFC 1035, 3.3.13; the last number is how long a "does not exist" may be kept (RFC 2308)."""
    host = f"hostmaster.{zone}" if zone else f"hostmaster.{server}"
    return f"{ttl} SOA {server}. {host}. 1 7200 1800 86400 {ttl}"


def resolver_addresses(families: tuple[Family, ...]) -> tuple[IPAddress, ...]:
    """Whom a node asks: the internet's DNS server, over the primary family."""
    return (names.outside_address(names.INTERNET, families[0]),)
