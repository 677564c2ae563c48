"""ipsets of a namespace: changed by one `ipset restore`, read by `ipset save`.

A set that a rule asks can be filled and emptied but not destroyed: sets are made before the rules that ask them, and
destroyed after these are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final

from k8snetlab.errors import HostError, KernelError
from k8snetlab.kernel import netlink, processes
from k8snetlab.kernel.iptables import find_program
from k8snetlab.plan.proxy.ipvs_script import create_set
from k8snetlab.plan.state import Family, IpSet, IpSetEntry

SetObject = IpSet | IpSetEntry

_FAILED_LINE: Final = re.compile(r"Error in line (\d+): (.*)", re.DOTALL)
_NETLINK_NETFILTER: Final = 12  # linux/netlink.h
_LIST_SETS: Final = 6 << 8 | 7  # NFNL_SUBSYS_IPSET, IPSET_CMD_LIST
# An empty nfgenmsg, IPSET_ATTR_PROTOCOL, and IPSET_ATTR_FLAGS (in network byte order) with IPSET_FLAG_LIST_SETNAME.
_ONLY_NAMES: Final = bytes(4) + netlink.u8(1, 6) + netlink.attribute(6 | 0x4000, (1 << 1).to_bytes(4, "big"))
_FAMILIES: Final[dict[str, Family]] = {"inet": 4, "inet6": 6}


@cache
def program() -> str:
    """The path of ipset; HostError when there is none."""
    path = find_program("ipset")
    if not path:
        raise HostError(
            "this host has no ipset, which NetworkPolicies and kube-proxy's ipvs mode need", hint="install ipset"
        )
    return path


def fill_text(missing: Iterable[SetObject], extra: Iterable[SetObject], planned: Iterable[SetObject] = ()) -> str:
    """The input of `ipset restore` for what is new. What goes waits for the rules (`empty_text`): a pod that is about
    to get other rules must not be without any in between.

    A set of another type is in both `missing` and `extra` and made anew, with all its entries from `planned`.
    """
    missing, extra = tuple(missing), tuple(extra)
    old = {item.name for item in extra if isinstance(item, IpSet)}
    new = {item.name: item for item in missing if isinstance(item, IpSet)}
    lines = [f"destroy {name}" for name in old & new.keys()]
    lines += [create_set(item) for item in new.values()]
    # In pairs of a set and an entry: one address may have several ports in one set, one port be in several sets.
    added = dict.fromkeys((item.set, item.entry) for item in missing if isinstance(item, IpSetEntry))
    if remade := old & new.keys():
        entries = (item for item in planned if isinstance(item, IpSetEntry) and item.set in remade)
        added |= dict.fromkeys((item.set, item.entry) for item in entries)
    lines += [f"add {name} {entry}" for name, entry in added]
    return "".join(f"{line}\n" for line in lines)


def empty_text(missing: Iterable[SetObject], extra: Iterable[SetObject]) -> str:
    """The input of `ipset restore` that removes the entries and destroys the sets that are no longer wanted."""
    extra = tuple(extra)
    kept = {item.name for item in missing if isinstance(item, IpSet)}
    old = {item.name for item in extra if isinstance(item, IpSet)}
    lines = [f"del {item.set} {item.entry}" for item in extra if isinstance(item, IpSetEntry) and item.set not in old]
    lines += [f"destroy {item.name}" for item in extra if isinstance(item, IpSet) and item.name not in kept]
    return "".join(f"{line}\n" for line in lines)


def restore(texts: Sequence[tuple[str, str]], *, parallel: int, timeout: float) -> None:
    """Feed `ipset restore` in many namespaces, each given by its name and the text; an empty text is passed over.

    What is there already, or gone already, is no error. Raises KernelError naming the line that was refused.
    """
    texts = [(netns, text) for netns, text in texts if text]
    commands = [processes.Command((program(), "-exist", "restore"), netns, text.encode()) for netns, text in texts]
    for (netns, text), done in zip(
        texts, processes.run_many(commands, parallel=parallel, timeout=timeout), strict=True
    ):
        _check(netns, text, done)


def present(netns: str) -> bool:
    """Whether the namespace the thread is in has any set, asked without starting a program; `netns` is only named in
    errors. A kernel without ipsets has none."""
    with netlink.Socket(netns, _NETLINK_NETFILTER) as connection:
        try:
            return bool(connection.dump(_LIST_SETS, _ONLY_NAMES))
        except KernelError:
            return False


def save_command(netns: str) -> processes.Command:
    return processes.Command((program(), "save"), netns)


def parse_saved(netns: str, completed: processes.Completed) -> Iterator[SetObject]:
    """What `ipset save` printed, as sets and entries. Raises KernelError when it failed."""
    if completed.returncode != 0:
        raise KernelError("save ipsets", netns=netns, reason=completed.stderr.decode(errors="replace").strip())
    for line in completed.stdout.decode(errors="replace").splitlines():
        verb, name, rest = line.split(" ", 2)
        if verb == "add":
            yield IpSetEntry(netns, name, rest.split(" ", 1)[0])
        elif verb == "create":
            kind, *options = rest.split()
            family = options[options.index("family") + 1] if "family" in options else ""
            yield IpSet(netns, name, kind, _FAMILIES.get(family))


def _check(netns: str, text: str, completed: processes.Completed) -> None:
    if completed.returncode == 0:
        return
    said = " ".join(completed.stderr.decode(errors="replace").split()) or f"exit code {completed.returncode}"
    subject = ""
    if match := _FAILED_LINE.search(said):
        lines = text.splitlines()
        place, said = int(match[1]), match[2]
        subject = lines[place - 1] if 0 < place <= len(lines) else ""
    raise KernelError("restore ipset", netns=netns, subject=subject, reason=said)
