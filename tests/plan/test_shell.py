"""The script that builds a lab by hand: what it says, and that it works on a machine without anything of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from k8snetlab.cluster.model import Cluster
from k8snetlab.plan.build import build
from k8snetlab.plan.shell import script
from k8snetlab.plan.state import Netns, Plan, Process, Sysctl

SHOP = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2, backend: {backend}, ipFamily: {family}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec: {{nodeName: node1, containers: [{{name: c}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: near, labels: {{app: web}}}}
spec: {{nodeName: node1, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: far, labels: {{app: web}}}}
spec: {{nodeName: node2, containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, nodePort: 30080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: none}}
spec: {{selector: {{app: nobody}}, ports: [{{port: 80}}]}}
"""


@dataclass(frozen=True)
class Machine:
    """A bare machine: mount, network and process namespaces of its own, in which the script has run."""

    script: str

    def run(self, *lines: str) -> list[str]:
        """The output of each line, run after the script; a line that fails says so with its exit code."""
        after = "\n".join(f"echo '%%%%'; {line} || echo \"exit $?\"" for line in lines)
        prepare = "mount -t tmpfs none /run\nmkdir /run/netns /run/lock\ncat > /run/script.sh\n"
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec",
             f"{prepare}dash /run/script.sh > /run/hints\nset +e\n{after}"],
            input=self.script, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [part.strip() for part in done.stdout.split("%%%%")[1:]]


@pytest.fixture(name="machine")
def machine_fixture(resolved: Callable[..., Cluster]) -> Callable[..., Machine]:
    def machine(backend: str = "host-gw", family: str = "ipv4") -> Machine:
        return Machine(script(build(resolved(SHOP.format(backend=backend, family=family))), "shop"))

    return machine


def ping(sender: str, target: str, *options: str) -> str:
    return f"ip netns exec shop.{sender} ping -q -c 1 -W 2 {' '.join(options)} {target} >/dev/null && echo ok"


@pytest.mark.root
@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_pings_work(machine: Callable[..., Machine], backend: str) -> None:
    large = "1472" if backend == "host-gw" else "1422"  # the MTU less 28 bytes of IPv4 and ICMP headers
    answers = machine(backend).run(
        ping("default_client", "10.244.0.3"),
        ping("default_client", "10.244.1.2"),
        ping("default_client", "10.244.1.2", "-M", "do", "-s", large),
        ping("default_client", "172.18.0.3"),
        ping("default_client", "198.51.100.10"),
        ping("node1", "10.244.1.2"),
        ping("node2", "10.244.0.3"),
        ping("client", "172.18.0.2"),
        ping("client", "10.244.0.3"),  # outside nobody knows the pods
    )
    assert answers == ["ok"] * 8 + ["exit 1"]


@pytest.mark.root
@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_ipv6_pings_work(machine: Callable[..., Machine], backend: str) -> None:
    answers = machine(backend, "dual").run(
        ping("default_client", "fd00:10:244::3"),
        ping("default_client", "fd00:10:244:1::2"),
        ping("default_client", "2001:db8:c633:64::10"),
        ping("node2", "fd00:10:244::3"),
        ping("default_client", "10.244.1.2"),
    )
    assert answers == ["ok"] * 5


@pytest.mark.root
@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_services_answer(machine: Callable[..., Machine], backend: str) -> None:
    curl = "curl -sS -m 4 --noproxy '*'"
    ready = f"{curl} --retry 40 --retry-delay 0 --retry-max-time 8 --retry-connrefused -o /dev/null"
    node_addresses = {"172.18.0.2", "10.244.0.1", "10.244.0.0"}
    answers = machine(backend).run(
        f"ip netns exec shop.internet {ready} http://127.0.0.1/ && echo up",
        f"ip netns exec shop.default_client {curl} http://10.96.1.2/hostname",
        f"ip netns exec shop.default_near {curl} http://10.96.1.2/hostname",
        f"ip netns exec shop.client {curl} http://172.18.0.2:30080/hostname",
        f"ip netns exec shop.node1 {curl} http://127.0.0.1:30080/hostname",
        f"ip netns exec shop.default_client {curl} http://10.244.1.2/clientip",
        f"ip netns exec shop.default_client {curl} http://198.51.100.10/clientip",
        f"ip netns exec shop.default_client {curl} -o /dev/null http://10.96.1.1/ 2>&1",
        f"ip netns exec shop.node1 {curl} -o /dev/null http://10.96.1.1/ 2>&1",
    )
    assert answers[0] == "up"
    assert {*answers[1:5]} <= {"near", "far"}
    assert answers[5].split(":")[0] == "10.244.0.2"  # no translation between pods
    assert answers[6].split(":")[0] in node_addresses  # but on the way out
    assert answers[7].endswith("exit 7")  # refused at once: no endpoints
    assert answers[8].endswith("exit 7")


@pytest.mark.root
def test_the_hints_work(machine: Callable[..., Machine]) -> None:
    try_it = "sed -n 's/^Try: *//p' /run/hints > /run/try && sh /run/try >/dev/null && echo ok"
    stop = "sed -n 's/^Stop: *//p' /run/hints > /run/stop && sh /run/stop && echo stopped"
    remove = "sed -n 's/^Remove: *//p' /run/hints > /run/remove && sh /run/remove; ls /run/netns | wc -l"
    assert machine().run(try_it, stop, remove) == ["ok", "stopped", "0"]


@pytest.mark.root
def test_the_script_is_posix(machine: Callable[..., Machine], tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text(machine("vxlan", "dual").script)
    assert subprocess.run([shutil.which("dash") or "sh", "-n", path], check=False).returncode == 0


def test_links_are_made_where_they_belong(machine: Callable[..., Machine]) -> None:
    text = machine("vxlan").script
    assert re.search(
        r"^ip -n shop.node1 link add veth\w{8} .* type veth peer name eth0 .* netns shop.default_near$", text, re.M
    )
    assert not re.search(r"link set .* netns ", text)
    assert "\n# --- pod default/near ---\n" in text


def test_nothing_in_a_plan_can_leave_its_quotes(tmp_path: Path) -> None:
    """Run with a stand-in for `ip` that only says how it was called: one call per command, nothing else happens."""
    mark = tmp_path / "owned"
    hostile = f"x'; touch {mark}; '\ntouch {mark}\n$(touch {mark})"
    plan = Plan((Netns(hostile), Sysctl(hostile, "a\nb", hostile), Process(hostile, "p", ("echo", hostile))))
    stand_in = "ip() { printf 'called with %s words\\n' $#; }\n"
    done = subprocess.run(
        ["dash"],
        input=stand_in + script(plan, f"lab {hostile}"),
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    calls = [line for line in done.stdout.splitlines() if line.startswith("called")]
    assert calls[:3] == ["called with 3 words", "called with 6 words", "called with 7 words"]
    assert not mark.exists()
