"""IPVS and ipset objects in the words of `ipvsadm --restore` and `ipset restore`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from k8snetlab.plan.state import IPAddress, IpSet, IpSetEntry, RealServer, VirtualServer

_OPTIONS: Final = {"TCP": "-t", "UDP": "-u", "SCTP": "--sctp-service"}


def create_set(item: IpSet) -> str:
    """With the sizes that kube-proxy asks for; a set grows by itself up to `maxelem`."""
    if item.family is None:
        return f"create {item.name} {item.type} range 0-65535"
    family = "inet" if item.family == 4 else "inet6"
    return f"create {item.name} {item.type} family {family} hashsize 1024 maxelem 65536"


def making_sets(objects: Iterable[IpSet | IpSetEntry]) -> Iterator[str]:
    """Lines of `ipset restore`."""
    for item in objects:
        yield create_set(item) if isinstance(item, IpSet) else f"add {item.set} {item.entry}"


def making_servers(objects: Iterable[VirtualServer | RealServer]) -> Iterator[str]:
    """Lines of `ipvsadm --restore`."""
    for item in objects:
        yield f"-A {virtual_words(item)}" if isinstance(item, VirtualServer) else f"-a {real_words(item)}"


def virtual_words(item: VirtualServer) -> str:
    """A virtual server as `ipvsadm --save` prints it."""
    words = f"{_OPTIONS[item.protocol]} {_endpoint(item.address, item.port)} -s {item.scheduler}"
    persistence = f" -p {item.persistence}" if item.persistence else ""
    return f"{words}{persistence}{f' -b {item.scheduler}-port' if item.hash_port else ''}"


def real_words(item: RealServer) -> str:
    """A real server as `ipvsadm --save` prints it."""
    virtual = f"{_OPTIONS[item.protocol]} {_endpoint(item.virtual, item.virtual_port)}"
    return f"{virtual} -r {_endpoint(item.address, item.port)} -m -w {item.weight}"


def _endpoint(address: IPAddress, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
