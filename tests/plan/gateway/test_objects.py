"""What the lab's proxy needs, and a host that does not have it."""

from __future__ import annotations

from textwrap import dedent

from k8snetlab.cluster.gateway_addon import BOOTSTRAP
from k8snetlab.cluster.resolve import resolve
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.gateway.objects import is_proxy, with_program
from k8snetlab.plan.rebuild import rebuild
from k8snetlab.plan.state import Plan, Process, ProxyFile, SelfSigned
from k8snetlab.plan.text import describe

TEXT = dedent("""\
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      replicas: REPLICAS
      selector: {matchLabels: {app: web}}
      template:
        metadata: {labels: {app: web}}
        spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: web}
    spec: {selector: {app: web}, ports: [{port: 80}]}
    ---
    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: i}
    spec:
      tls: [{hosts: [x.com]}]
      defaultBackend: {service: {name: web, port: {number: 80}}}
    """)


def plan(replicas: int = 1) -> Plan:
    return build(resolve(load_text(TEXT.replace("REPLICAS", str(replicas)).encode(), "t.yaml"), with_addons=True))


def test_its_files_come_before_its_process() -> None:
    kinds = [type(item) for item in plan().objects if isinstance(item, Process | ProxyFile | SelfSigned)]
    assert kinds[-1] is Process
    assert kinds.count(Process) == 1
    assert kinds.count(SelfSigned) == 2, "for x.com, and for clients that ask for another name"


def test_the_program_is_where_this_host_has_it_or_nothing_runs() -> None:
    whole = plan()
    (found,) = [item for item in with_program(whole, "/opt/envoy").objects if is_proxy(item)]
    assert isinstance(found, Process)
    assert found.argv[:3] == ("/opt/envoy", "-c", BOOTSTRAP)
    assert with_program(with_program(whole, "/opt/envoy"), "/opt/envoy") == with_program(whole, "/opt/envoy")
    without = with_program(whole, "")
    assert len(without.objects) == len(whole.objects) - 1
    assert not any(is_proxy(item) for item in without.objects)


def test_no_text_of_a_plan_shows_a_file() -> None:
    assert all("BEGIN" not in describe(item) for item in plan().objects if isinstance(item, ProxyFile))


def test_a_change_of_pods_behind_an_ingress_is_planned_from_the_old_plan() -> None:
    manifests = [load_text(TEXT.replace("REPLICAS", text).encode(), "t.yaml") for text in ("1", "3")]
    before = resolve(manifests[0], with_addons=True)
    after = resolve(manifests[1], previous=before, with_addons=True)
    rebuilt = rebuild(before, build(before), after)
    assert rebuilt is not None
    assert set(rebuilt.objects) == set(build(after).objects)
