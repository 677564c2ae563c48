"""Wait until routing daemons have brought the routes that they must, and taken back the others."""

from __future__ import annotations

import select
import socket
import time
from collections import defaultdict
from collections.abc import Collection
from typing import Final

from k8snetlab.cluster import names
from k8snetlab.errors import KernelError
from k8snetlab.kernel import addresses, netlink, netns
from k8snetlab.kernel.describe import describe
from k8snetlab.plan.state import LearnedRoute

_ROUTE_GROUPS: Final = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_ALL_ROUTES: Final = addresses.ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
# Whose daemon is asked: a node's own (Calico's), or those that tell the router of load balancers' addresses.
_WHERE: Final = {names.ROUTER: "k8snetlab exec node/NODE -- birdc -s /run/files/bgp-NODE/bird.ctl"}


def wait(wanted: Collection[LearnedRoute], unwanted: Collection[LearnedRoute], seconds: float = 15.0) -> None:
    """Until every wanted route is there and no unwanted one. Raises KernelError for the first that is late."""
    by_netns: defaultdict[str, tuple[set[LearnedRoute], set[LearnedRoute]]] = defaultdict(lambda: (set(), set()))
    for route in wanted:
        by_netns[route.netns][0].add(route)
    for route in unwanted:
        by_netns[route.netns][1].add(route)
    deadline = time.monotonic() + seconds
    for name, (coming, going) in by_netns.items():
        if name in netns.names():
            _wait(name, coming, going - coming, deadline)


def _wait(name: str, coming: set[LearnedRoute], going: set[LearnedRoute], deadline: float) -> None:
    with netns.inside(name), netlink.Socket(name) as routes, _events() as events:
        poll = select.poll()
        poll.register(events, select.POLLIN)
        while True:
            there = {addresses.read_learned(name, body) for body in routes.dump(addresses.RTM_GETROUTE, _ALL_ROUTES)}
            late = [*(coming - there), *(going & there)]
            if not late:
                return
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                reason = "has not been learned in time" if late[0] in coming else "has not been withdrawn in time"
                hint = f"look with: {_WHERE.get(name, f'k8snetlab exec node/{name} -- birdc')} show protocols"
                raise KernelError("route", netns=name, subject=describe(late[0]), reason=reason, hint=hint)
            _drain(events)


def _events() -> socket.socket:
    """Tells of every change of a route in the namespace the thread is in."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.bind((0, _ROUTE_GROUPS))
    events.setblocking(False)
    return events


def _drain(events: socket.socket) -> None:
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: more has changed than the socket holds; the next look sees it all
            return
