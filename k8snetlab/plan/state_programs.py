"""Of the vocabulary of kernel objects (`plan.state`) what the programs of a lab do, read and know."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from k8snetlab.dataclass import dataclass

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class PodServer:
    """What the lab's one server process listens on in one namespace, in a pod's name.

    `listeners` are `(protocol, port)` with protocol `TCP`, `UDP` or `SCTP`, on every address of the namespace. Several
    of them may share a node's namespace: hostNetwork pods live there.
    """

    netns: str
    pod: str  # ns/name
    node: str
    hostname: str
    listeners: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What the lab's server process answers at a Service's healthCheckNodePort, in the namespace of a node."""

    netns: str
    service: str  # ns/name
    port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """An address for which ARP or neighbour solicitations are answered on a link, although no interface has it."""

    netns: str
    link: str
    address: IPAddress


@dataclass(frozen=True, slots=True)
class DnsServer:
    """The lab's DNS server, listening on port 53 of one namespace in a pod's name.

    It answers from the names of its `view`, and asks `upstreams` for those that are in no zone there. With `echo_pods`
    `a-b-c-d.NS.pod.ZONE` is answered with the address it says, as CoreDNS does with `pods insecure`.
    """

    netns: str
    pod: str  # ns/name
    view: str
    upstreams: tuple[IPAddress, ...] = ()
    echo_pods: bool = False


@dataclass(frozen=True, slots=True)
class DnsName:
    """A name that the lab's DNS server knows, without the final dot, and its records: `5 A 10.96.0.1` (`cluster.dns`).

    One without records exists all the same. A `view` is a set of names: what `cluster` or `internet` knows.
    """

    view: str
    name: str
    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file that programs of the lab read, below /run/files; `path` is relative to that, `FOLDER/NAME`.

    When it changes, each Process that was started with a file of the same folder gets SIGHUP.
    """

    path: str
    content: str


@dataclass(frozen=True, slots=True)
class ProxyFile:
    """A file that the lab's proxy reads, and watches: see `plan.gateway`."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate for `names` with its key, made on this host: `name`.crt and `name`.key beside the proxy's files."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Process:
    """A program of the host that runs in a namespace until the lab ends; `name` is unique in the lab.

    `pod` is `ns/name` when it stands for a pod's container: it then sees that pod's hostname, hosts and resolv.conf.
    """

    netns: str
    name: str
    argv: tuple[str, ...]
    pod: str = ""
