"""Names in a lab, asked with dig and getent from its pods: every form of record, live changes, a server that dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2, ipFamily: dual}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  nodeName: node1
  hostAliases: [{ip: 192.0.2.7, hostnames: [printer]}]
  containers: [{name: c, image: x}]
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec:
  nodeName: node2
  hostname: primary
  subdomain: db
  containers: [{name: c, ports: [{containerPort: 5432, name: pg}]}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  selector: {app: db}
  ipFamilyPolicy: RequireDualStack
  ports: [{name: pg, port: 5, targetPort: pg}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.50, selector: {app: db}, ports: [{name: http, port: 80, targetPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop}
spec: {clusterIP: None, selector: {app: nobody}, ports: [{name: pg, port: 5}]}
---
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: shop}
spec: {type: ExternalName, externalName: my.database.example.com}
"""
LATER = """
apiVersion: v1
kind: Service
metadata: {name: later, namespace: shop}
spec: {clusterIP: 10.96.0.60, selector: {app: db}, ports: [{port: 80}]}
"""
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"


class Lab:
    def __init__(self, run: Any, name: str) -> None:
        self.run, self.name = run, name

    def __call__(self, *words: str, **options: Any) -> Any:
        return self.run(words[0], "--lab", self.name, *words[1:], **options)

    def up(self, manifests: str = MANIFESTS) -> None:
        done = self("up", "-f", "-", stdin=manifests)
        assert done.returncode == 0, done.stderr

    def dig(self, *words: str, sender: str = "client") -> list[str]:
        """The lines of the short answer."""
        done = self("exec", sender, "--", "dig", "+short", "+time=2", "+tries=1", *words)
        assert done.returncode == 0, done.stderr + done.stdout
        return sorted(done.stdout.splitlines())

    def full(self, *words: str) -> str:
        done = self("exec", "client", "--", "dig", "+time=2", "+tries=1", *words)
        assert done.returncode == 0, done.stderr + done.stdout
        return str(done.stdout)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json").stdout)


@pytest.fixture(scope="module")
def still(shared_run: Any, lab_name: Callable[[], str]) -> Lab:
    lab = Lab(shared_run, lab_name())
    lab.up()
    return lab


@pytest.fixture
def lab(run: Any, lab_name: Callable[[], str]) -> Lab:
    lab = Lab(run, lab_name())
    lab.up()
    return lab


PRIMARY = "primary.db.shop.svc.cluster.local."
ZONE = "shop.svc.cluster.local"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param((f"web.{ZONE}",), ["10.96.0.50"], id="service"),
        pytest.param((f"WeB.{ZONE.upper()}",), ["10.96.0.50"], id="any case"),
        pytest.param((f"web.{ZONE}", "+tcp"), ["10.96.0.50"], id="TCP"),
        pytest.param((f"web.{ZONE}", "+noedns"), ["10.96.0.50"], id="without EDNS0"),
        pytest.param(("SRV", f"_http._tcp.web.{ZONE}"), [f"0 100 80 web.{ZONE}."], id="SRV"),
        pytest.param(("SRV", f"web.{ZONE}"), [f"0 100 80 web.{ZONE}."], id="SRV of all ports"),
        pytest.param(("-x", "10.96.0.50"), [f"web.{ZONE}."], id="PTR"),
        pytest.param((f"db.{ZONE}",), ["10.244.1.2"], id="headless"),
        pytest.param(("AAAA", f"db.{ZONE}"), ["fd00:10:244:1::2"], id="headless AAAA"),
        pytest.param((PRIMARY,), ["10.244.1.2"], id="hostname"),
        pytest.param(("SRV", f"_pg._tcp.db.{ZONE}"), [f"0 50 5432 {PRIMARY}"], id="headless SRV"),
        pytest.param(("-x", "10.244.1.2"), [PRIMARY], id="headless PTR"),
        pytest.param(("-x", "fd00:10:244:1::2"), [PRIMARY], id="headless PTR, IPv6"),
        pytest.param(("CNAME", f"ext.{ZONE}"), ["my.database.example.com."], id="alias"),
        pytest.param((f"ext.{ZONE}",), ["198.51.100.10", "my.database.example.com."], id="alias followed"),
        pytest.param(("10-244-1-2.shop.pod.cluster.local",), ["10.244.1.2"], id="pod"),
        pytest.param(("AAAA", "fd00-10-244-1--2.shop.pod.cluster.local"), ["fd00:10:244:1::2"], id="pod, IPv6"),
        pytest.param(("TXT", "dns-version.cluster.local"), ['"1.1.0"'], id="version"),
        pytest.param(("SOA", "cluster.local"), [SOA], id="SOA"),
        pytest.param(("kubernetes.default.svc.cluster.local",), ["10.96.0.1"], id="API server"),
        pytest.param(("www.example.com",), ["198.51.100.10"], id="outside"),
        pytest.param(("+search", "web.shop"), ["10.96.0.50"], id="search list"),
    ],
)
def test_every_form_of_record(still: Lab, words: tuple[str, ...], found: list[str]) -> None:
    assert still.dig(*words) == found


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(("AAAA", f"web.{ZONE}"), "NOERROR", id="other family"),
        pytest.param(("MX", f"web.{ZONE}"), "NOERROR", id="other type"),
        pytest.param((ZONE,), "NOERROR", id="namespace"),
        pytest.param((f"nobody.{ZONE}",), "NXDOMAIN", id="no such Service"),
        pytest.param(("web.nowhere.svc.cluster.local",), "NXDOMAIN", id="no such namespace"),
        pytest.param((f"none.{ZONE}",), "NXDOMAIN", id="headless without endpoints"),
        pytest.param((f"x.ext.{ZONE}",), "NXDOMAIN", id="below an alias"),
        pytest.param(("10-1-1-1.nowhere.pod.cluster.local",), "NXDOMAIN", id="pod of no namespace"),
    ],
)
def test_nothing_found(still: Lab, words: tuple[str, ...], status: str) -> None:
    text = still.full(*words)
    assert f"status: {status}" in text
    assert "ANSWER: 0, AUTHORITY: 1" in text
    assert f"SOA\t{SOA}" in text


def test_a_pod_resolves_as_programs_do(still: Lab) -> None:
    def getent(*words: str, sender: str = "client") -> list[str]:
        return str(still("exec", sender, "--", "getent", *words).stdout).split()

    assert getent("ahostsv4", "web.shop")[0] == "10.96.0.50"
    assert getent("ahostsv4", "db.shop.svc")[0] == "10.244.1.2"
    assert getent("hosts", "printer") == ["192.0.2.7", "printer"]
    assert still("exec", "shop/db-0", "--", "hostname", "-f").stdout == "primary.db.shop.svc.cluster.local\n"
    assert getent("ahostsv4", "example.com", sender="node/node1")[0] == "198.51.100.10"


def test_checks_of_every_form(still: Lab) -> None:
    found = still.json("check", "--type", "pod-to-dns")
    assert found["failed"] == 0, [check["reason"] for check in found["checks"] if not check["passed"]]
    asked = {check["name"].split()[3] for check in found["checks"]}
    assert asked == {"A", "AAAA", "SRV", "PTR", "CNAME"}


@pytest.mark.parametrize(
    ("name", "outcome", "reason"),
    [
        pytest.param("web.shop", "ok", "A 10.96.0.50", id="found"),
        pytest.param("nobody.shop", "refused", "NXDOMAIN", id="not found"),
        pytest.param("10.96.0.50", "ok", f"PTR web.{ZONE}.", id="an address"),
    ],
)
def test_probe(still: Lab, name: str, outcome: str, reason: str) -> None:
    result = still.json("probe", "client", name, "--protocol", "DNS")["results"][0]
    assert result["outcome"] == outcome
    assert reason in result["reason"]


def test_trace_shows_the_search(still: Lab) -> None:
    found = still.json("dns-trace", "example.com", "--from", "client", "--type", "A")
    searched = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    asked = [(query["name"], query["code"]) for query in found["queries"]]
    assert asked == [*((f"example.com.{each}", "NXDOMAIN") for each in searched), ("example.com", "NOERROR")]
    assert found["found"] == ["A 198.51.100.10"]
    assert all(query["server"] == "10.96.0.10" and 0 < query["ms"] < 1000 for query in found["queries"])
    complete = still.json("dns-trace", "example.com.", "--from", "client")
    assert {query["name"] for query in complete["queries"]} == {"example.com"}
    assert {query["type"] for query in complete["queries"]} == {"A", "AAAA"}  # what programs ask for
    missing = still("dns-trace", "nobody", "--from", "client")
    assert missing.returncode == 1
    assert "not found" in missing.stdout


def test_addons_are_not_the_users(still: Lab) -> None:
    found = still.json("status")
    assert (found["pods"], found["services"]) == (2, 4)
    pods = still.json("get", "pods", "-n", "kube-system")["items"]
    assert sorted(pod["metadata"]["name"].rstrip("0123456789abcdefghijklmnopqrstuvwxyz") for pod in pods) != []
    assert len(pods) == 3
    assert not any("kube-system" in check["from"] for check in still.json("check", "--list")["checks"])


def test_the_api_server_answers(still: Lab) -> None:
    done = still("exec", "client", "--", "curl", "-s", "http://kubernetes.default.svc:443/hostname")
    assert done.stdout == "node1"


def test_a_change_is_seen_at_once(lab: Lab) -> None:
    name = f"later.{ZONE}"
    assert lab.dig(name) == []
    assert lab("apply", "-f", "-", stdin=LATER).returncode == 0
    assert lab.dig(name) == ["10.96.0.60"]
    assert lab("set-ready", "shop/db-0", "false").returncode == 0
    assert "status: NXDOMAIN" in lab.full(f"db.{ZONE}")
    assert lab("delete", "service", "shop/later").returncode == 0
    assert "status: NXDOMAIN" in lab.full(name)
    assert lab("status").returncode == 0


def test_a_dead_server_shows_and_is_started_again(lab: Lab) -> None:
    os.kill(server_of(lab), signal.SIGKILL)
    status = lab("status")
    assert status.returncode == 1
    assert "DNS server of external/internet" in status.stdout
    assert "DNS view cluster: web.shop.svc.cluster.local" in status.stdout
    lab.up()
    assert lab("status").returncode == 0
    assert lab.dig(f"web.{ZONE}") == ["10.96.0.50"]


def server_of(lab: Lab) -> int:
    """The DNS server's pid outside the lab: a descendant of nobody but the lab's own PID namespace."""
    namespace = Path(f"/proc/{lab.json('status')['pid']}/ns/pid").readlink()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/pid").readlink() == namespace and b"dnsserver.py" in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:  # it has ended
            continue
    raise AssertionError("no DNS server runs in the lab")


def test_none(run: Any, lab_name: Callable[[], str]) -> None:
    lab = Lab(run, lab_name())
    done = lab("up", "-f", "-", stdin=MANIFESTS.replace("ipFamily: dual", "ipFamily: dual, dns: none"))
    assert done.returncode == 0
    assert "no name is resolved: the Lab says dns: none" in done.stderr
    assert lab.json("check", "--type", "pod-to-dns") == {
        "lab": lab.name, "passed": 0, "failed": 0, "skipped": 0, "checks": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dns", "program", "fix"),
    [
        pytest.param("knot", "knotd", "sudo apt install knot", id="knot"),
        pytest.param("{coredns: /nowhere/coredns}", "/nowhere/coredns", "download CoreDNS", id="coredns"),
    ],
)
def test_a_server_that_the_host_lacks(
    run: Any, lab_name: Callable[[], str], tmp_path: Path, dns: str, program: str, fix: str
) -> None:
    lab = Lab(run, lab_name())
    (tmp_path / "bin").mkdir()
    for name in ("ip", "iptables", "sleep"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/bin/false")
    text = MANIFESTS.replace("ipFamily: dual", f"ipFamily: dual, dns: {dns}")
    done = lab("up", "-f", "-", stdin=text, PATH=str(tmp_path / "bin"))
    assert done.returncode == 3
    assert f"there is no program {program}" in done.stderr
    assert fix in done.stderr
    assert lab("status").returncode == 2  # nothing half built


@pytest.mark.skipif(
    shutil.which("knotd") is None, reason="Debian starts its knot as a service: CI installs it, setup does not"
)
def test_knot(run: Any, lab_name: Callable[[], str]) -> None:
    lab = Lab(run, lab_name())
    lab.up(MANIFESTS.replace("ipFamily: dual", "dns: knot").replace("  ipFamilyPolicy: RequireDualStack\n", ""))
    wait_for(lambda: lab("exec", "client", "--", "dig", "+short", f"web.{ZONE}").stdout == "10.96.0.50\n")
    assert lab.dig("SRV", f"_pg._tcp.db.{ZONE}") == [f"0 100 5432 {PRIMARY}"]
    assert lab.dig("-x", "10.96.0.50") == [f"web.{ZONE}."]
    assert lab.dig("10-244-1-2.shop.pod.cluster.local") == ["10.244.1.2"]
    assert lab.dig("www.example.com") == ["198.51.100.10"]
    assert lab("apply", "-f", "-", stdin=LATER).returncode == 0
    wait_for(lambda: lab.dig(f"later.{ZONE}") == ["10.96.0.60"])
    assert lab("status").returncode == 0
    checks = lab.json("check", "--type", "pod-to-dns")
    assert checks["failed"] == 0, [check["reason"] for check in checks["checks"] if not check["passed"]]


def wait_for(holds: Callable[[], bool]) -> None:
    """Knot reads its files in its own time; each try takes a command's."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
