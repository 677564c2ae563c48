"""Load balancer addresses and external IPs from outside: who answers for them, whom the server sees, and failover."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Done = subprocess.CompletedProcess[str]
TYPES = ("--type", "external-to-loadbalancer", "--type", "external-to-externalip")
MODES = ["iptables", "nftables"]

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: nginx, ports: [{containerPort: 80}, {containerPort: 5353, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  externalIPs: [192.0.2.10, "2001:db8:99::10"]
  ports: [{name: http, port: 80}, {name: dns, port: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  externalTrafficPolicy: Local
  selector: {app: web}
  externalIPs: [192.0.2.11]
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: guarded}
spec:
  type: LoadBalancer
  selector: {app: web}
  loadBalancerSourceRanges: [10.0.0.0/8]
  ports: [{port: 80}]
"""


class Lab:
    """One lab and the commands on it; what a command prints as JSON is parsed."""

    def __init__(self, run: Callable[..., Done], name: str) -> None:
        self.run, self.name = run, name

    def __call__(self, command: str, *words: str, stdin: str = "") -> Done:
        done = self.run(command, "--lab", self.name, *words, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    def json(self, command: str, *words: str) -> Any:
        return json.loads(self(command, *words, "-o", "json").stdout)

    def neighbour(self, address: str) -> str:
        """The MAC that the router has found for an address."""
        listed = subprocess.run(
            ["ip", "netns", "exec", f"{self.name}.router", "ip", "-j", "neigh", "show", "to", address],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return str(json.loads(listed.stdout)[0].get("lladdr"))

    def mac(self, node: str) -> str:
        shown = self("exec", f"node/{node}", "--", "cat", "/sys/class/net/eth0/address")
        return shown.stdout.strip()


@pytest.fixture
def up(run: Callable[..., Done], lab_name: Callable[[], str]) -> Callable[..., Lab]:
    def bring_up(*options: str) -> Lab:
        lab = Lab(run, lab_name())
        lab("up", "-f", "-", *options, stdin=MANIFESTS)
        return lab

    return bring_up


@pytest.mark.root
@pytest.mark.parametrize("mode", MODES)
def test_they_are_reached_from_outside_as_the_rules_promise(up: Callable[..., Lab], mode: str) -> None:
    lab = up("--ip-family", "dual", "--proxy-mode", mode)
    found = lab.json("check", *TYPES)["checks"]
    assert [check for check in found if not check["passed"]] == []
    seen = {(check["type"], check["to"], check["observed"], check["source"]) for check in found}
    assert ("external-to-loadbalancer", "svc/default/guarded", "timeout", "") in seen
    assert ("external-to-loadbalancer", "svc/default/local", "ok", "203.0.113.10") in seen
    assert ("external-to-externalip", "svc/default/local", "ok", "203.0.113.10") in seen
    assert "203.0.113.10" not in {check["source"] for check in found if check["to"] == "svc/default/web"}
    assert {":" in check["name"].rpartition(":")[0] for check in found} == {False, True}
    assert lab.json("status")["drift"] == {"missing": [], "extra": []}


@pytest.mark.root
def test_one_node_answers_and_when_it_is_cut_off_another_one_does(up: Callable[..., Lab]) -> None:
    lab = up("--ip-family", "dual")
    for address in ("172.18.255.3", "fd00:172:18:0:ffff:ffff:ffff:2"):
        lab("probe", "external/client", address, "--port", "80", "--protocol", "HTTP")
        answering = next(node for node in ("node1", "node2", "node3") if lab.mac(node) == lab.neighbour(address))
        lab("node", "down", answering)
        results = lab.json("probe", "external/client", address, "--port", "80", "--protocol", "HTTP", "--count", "4")
        assert {result["outcome"] for result in results["results"]} == {"ok"}
        assert lab.neighbour(address) not in (lab.mac(answering), "None")
        lab("node", "up", answering)
        lab("check", *TYPES)
        assert lab.neighbour(address) == lab.mac(answering), "it won the election before"


# One datagram every 10 ms, from one socket, until told to stop; then how many were sent and which were not answered.
METRONOME = """
import json, select, socket, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 5353))
sent, answered = 0, 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    sent += 1
    sock.send(b"hostname")
    until = time.monotonic() + 0.01
    if select.select([sock], [], [], 0.01)[0]:
        try:
            sock.recv(999)
            answered += 1
        except OSError:
            pass
    select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
print(json.dumps([sent, sent - answered]))
"""


@pytest.mark.root
def test_a_failover_loses_few_packets(up: Callable[..., Lab], tmp_path: Path) -> None:
    lab = up()
    lab("probe", "external/client", "172.18.255.3", "--port", "80", "--protocol", "HTTP")
    answering = next(node for node in ("node1", "node2", "node3") if lab.mac(node) == lab.neighbour("172.18.255.3"))
    script = tmp_path / "metronome.py"
    script.write_text(METRONOME)
    argv = ["ip", "netns", "exec", f"{lab.name}.client", "python3", "-I", "-S", str(script), "172.18.255.3"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as metronome:
        assert metronome.stdout is not None
        assert metronome.stdout.readline() == "ready\n"
        for action in ("down", "up", "down", "up"):
            lab("node", action, answering)
        stdout, _ = metronome.communicate("stop\n", timeout=30)
    sent, lost = json.loads(stdout)
    assert sent > 50
    # Between the cable's end and the other node's gratuitous ARP lie the changes of rules: some tens of milliseconds.
    print(f"{lost} of {sent} lost in four changes")
    assert lost < sent / 2, f"{lost} of {sent} lost"


BGP = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {ipFamily: dual, loadBalancer: {pool: "192.0.2.64/26,2001:db8:77::/112", mode: bgp}}
---"""


@pytest.mark.root
def test_by_bgp_the_router_spreads_connections_and_forgets_a_node_that_is_cut_off(
    run: Callable[..., Done], lab_name: Callable[[], str]
) -> None:
    lab = Lab(run, lab_name())
    lab("up", "-f", "-", stdin=BGP + MANIFESTS)
    lab("check", *TYPES)
    assert lab.json("status")["drift"] == {"missing": [], "extra": []}
    asked = ("external/client", "192.0.2.67", "--port", "80", "--protocol", "HTTP", "--count", "40")
    entered = {result["source"] for result in lab.json("probe", *asked)["results"]}
    assert len(entered) > 1, "one node has taken all 40 in"
    lab("node", "down", "node2")
    assert {result["outcome"] for result in lab.json("probe", *asked)["results"]} == {"ok"}
    lab("node", "up", "node2")
    lab("scale", "deployment/web", "--replicas", "1")  # now one node has the only endpoint of policy Local
    lab("check", *TYPES)
    assert lab.json("status")["drift"] == {"missing": [], "extra": []}


@pytest.mark.root
def test_without_anybody_to_serve_nobody_answers(up: Callable[..., Lab]) -> None:
    lab = up()
    lab("scale", "deployment/web", "--replicas", "0")
    found = {(check["to"], check["observed"]) for check in lab.json("check", *TYPES)["checks"]}
    assert found == {("svc/default/web", "refused"), ("svc/default/local", "refused")}  # the externalIPs, by the node
    asked = lab.run("probe", "--lab", lab.name, "external/client", "172.18.255.3", "--port", "80", "-o", "json")
    assert json.loads(asked.stdout)["results"][0]["outcome"] == "timeout"


# Run inside the lab, whose /proc has only its own processes.
KILL_POD_SERVER = (
    'for each in /proc/[0-9]*; do grep -qa "pod[s]erver.py" $each/cmdline && kill -9 ${each#/proc/}; done; :'
)


@pytest.mark.root
def test_a_killed_server_answers_again_after_up(up: Callable[..., Lab]) -> None:
    lab = up()
    lab("exec", "node/node1", "--", "sh", "-c", KILL_POD_SERVER)
    drift = json.loads(lab.run("status", "--lab", lab.name, "-o", "json").stdout)["drift"]
    assert any("172.18.255.3" in item for item in map(str, drift["missing"]))
    lab("up", "-f", "-", stdin=MANIFESTS)
    lab("check", *TYPES)
