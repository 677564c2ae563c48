"""Remove what a change that was killed has left half made, so that the next look finds things whole or missing.

Links and namespaces are made in several steps, and the last one takes them up. The vocabulary of `plan.state` has no
word for a link that is down, so after an interruption whatever the plan's kinds are and is not up goes, before the
kernel is observed.
"""

from __future__ import annotations

from k8snetlab.kernel import links, netlink, netns
from k8snetlab.plan.state import Netns

_KINDS = frozenset({"bridge", "veth", "vxlan"})


def sweep() -> None:
    """Remove namespaces whose loopback is down, and links of our kinds that are down, veth pairs with one such end.

    The process must be in the lab's mount namespace. Raises KernelError.
    """
    netns.raise_file_limit()
    for name in sorted(netns.names()):
        with netns.inside(name), netlink.Socket(name) as connection:
            bodies = connection.dump(links.RTM_GETLINK, links.INFO.pack(0, 0, 0, 0, 0))
            down = [body for body in bodies if not links.INFO.unpack_from(body)[3] & links.IFF_UP]
            indexes = {links.INFO.unpack_from(body)[2] for body in down}
            # A namespace's own end takes its veth pairs along at some later time; the far ends must be gone at once.
            doomed = bodies if links.LOOPBACK in indexes else down
            requests = [(Netns(name), _delete(body)) for body in doomed if _kind(body) in _KINDS]
            connection.send("remove half made links", requests, tolerate=netlink.GONE)
        if links.LOOPBACK in indexes:
            netns.remove(name)


def _kind(body: bytes) -> str:
    link = netlink.attributes(body, links.INFO.size)
    info = netlink.attributes(link.get(links.IFLA_LINKINFO, b""))
    return netlink.string(info, links.IFLA_INFO_KIND)


def _delete(body: bytes) -> bytes:
    return netlink.message(links.RTM_DELLINK, 0, links.INFO.pack(0, 0, links.INFO.unpack_from(body)[2], 0, 0))
