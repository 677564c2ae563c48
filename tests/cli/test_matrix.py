"""`matrix` on running labs: what it notices, what it refuses to call proven, and what it leaves behind: nothing.

Enforcement is by hand here, in the nodes' FORWARD, so that it can be broken in every way; at the end come the engines.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2, policyEngine: none}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x, labels: {app: a}}
spec:
  nodeName: node1
  containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: x, labels: {app: b}}
spec:
  nodeName: node1
  containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: y, labels: {app: c}}
spec:
  nodeName: node2
  containers: [{name: c, image: i, ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: x}
spec: {selector: {}, clusterIP: 10.96.0.30, ports: [{port: 8080, targetPort: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: both, namespace: x}
subsets: [{addresses: [{ip: 10.244.0.2}, {ip: 10.244.0.3}], ports: [{port: 80}]}]
"""
POLICY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: x}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {}}]}]}
"""
A, B, C = "10.244.0.2", "10.244.0.3", "10.244.1.2"
LOG = '-j NFLOG --nflog-group 100 --nflog-prefix "drop ingress"'


class Lab:
    """One lab, the commands on it, and rules by hand."""

    def __init__(self, run: Any, name: str) -> None:
        self.run, self.name = run, name

    def __call__(self, command: str, *words: str, **more: Any) -> Any:
        return self.run(command, "--lab", self.name, *words, **more)

    def sh(self, node: str, command: str) -> str:
        argv = ["ip", "netns", "exec", f"{self.name}.{node}", "sh", "-euc", command]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def drop(self, *, log: bool = True) -> None:
        """What should enforce POLICY: on a's node, c's packets to a."""
        for target in (LOG, "-j DROP") if log else ("-j DROP",):
            self.sh("node1", f"iptables -w -A FORWARD -s {C} -d {A} -m conntrack --ctstate NEW {target}")

    def cells(self, *words: str, code: int = 0) -> dict[str, Any]:
        done = self("matrix", "-o", "json", *words)
        assert done.returncode == code, done.stdout + done.stderr
        return {f"{cell['from']} {cell['to']}": cell for cell in json.loads(done.stdout)["cells"]}

    def rules(self) -> str:
        return self.sh("node1", "iptables -S") + self.sh("node2", "iptables -S")


@pytest.fixture(name="lab", scope="module")
def lab_fixture(shared_run: Any, lab_name: Callable[[], str]) -> Lab:
    return Lab(shared_run, lab_name())


@pytest.fixture(autouse=True)
def mended(lab: Lab) -> None:
    """Each test finds the lab as it should be, but for the policy's enforcement, whatever the one before has done."""
    done = lab("up", "-f", "-", stdin=MANIFESTS + POLICY)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [(), ("--protocol", "UDP"), ("--port", "80", "--timeout", "0.5")], ids=" ".join)
def test_all_is_as_it_should_be(lab: Lab, words: tuple[str, ...]) -> None:
    lab.drop()
    before = lab.rules()
    found = lab.cells(*words)
    assert len(found) == 6
    blocked = found.pop("y/c x/a")
    assert (blocked["expected"], blocked["observed"], blocked["proven"]) == ("blocked", "blocked", True)
    assert blocked["reason"] == "node1: drop ingress"
    assert {(cell["expected"], cell["observed"]) for cell in found.values()} == {("allowed", "allowed")}
    assert lab.rules() == before


def test_table(lab: Lab) -> None:
    lab.drop()
    done = lab("matrix")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "FROM \\ TO   x/a   x/b   y/c",
        "x/a               .     .",
        "x/b         .           .",
        "y/c         X     .",
    ]
    assert done.stderr.splitlines()[-1] == "6 pairs: 5 allowed, 1 blocked; all as expected"


def test_enforcement_that_is_not_there_is_noticed(lab: Lab) -> None:
    found = lab.cells(code=1)["y/c x/a"]
    assert (found["expected"], found["observed"]) == ("blocked", "allowed")


def test_a_drop_without_a_log_is_silence_and_still_proven(lab: Lab) -> None:
    lab.drop(log=False)
    found = lab.cells("--timeout", "0.3")["y/c x/a"]
    assert (found["observed"], found["proven"]) == ("blocked", True)
    assert found["reason"] == "no answer within 0.3 s, and no rule told of a drop"


def test_a_broken_way_is_no_block(lab: Lab) -> None:
    """The policy would block it, and nothing comes through: but not because of the policy."""
    lab.drop()
    lab.sh("node1", f"ip route add blackhole {C}")
    found = lab.cells("--timeout", "0.3", code=1)
    assert (found["y/c x/a"]["observed"], found["y/c x/a"]["proven"]) == ("blocked", False)
    assert "does not pass without the policies either" in found["y/c x/a"]["reason"]
    assert (found["x/a y/c"]["observed"], found["x/a y/c"]["proven"]) == ("blocked", False)


def test_what_drops_beside_the_policies_is_no_proof(lab: Lab) -> None:
    lab.drop()
    lab.sh("node1", f"iptables -w -t mangle -A FORWARD -s {C} -d {A} -j DROP")
    found = lab.cells("--timeout", "0.3", code=1)["y/c x/a"]
    assert (found["observed"], found["proven"]) == ("blocked", False)


def test_bridged_traffic_that_meets_no_rule_is_noticed(lab: Lab) -> None:
    lab.sh("node1", f"iptables -w -A FORWARD -s {B} -d {A} {LOG}; iptables -w -A FORWARD -s {B} -d {A} -j DROP")
    assert lab.cells(code=1)["x/b x/a"]["observed"] == "blocked"
    lab.sh("node1", "sysctl -qw net.bridge.bridge-nf-call-iptables=0")
    assert lab.cells(code=1)["x/b x/a"]["observed"] == "allowed"


def test_a_server_that_has_gone_is_an_error(lab: Lab) -> None:
    lab.drop()
    holder = json.loads(lab("status", "-o", "json").stdout)["pid"]
    pid = int(Path(f"/proc/{holder}/root/run/k8snetlab/podserver.pid").read_text().split()[0])
    inside = subprocess.run(
        ["nsenter", "-t", str(holder), "-p", "-m", "kill", "-9", str(pid)], capture_output=True, text=True, check=False
    )
    assert inside.returncode == 0, inside.stderr
    found = lab.cells(code=1)
    assert {cell["observed"] for cell in found.values()} == {"error", "blocked"}
    assert not found["y/c x/a"]["proven"]


def test_through_a_service_each_endpoint_is_heard(lab: Lab) -> None:
    """c may talk to b and not to a, and the Service takes it to either."""
    lab.drop()
    found = lab.cells("--via", "service")
    seen = {key: (cell["expected"], cell["observed"]) for key, cell in found.items()}
    assert seen == {
        "x/a x/b": ("allowed", "allowed"),
        "x/b x/a": ("allowed", "allowed"),
        "y/c x/a": ("blocked", "blocked"),
        "y/c x/b": ("allowed", "allowed"),
    }


def test_namespace(lab: Lab) -> None:
    assert set(lab.cells("-n", "x")) == {"x/a x/b", "x/b x/a"}
    assert lab("matrix", "-n", "y").returncode == 4
    assert lab("matrix", "-n", "nowhere").returncode == 2


def test_a_lab_that_does_not_run(run: Any, lab_name: Callable[[], str]) -> None:
    done = run("matrix", "--lab", lab_name())
    assert done.returncode == 2
    assert "does not run" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_interrupted_between_the_controls(lab: Lab, number: int) -> None:
    """Stopped while the control rules stand: Ctrl-C takes them away, and after a kill the next matrix does."""
    lab.drop()
    before = lab.rules()
    program = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a session in the background begins with it ignored
from k8snetlab.cli import sweeping
send = sweeping.Matrix.send
def interrupted(matrix, pairs=None, dscp=0):
    if dscp:
        os.kill(os.getpid(), {int(number)})
    return send(matrix, pairs, dscp)
sweeping.Matrix.send = interrupted
from k8snetlab.cli.main import main
sys.argv[1:] = sys.argv[4:]
main()
"""
    done = lab("matrix", prefix=(sys.executable, "-c", program))
    if number == signal.SIGINT:
        assert done.returncode == 130, done.stderr
        assert lab.rules() == before
    else:
        assert done.returncode == -signal.SIGKILL
        assert "control of the prober" in lab.rules()
        assert lab("status").returncode == 1
        again = lab("matrix")
        assert "did not reach its end; mending it first" in again.stderr
        assert lab("status").returncode == 0


@pytest.mark.parametrize("config", ["policyEngine: iptables", "policyEngine: nftables", "iptablesBackend: legacy",
                                    "kubeProxyMode: nftables", "ipFamily: ipv6"])  # fmt: skip
def test_engines(run: Any, lab_name: Callable[[], str], config: str) -> None:
    """The policies as the lab itself enforces them: proven, and not with a rule deleted."""
    name = lab_name()
    manifests = (MANIFESTS + POLICY).replace("policyEngine: none", config)
    manifests = "---".join(part for part in manifests.split("---") if "both" not in part)
    assert run("up", "--lab", name, "-f", "-", stdin=manifests).returncode == 0
    done = run("matrix", "--lab", name, "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    blocked = [cell for cell in json.loads(done.stdout)["cells"] if cell["observed"] == "blocked"]
    assert [(cell["from"], cell["to"], cell["proven"], cell["reason"]) for cell in blocked] == [
        ("y/c", "x/a", True, "node1: drop ingress")
    ]
    assert run("status", "--lab", name).returncode == 0
    flush = "iptables-legacy -F FORWARD" if "legacy" in config else "nft flush ruleset"
    subprocess.run(["ip", "netns", "exec", f"{name}.node1", "sh", "-c", flush], check=True)
    broken = run("matrix", "--lab", name)
    assert broken.returncode == 1
    assert "expected blocked, allowed" in broken.stdout
