"""What becomes of clients while Services change, in each mode (conformance 1.3 #15; 1.4 #9, #10, #13; 1.9 #1, 2, 5)."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from k8snetlab.cluster import names
from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.flows.model import Result
from k8snetlab.flows.targets import flow
from k8snetlab.kernel.netns import inside
from k8snetlab.lab import life
from k8snetlab.lab.enter import run_in
from k8snetlab.lab.life import OwnedLab
from k8snetlab.lab.store import Record
from k8snetlab.manifests.document import Manifests
from k8snetlab.manifests.edit import label, merge, without
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.rebuild import rebuild
from k8snetlab.probe.run import send

pytestmark = pytest.mark.root

MODES = [
    pytest.param("kubeProxyMode: iptables", id="iptables"),
    pytest.param("kubeProxyMode: iptables, iptablesBackend: legacy", id="iptables-legacy"),
    pytest.param("kubeProxyMode: nftables", id="nftables"),
    pytest.param("kubeProxyMode: nftables, nftablesLayout: flat", id="nftables-flat"),
]
CLIENTS = 16
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: LABEL}}
spec:
  nodeName: NODE
  containers: [{name: c, image: x, ports: [{containerPort: 8080}, {containerPort: 5353, protocol: UDP}]}]
---"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.1.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
STICKY = """
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  clusterIP: 10.96.1.2
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 4}}
  selector: {app: web}
  ports: [{port: 53, targetPort: 5353, protocol: UDP}]
"""
LAB = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {nodes: 2, MODE}\n---"


def manifests_of(mode: str) -> Manifests:
    pods = [("a", "web", "node1"), ("b", "web", "node2"), *((f"c{n}", "client", "node1") for n in range(CLIENTS))]
    text = "".join(POD.replace("NAME", name).replace("LABEL", app).replace("NODE", node) for name, app, node in pods)
    return load_text(f"{LAB.replace('MODE', mode)}{text}{SERVICE}---{STICKY}".encode(), "t.yaml")


class Lab:
    """A lab that goes from one set of manifests to the next as the commands on running labs do."""

    def __init__(self, owned: OwnedLab, manifests: Manifests) -> None:
        self.owned, self.manifests = owned, manifests
        self.readiness: dict[str, bool] = {}
        self.cluster = resolve(manifests, Overrides())
        life.up(owned, Record(manifests=manifests, cluster=self.cluster, plan=build(self.cluster)))

    def change(self, manifests: Manifests | None = None, readiness: Mapping[str, bool] | None = None) -> None:
        manifests = manifests or self.manifests
        self.readiness |= {f"default/{pod}": ready for pod, ready in (readiness or {}).items()}
        before = self.owned.record()
        assert before is not None
        cluster = resolve(manifests, Overrides(), before.cluster, self.readiness, before.manifests)
        plan = rebuild(before.cluster, before.plan, cluster) or build(cluster)
        life.change(self.owned, Record(manifests=manifests, cluster=cluster, plan=plan, readiness=self.readiness))
        self.manifests, self.cluster = manifests, cluster

    def probe(self, *senders: str, to: str, port: int, protocol: str = "TCP", count: int = 1) -> list[Result]:
        assert self.owned.holder is not None
        flows = [flow(self.cluster, sender, to, port=port, protocol=protocol) for sender in senders] * count
        return run_in(self.owned.holder, send, flows, {}, 1.0, 8)

    def outcome(self, to: str, port: int) -> str:
        return self.probe("pod/c0", to=to, port=port)[0].outcome

    @contextmanager
    def connection(self, to: str, port: int) -> Iterator[Callable[[], str]]:
        """`ask()` says who answers on one TCP connection that stays open."""
        connection = HTTPConnection(to, port, timeout=3)
        with inside(f"{self.owned.name}.{names.pod_netns('default', 'c0')}"):
            connection.connect()
        opened = connection.sock

        def ask() -> str:
            connection.request("GET", "/hostname")
            answer = connection.getresponse().read().decode()
            assert connection.sock is opened, "it was opened anew"
            return answer

        try:
            yield ask
        finally:
            connection.close()


@pytest.fixture(name="lab", params=MODES)
def lab_fixture(request: pytest.FixtureRequest, name: str) -> Iterator[Lab]:
    with life.locked(name) as owned:
        yield Lab(owned, manifests_of(request.param))


def test_connections_live_on_and_services_follow(lab: Lab) -> None:
    original = lab.manifests
    with lab.connection("10.96.1.1", 80) as ask:
        first = ask()
        lab.change(without(original, [("Service", "default", "sticky")]))
        assert ask() == first  # SVC.13: a change of another Service
        lab.change(original, readiness={first: False})
        assert ask() == first  # SVC.13: its endpoint gets no new connections, and keeps this one
        other = {"a": "b", "b": "a"}[first]
        results = lab.probe("pod/c0", to="10.96.1.1", port=80, count=8)
        assert {result.server for result in results} == {f"default/{other}"}
        lab.change(readiness={first: True})
        assert ask() == first
    # SVC.10: ports come and go
    two = SERVICE.replace("targetPort: 8080}]", "targetPort: 8080}, {name: alt, port: 81, targetPort: 8080}]")
    lab.change(merge(original, load_text(two.encode(), "u.yaml")))
    assert (lab.outcome("10.96.1.1", 80), lab.outcome("10.96.1.1", 81)) == ("ok", "ok")
    lab.change(original)
    assert (lab.outcome("10.96.1.1", 80), lab.outcome("10.96.1.1", 81) == "ok") == ("ok", False)
    # SVC.9: gone, and back with the same address
    lab.change(without(original, [("Service", "default", "web")]))
    assert lab.outcome("10.96.1.1", 80) != "ok"  # by mode: dropped, or routed away
    lab.change(original)
    assert lab.outcome("10.96.1.1", 80) == "ok"
    # EP.15: a label hides it, and shows it again
    hidden = label(original, ("Service", "default", "web"), {"service.kubernetes.io/service-proxy-name": "x"})
    lab.change(hidden)
    assert lab.outcome("10.96.1.1", 80) != "ok"  # by mode: dropped, or routed away
    lab.change(original)
    assert lab.outcome("10.96.1.1", 80) == "ok"


def test_affinity_follows_endpoints_and_time(lab: Lab) -> None:
    clients = [f"pod/c{number}" for number in range(CLIENTS)]

    def servers() -> list[str]:
        results = lab.probe(*clients, to="10.96.1.2", port=53, protocol="UDP")
        assert {result.outcome for result in results} == {"ok"}
        return [result.server for result in results]

    lab.change(readiness={"b": False})
    assert set(servers()) == {"default/a"}
    lab.change(readiness={"b": True})
    assert set(servers()) == {"default/a"}  # AFF.1: a new endpoint takes nobody away
    select.select([], [], [], 4.5)  # the affinity is four seconds: what is tested is that time
    assert set(servers()) == {"default/a", "default/b"}  # AFF.2: sixteen clients choose anew; all alike once in 2^15
    bound = servers()
    assert servers() == bound
    lab.change(readiness={"a": False})
    assert set(servers()) == {"default/b"}  # AFF.5: whoever was bound to the one that went


def test_affinity_can_be_switched(lab: Lab) -> None:
    """AFF.1: None spreads, ClientIP binds, from one moment to the next."""
    original = lab.manifests
    loose = STICKY.replace("sessionAffinity: ClientIP", "sessionAffinity: None")
    loose = loose.replace("  sessionAffinityConfig: {clientIP: {timeoutSeconds: 4}}\n", "")

    def servers() -> set[str]:
        lab.probe("pod/c0", to="10.96.1.2", port=53, protocol="UDP")  # alone: of two at once each may choose
        return {result.server for result in lab.probe("pod/c0", to="10.96.1.2", port=53, protocol="UDP", count=24)}

    assert len(servers()) == 1
    lab.change(merge(original, load_text(loose.encode(), "u.yaml")))
    assert servers() == {"default/a", "default/b"}
    lab.change(original)
    assert len(servers()) == 1
