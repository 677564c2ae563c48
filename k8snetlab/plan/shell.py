"""The plan as the commands a person would type: a POSIX shell script for root on a bare machine.

It makes the namespaces with plain `ip netns add`, as LAB.node1 and so on, so nothing of the package is needed to look
at them or to remove them. The pings work with iproute2 and iptables alone; for HTTP it starts the lab's server.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from k8snetlab.cluster import names
from k8snetlab.cluster.gateway_addon import FOLDER
from k8snetlab.plan import podserver
from k8snetlab.plan.dns import listen_entry
from k8snetlab.plan.proxy.ipvs_script import making_servers, making_sets
from k8snetlab.plan.proxy.nft_script import making
from k8snetlab.plan.shaping import burst, limit
from k8snetlab.plan.state import (
    Address,
    Announcement,
    Bridge,
    DnsName,
    DnsServer,
    Dummy,
    FdbEntry,
    File,
    HealthCheck,
    IpSet,
    IpSetEntry,
    IptablesChain,
    KernelObject,
    LearnedRoute,
    Neighbour,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    NftTable,
    Plan,
    PodServer,
    Process,
    ProxyFile,
    RealServer,
    Route,
    SelfSigned,
    Sysctl,
    TokenBucket,
    UdpDestination,
    Veth,
    VirtualServer,
    Vxlan,
)
from k8snetlab.plan.text import route_words

NFTABLES = (NftTable, NftSet, NftChain, NftElement)
SETS = (IpSet, IpSetEntry)
SERVERS = (VirtualServer, RealServer)
POD_SERVER = Path(__file__).parent.parent / "workloads" / "podserver.py"
DNS_SERVER = POD_SERVER.with_name("dnsserver.py")


def script(plan: Plan, lab: str) -> str:
    """The script that builds the plan as lab `lab`.

    Running it needs root, iproute2, procps, iptables and python3; in kube-proxy's nftables mode nft too, in its ipvs
    mode ipset and ipvsadm.
    """
    lines = list(_head(lab))
    for key, group in groupby(plan.objects, _run):
        objects = list(group)
        if key and key[1] == "nft":
            lines += _nftables(lab, [obj for obj in objects if isinstance(obj, NFTABLES)])
        elif key and key[1] == "ipset":
            lines += _fed(lab, key[0], "ipset restore", making_sets(obj for obj in objects if isinstance(obj, SETS)))
        elif key and key[1] == "ipvs":
            balancing = (obj for obj in objects if isinstance(obj, SERVERS))
            lines += _fed(lab, key[0], "ipvsadm --restore", making_servers(balancing))
        elif key:
            lines += _restore(lab, [obj for obj in objects if isinstance(obj, IptablesChain)])
        else:
            for obj in objects:
                lines += _commands(lab, obj)
    servers = [obj for obj in plan.objects if isinstance(obj, podserver.Served)]
    lines += _pod_server(lab, servers, [obj for obj in plan.objects if isinstance(obj, Announcement)])
    lines += _dns_server(lab, plan)
    lines += _hints(plan, lab, bool(servers))
    return "\n".join(lines) + "\n"


def _head(lab: str) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# Builds the lab {_comment(lab)} by hand: run as root. Every namespace is called {_comment(lab)}.SOMETHING."
    yield "set -eu"


def _run(obj: KernelObject) -> tuple[str, str] | None:
    """What goes into one command: chains of a namespace and family; nftables, ipsets, IPVS of a namespace; all else
    has no key."""
    match obj:
        case IptablesChain():
            return obj.netns, f"{obj.family} {obj.backend}"
        case NftTable() | NftSet() | NftChain() | NftElement():
            return obj.netns, "nft"
        case IpSet() | IpSetEntry():
            return obj.netns, "ipset"
        case VirtualServer() | RealServer():
            return obj.netns, "ipvs"
        case _:
            return None


def _commands(lab: str, obj: KernelObject) -> Iterator[str]:
    match obj:
        case Netns():
            yield from ("", f"# --- {_heading(obj.name)} ---", f"ip netns add {_name(lab, obj.name)}")
            yield f"{_ip(lab, obj.name)} link set lo up"
        case Bridge() | Vxlan() | Veth() | Dummy():
            yield from _link(lab, obj)
        case Address():
            # Without duplicate address detection an IPv6 address can be used at once.
            nodad = " nodad" if obj.interface.version == 6 else ""
            yield f"{_ip(lab, obj.netns)} address add {obj.interface} dev {obj.link}{nodad}"
        case Route():
            family = "-6 " if obj.destination.version == 6 else ""
            yield f"{_ip(lab, obj.netns)} {family}route add {route_words(obj)}"
        case Neighbour():
            yield f"{_ip(lab, obj.netns)} neigh replace {obj.address} lladdr {obj.mac} dev {obj.link} nud permanent"
        case FdbEntry() | TokenBucket():
            yield _on_link(lab, obj)
        case Sysctl():
            yield f"{_exec(lab, obj.netns)} sysctl -q -w {shlex.quote(f'{obj.key}={obj.value}')}"
        case File() | ProxyFile() | SelfSigned() | Process():
            yield from _program(lab, obj)
        case (
            IptablesChain() | NftTable() | NftSet() | NftChain() | NftElement()
            | IpSet() | IpSetEntry() | VirtualServer() | RealServer() | PodServer() | HealthCheck() | Announcement()
            | DnsServer() | DnsName() | LearnedRoute() | UdpDestination()  # a new namespace has no flows
        ):  # fmt: skip
            return


def _program(lab: str, obj: File | ProxyFile | SelfSigned | Process) -> Iterator[str]:
    """What a program of the host reads, and the program."""
    match obj:
        case File() | ProxyFile():
            path = Path("/run/files", obj.path) if isinstance(obj, File) else Path(FOLDER, obj.name)
            yield f"mkdir -p {shlex.quote(str(path.parent))} && cat >{shlex.quote(str(path))} <<'CONTENT'"
            yield from (*obj.content.splitlines(), "CONTENT")
        case SelfSigned():
            names = ",".join(f"DNS:{name}" for name in obj.names)
            yield (
                f"mkdir -p {FOLDER} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
                f" -subj /O=k8snetlab -addext {shlex.quote(f'subjectAltName={names}')}"
                f" -keyout {FOLDER}/{obj.name}.key -out {FOLDER}/{obj.name}.crt"
            )
        case Process():
            yield f"{_exec(lab, obj.netns)} {shlex.join(obj.argv)} >/dev/null 2>&1 </dev/null &"


def _link(lab: str, link: Bridge | Vxlan | Veth | Dummy) -> Iterator[str]:
    ip = _ip(lab, link.netns)
    new = f"{ip} link add {link.name} index {link.index} address {link.mac} mtu {link.mtu}"
    master = ""
    match link:
        case Bridge():
            yield f"{new} type bridge"
        case Dummy():
            yield f"{new} type dummy"
            return  # it stays down
        case Vxlan():
            learning = "learning" if link.learning else "nolearning"
            where = f"id {link.vni} local {link.local} dev {link.underlay} dstport {link.port}"
            yield f"{new} type vxlan {where} {learning}"
            master = f" master {link.master}" if link.master else ""
        case Veth():
            # The peer is made where it belongs: moving it there later costs the kernel 20 ms.
            yield (
                f"{new} numtxqueues 1 numrxqueues 1 type veth peer name {link.peer_name} index {link.peer_index}"
                f" address {link.peer_mac} mtu {link.peer_mtu} numtxqueues 1 numrxqueues 1"
                f" netns {_name(lab, link.peer_netns)}"
            )
            yield f"{_ip(lab, link.peer_netns)} link set {link.peer_name} addrgenmode none up"
            master = f" master {link.master}" if link.master else ""
    yield f"{ip} link set {link.name} addrgenmode none{master} up"
    if isinstance(link, Veth) and link.hairpin:
        yield f"bridge -n {_name(lab, link.netns)} link set dev {link.name} hairpin on"


def _on_link(lab: str, obj: FdbEntry | TokenBucket) -> str:
    if isinstance(obj, FdbEntry):
        where = f"{obj.mac} dev {obj.link} dst {obj.destination}"
        return f"bridge -n {_name(lab, obj.netns)} fdb append {where} self permanent"
    bucket = f"rate {obj.rate}bit burst {burst(obj.rate)} limit {limit(obj.rate)}"
    return f"tc -n {_name(lab, obj.netns)} qdisc add dev {obj.link} root tbf {bucket}"


def _restore(lab: str, chains: list[IptablesChain]) -> Iterator[str]:
    variant = "-legacy" if chains[0].backend == "legacy" else ""
    tool = f"{'iptables' if chains[0].family == 4 else 'ip6tables'}{variant}-restore"
    yield f"{_exec(lab, chains[0].netns)} {tool} --noflush <<'RULES'"
    for table, group in groupby(chains, lambda chain: chain.table):
        of_table = list(group)
        yield f"*{table}"
        for chain in of_table:
            yield f":{chain.name} {chain.policy or '-'} [0:0]"
        for chain in of_table:
            for rule in chain.rules:
                yield f"-A {chain.name} {rule}"
        yield "COMMIT"
    yield "RULES"


def _nftables(lab: str, objects: Sequence[NftTable | NftSet | NftChain | NftElement]) -> Iterator[str]:
    yield from _fed(lab, objects[0].netns, "nft -f -", making(objects))


def _fed(lab: str, netns: str, command: str, lines: Iterable[str]) -> Iterator[str]:
    """A command of a namespace and what it reads."""
    yield f"{_exec(lab, netns)} {command} <<'RULES'"
    yield from lines
    yield "RULES"


def _pod_server(lab: str, servers: Iterable[podserver.Served], announcements: Iterable[Announcement]) -> Iterator[str]:
    """One process that listens in every pod's name and answers for load balancers, if it is there."""
    served = [podserver.entry(obj) for obj in servers]
    if not served:
        return
    yield from ("", "# --- what stands in for the containers ---")
    yield f"podserver=${{PODSERVER:-{shlex.quote(str(POD_SERVER))}}}"
    yield "server="
    yield 'if [ -r "$podserver" ]; then'
    prefix = shlex.quote(f"{lab}.")
    yield (
        f'  python3 -I -S "$podserver" --config - --netns-dir /run/netns --prefix {prefix}'
        " >/dev/null 2>&1 <<'SERVERS' &"
    )
    announced = [{"netns": obj.netns, "link": obj.link, "address": str(obj.address)} for obj in announcements]
    yield json.dumps({"set": served, "announce": announced} if announced else {"set": served}, indent=1)
    yield "SERVERS"
    yield from ("  server=$!", "fi")


def _dns_server(lab: str, plan: Plan) -> Iterator[str]:
    """One process that answers for every DNS pod and for the internet, if it is there."""
    listening = [obj for obj in plan.objects if isinstance(obj, DnsServer)]
    if not listening:
        return
    known = [obj for obj in plan.objects if isinstance(obj, DnsName)]
    yield from ("", "# --- the DNS server: its names, and where it listens ---")
    yield f"dnsserver=${{DNSSERVER:-{shlex.quote(str(DNS_SERVER))}}}"
    yield 'if [ -r "$dnsserver" ]; then'
    options = f"--config - --netns-dir /run/netns --prefix {shlex.quote(f'{lab}.')}"
    yield f"  python3 -I -S \"$dnsserver\" {options} >/dev/null 2>&1 <<'DNS' &"
    yield from (json.dumps({"names": [[obj.view, obj.name, list(obj.records)]]}) for obj in known)
    yield json.dumps({"listen": [listen_entry(obj) for obj in listening]})
    yield from ("DNS", '  server="$server $!"', "fi")


def _hints(plan: Plan, lab: str, server: bool) -> Iterator[str]:
    """How to try it and how to be rid of it."""
    pods = [
        (obj.netns, obj.interface.ip)
        for obj in plan.objects
        if isinstance(obj, Address) and "_" in obj.netns and obj.link == names.UPLINK
    ]
    yield ""
    if pods:
        sender, target = pods[0][0], pods[-1][1]
        yield f"echo 'Try:   ' {shlex.quote(f'ip netns exec {_name(lab, sender)} ping -c 1 {target}')}"
    if server:
        yield 'if [ -n "$server" ]; then echo "Stop:   kill $server"; fi'
    pattern = shlex.quote(f"^{lab}\\.")
    remove = f"ip netns list | cut -d' ' -f1 | grep {pattern} | xargs -r -n 1 ip netns delete"
    yield f"echo 'Remove:' {shlex.quote(remove)}"


def _name(lab: str, netns: str) -> str:
    return shlex.quote(f"{lab}.{netns}")


def _ip(lab: str, netns: str) -> str:
    return f"ip -n {_name(lab, netns)}"


def _exec(lab: str, netns: str) -> str:
    return f"ip netns exec {_name(lab, netns)}"


def _heading(netns: str) -> str:
    """A pod as `ns/name`: an underscore is in no other namespace's name."""
    return _comment(f"pod {netns.replace('_', '/', 1)}" if "_" in netns else netns)


def _comment(text: str) -> str:
    """Text that cannot leave a comment."""
    return " ".join(text.split())
