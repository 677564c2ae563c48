"""The lab's own kinds, with the same words.

What depends on the whole lab (does a subnet fit, is a node's name taken by the world outside) is judged where the lab's
configuration is made.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

from k8snetlab.manifests.api.lab import Check, CheckPeer, Lab, LabDNS, LabInterface, LabNode, LabSpec
from k8snetlab.manifests.decode import Path
from k8snetlab.manifests.validate.addresses import cidr, family, parse_cidr, parse_ip, special_ip
from k8snetlab.manifests.validate.messages import (
    Wrongs,
    check,
    check_port,
    duplicate,
    forbidden,
    invalid,
    required,
    too_many,
)
from k8snetlab.manifests.validate.metadata import check_labels, check_selector
from k8snetlab.manifests.validate.names import dns_label, dns_subdomain
from k8snetlab.manifests.validate.node import check_pod_cidrs
from k8snetlab.manifests.validate.placement import check_taints

_SPEC: Path = ("spec",)
_FAMILIES = {"ipv4": {"IPv4"}, "ipv6": {"IPv6"}, "dual": {"IPv4", "IPv6"}}
_PORT_RANGE = re.compile(r"([0-9]{1,5})-([0-9]{1,5})")
_SMALLEST_PING = 48  # the headers of IPv6 and ICMP
# Names of interfaces that networks, proxies and the lab itself make on a node.
_INTERFACE = re.compile(r"[a-z][-a-z0-9]{0,14}")
_LABS_INTERFACES = ("eth0", "lo")
_LABS_PREFIXES = (
    "veth",
    "cni",
    "cali",
    "cilium",
    "lxc",
    "vxlan",
    "flannel",
    "weave",
    "kube",
    "tun",
    "gre",
    "sit",
    "ip6",
)
_MOST_INTERFACES = 16
_SMALLEST_MTU, _LARGEST_MTU = 1280, 65535  # RFC 8200, section 5
_SUBDOMAIN_SERVICES = ("svc", "service", "services")
_KINDS_FROM = ("pod", "pods", "node", "nodes", "external")


# --- Lab --------------------------------------------------------------------------------------------------------------


def check_lab(lab: Lab) -> Wrongs:
    """Nodes, subnets and ports."""
    spec = lab.spec
    yield from _check_nodes(spec)
    for key, value in (
        ("podSubnet", spec.pod_subnet),
        ("serviceSubnet", spec.service_subnet),
        ("nodeSubnet", spec.node_subnet),
    ):
        if value:
            yield from _check_subnets(value, spec.ip_family, (*_SPEC, key))
    yield from _check_mask(spec)
    yield from _check_port_range(spec.node_port_range, (*_SPEC, "nodePortRange"))
    domain = spec.cluster_domain
    yield from check((*_SPEC, "clusterDomain"), domain, dns_subdomain(domain))
    for key, mtu in (("mtu", spec.mtu), ("fabricMTU", spec.fabric_mtu)):
        if mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
            detail = f"must be 0 (derived) or between {_SMALLEST_MTU} and {_LARGEST_MTU}, inclusive"
            yield invalid((*_SPEC, key), mtu, detail)
    if not re.fullmatch(r"[a-z]{2,6}", spec.ipvs_scheduler):
        yield invalid((*_SPEC, "ipvsScheduler"), spec.ipvs_scheduler, "must be an IPVS scheduler, such as rr or lc")
    if isinstance(spec.dns, LabDNS) and "/" in spec.dns.coredns and not spec.dns.coredns.startswith("/"):
        detail = "must be an absolute path, or the name of a program on PATH"
        yield invalid((*_SPEC, "dns", "coredns"), spec.dns.coredns, detail)
    for index, text in enumerate(spec.node_port_addresses):
        yield from check((*_SPEC, "nodePortAddresses", index), text, cidr(text))
    for text in spec.load_balancer.pool.split(",") if spec.load_balancer.pool else ():
        yield from check((*_SPEC, "loadBalancer", "pool"), text, cidr(text.strip()))


def _check_nodes(spec: LabSpec) -> Wrongs:
    path = (*_SPEC, "nodes")
    if isinstance(spec.nodes, int):
        if spec.nodes < 1:
            yield invalid(path, spec.nodes, "must be greater than or equal to 1")
        return
    if not spec.nodes:
        yield required(path, "a lab has at least one node")
    names: set[str] = set()
    for index, node in enumerate(spec.nodes):
        if node.name in names:
            yield duplicate((*path, index, "name"), node.name)
        names.add(node.name)
        yield from _check_node(node, (*path, index))


def _check_node(node: LabNode, at: Path) -> Wrongs:
    yield from check((*at, "name"), node.name, dns_subdomain(node.name))
    yield from check_labels(node.labels, (*at, "labels"))
    yield from check_taints(node.taints, (*at, "taints"))
    yield from check_pod_cidrs(node.pod_cidrs, (*at, "podCIDRs"))
    if len(node.interfaces) > _MOST_INTERFACES:
        yield too_many((*at, "interfaces"), len(node.interfaces), _MOST_INTERFACES)
    names: set[str] = set()
    for index, interface in enumerate(node.interfaces):
        if interface.name in names:
            yield duplicate((*at, "interfaces", index, "name"), interface.name)
        names.add(interface.name)
        yield from _check_interface(interface, (*at, "interfaces", index))


def _check_interface(interface: LabInterface, at: Path) -> Wrongs:
    name = interface.name
    if not _INTERFACE.fullmatch(name):
        yield invalid((*at, "name"), name, "must be at most 15 lower case letters, digits or '-' (e.g. eth1)")
    elif name in _LABS_INTERFACES or name.startswith(_LABS_PREFIXES):
        yield invalid(
            (*at, "name"), name, "an interface of this name is made by the lab itself; use another (e.g. eth1)"
        )
    yield from check((*at, "network"), interface.network, dns_label(interface.network))
    families: set[str] = set()
    for part in interface.address.split(",") if interface.address else ():
        yield from _check_interface_address(part.strip(), families, (*at, "address"))


def _check_interface_address(text: str, families: set[str], at: Path) -> Wrongs:
    network = parse_cidr(text)
    address = parse_ip(text.partition("/")[0])
    if network is None or address is None:
        yield invalid(at, text, "must be an address with the length of its range (e.g. 10.9.0.2/24 or fd00:9::2/64)")
        return
    special = special_ip(address)
    if special:
        yield invalid(at, text, special)
    elif network.num_addresses > 2 and address in (network.network_address, network.broadcast_address):
        yield invalid(at, text, "must be a host's address: this is the first or the last of its range")
    if family(address) in families:
        yield invalid(at, text, "may specify no more than one address for each IP family")
    families.add(family(address))


def _check_subnets(text: str, ip_family: str, at: Path) -> Wrongs:
    """One range, or two of different families with a comma between them, of the families the lab has."""
    networks: list[IPv4Network | IPv6Network] = []
    for part in text.split(","):
        network = parse_cidr(part.strip())
        if network is None:
            yield from check(at, part.strip(), cidr(part.strip()))
            return
        networks.append(network)
    families = [family(network) for network in networks]
    if len(set(families)) < len(families):
        yield invalid(at, text, "may specify no more than one CIDR for each IP family")
    elif set(families) != _FAMILIES[ip_family]:
        wanted = " and ".join(sorted(_FAMILIES[ip_family]))
        yield invalid(at, text, f"must have one {wanted} CIDR when `ipFamily` is '{ip_family}'")


def _check_mask(spec: LabSpec) -> Wrongs:
    """Each node gets a range of this length out of the pod subnet; IPv6 ranges are always /64."""
    size, path = spec.node_cidr_mask_size, (*_SPEC, "nodeCIDRMaskSize")
    if not 8 <= size <= 30:
        yield invalid(path, size, "must be between 8 and 30, inclusive")
        return
    for part in spec.pod_subnet.split(","):
        network = parse_cidr(part.strip())
        if isinstance(network, IPv4Network) and network.prefixlen > size:
            detail = f"must not be smaller than the prefix length of `podSubnet` ({network})"
            yield invalid(path, size, detail)


def _check_port_range(text: str, at: Path) -> Wrongs:
    match = _PORT_RANGE.fullmatch(text)
    if not match:
        yield invalid(at, text, "must be two ports with a hyphen between them (e.g. 30000-32767)")
        return
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= 65535:
        yield invalid(at, text, "must be between 1 and 65535, inclusive, the smaller port first")


# --- Check ------------------------------------------------------------------------------------------------------------


def check_check(check_: Check) -> Wrongs:
    """Where from, where to, and a port if the protocol has ports."""
    spec = check_.spec
    if isinstance(spec.from_, CheckPeer):
        yield from _check_peer(spec.from_, (*_SPEC, "from"))
    else:
        yield from check((*_SPEC, "from"), spec.from_, _source_fault(spec.from_))
    if isinstance(spec.to, CheckPeer):
        yield from _check_peer(spec.to, (*_SPEC, "to"))
    else:
        yield from check((*_SPEC, "to"), spec.to, _target_fault(spec.to))
    if spec.port is not None:
        yield from check_port((*_SPEC, "port"), spec.port)
        if spec.protocol == "ICMP":
            yield forbidden((*_SPEC, "port"), "may not be set when `protocol` is 'ICMP'")
    if spec.size is not None:
        if spec.protocol != "ICMP":
            yield forbidden((*_SPEC, "size"), "may only be set when `protocol` is 'ICMP'")
        elif not _SMALLEST_PING <= spec.size <= _LARGEST_MTU:
            detail = f"must be between {_SMALLEST_PING} and {_LARGEST_MTU}, inclusive"
            yield invalid((*_SPEC, "size"), spec.size, detail)


def _check_peer(peer: CheckPeer, at: Path) -> Wrongs:
    if peer.pod_selector is None and peer.namespace_selector is None:
        yield required(at, "must specify a peer")
    yield from check_selector(peer.pod_selector, (*at, "podSelector"))
    yield from check_selector(peer.namespace_selector, (*at, "namespaceSelector"))


def _source_fault(text: str) -> str | None:
    """`pod/NS/NAME`, `pod/NAME`, `NS/NAME`, `NAME`, `node/NAME`, `external/NAME`."""
    return _reference_fault(text, _KINDS_FROM, "pod/NS/NAME, node/NAME or external/NAME")


def _target_fault(text: str) -> str | None:
    """All that a source can be, and a Service, an address, a DNS name or a URL."""
    if parse_ip(text):
        return None
    if "://" in text:
        return _url_fault(text)
    if "/" not in text and dns_subdomain(text.removesuffix(".")) is None:
        return None
    form = "pod/NS/NAME, svc/NS/NAME, node/NAME, external/NAME, an IP, a DNS name or a URL"
    return _reference_fault(text, (*_KINDS_FROM, *_SUBDOMAIN_SERVICES), form)


def _reference_fault(text: str, kinds: tuple[str, ...], form: str) -> str | None:
    parts = text.split("/")
    kind = parts[0] if len(parts) > 1 and parts[0] in kinds else ""
    names = parts[1:] if kind else parts
    alone = kind in ("node", "nodes", "external")
    if not 1 <= len(names) <= (1 if alone else 2) or not all(names):
        return f"must be {form}"
    if len(names) == 2 and dns_label(names[0]):
        return f"namespace {names[0]!r}: {dns_label(names[0])}"
    return dns_subdomain(names[-1])


def _url_fault(text: str) -> str | None:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        return "must be a URL with a host name or address"
    if url.scheme not in ("http", "https"):
        return "must be a URL with http or https"
    if not host or not (parse_ip(host) or dns_subdomain(host.removesuffix(".")) is None):
        return "must be a URL with a host name or address"
    if not text.isprintable() or " " in text:
        return "must be a URL without white space"
    return None
