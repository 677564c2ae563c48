"""The lab's DNS server: told only what has changed, and asked what it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from k8snetlab.errors import KernelError
from k8snetlab.lab.daemon import Daemon, alive, ask, start
from k8snetlab.plan.dns import listen_entry
from k8snetlab.plan.state import DnsName, DnsServer, KernelObject

DNS_SERVER = Daemon("dnsserver", "the DNS server")
_NAMES_A_REQUEST = 1000  # so that neither side ever holds the text of a whole large zone


def start_dns_server() -> None:
    start(DNS_SERVER)


def apply(missing: Sequence[KernelObject], extra: Sequence[KernelObject]) -> None:
    """Bring its names and listeners to the plan; raises KernelError for a listener it could not open."""
    requests = _requests(missing, extra)
    if not requests:
        return
    start_dns_server()
    for answer in ask(DNS_SERVER, requests):
        for error in answer.get("errors", ()):
            raise KernelError("listen", netns=error["netns"], subject=f"DNS for {error['pod']}", reason=error["error"])


def observe() -> Iterator[KernelObject]:
    """What it knows and where it listens; nothing when it is dead."""
    with alive(DNS_SERVER) as pidfd:
        if pidfd is None:
            return
    told = ask(DNS_SERVER, [{"list": True}])[0]
    for entry in told["servers"]:
        upstreams = tuple(ip_address(text) for text in entry["upstreams"])
        yield DnsServer(entry["netns"], entry["pod"], entry["view"], upstreams, entry["echo_pods"])
    for view, name, records in told["names"]:
        yield DnsName(view, name, tuple(records))


def _requests(missing: Sequence[KernelObject], extra: Sequence[KernelObject]) -> list[Mapping[str, object]]:
    """The names first: who listens knows them already."""
    requests: list[Mapping[str, object]] = []
    names = [item for item in missing if isinstance(item, DnsName)]
    kept = {(item.view, item.name) for item in names}
    gone = [(item.view, item.name) for item in extra if isinstance(item, DnsName)]
    if gone := [each for each in gone if each not in kept]:
        requests.append({"forget": gone})
    for begin in range(0, len(names), _NAMES_A_REQUEST):
        part = names[begin : begin + _NAMES_A_REQUEST]
        requests.append({"names": [[item.view, item.name, item.records] for item in part]})
    servers = [item for item in missing if isinstance(item, DnsServer)]
    listening = {(item.netns, item.pod) for item in servers}
    closed = [(item.netns, item.pod) for item in extra if isinstance(item, DnsServer)]
    if closed := [each for each in closed if each not in listening]:
        requests.append({"close": closed})
    if servers:
        requests.append({"listen": [listen_entry(item) for item in servers]})
    return requests
