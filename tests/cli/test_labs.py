"""The commands on running labs: exit codes, JSON to the key, and what is left behind: nothing."""

from __future__ import annotations

import json
import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

pytestmark = pytest.mark.root

MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {nodes: 2}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api, tier: front}}
spec: {nodeName: node1, containers: [{name: c, image: x, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
spec: {nodeName: node2, containers: [{name: c, image: x, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {type: NodePort, clusterIP: 10.96.0.50, selector: {app: db}, ports: [{port: 5432, nodePort: 30432}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ignored}
"""


class Lab:
    """One lab and the commands on it."""

    def __init__(self, run: Any, name: str) -> None:
        self.run, self.name = run, name

    def __call__(self, command: str, *words: str, **more: Any) -> Any:
        return self.run(command, "--lab", self.name, *words, **more)

    def up(self, manifests: str = MANIFESTS, *words: str) -> Any:
        done = self("up", "-f", "-", "-o", "json", *words, stdin=manifests)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def json(self, command: str, *words: str, code: int = 0) -> Any:
        done = self(command, "-o", "json", *words)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)


@pytest.fixture
def new(run: Any, lab_name: Callable[[], str]) -> Callable[[], Lab]:
    return lambda: Lab(run, lab_name())


@pytest.fixture
def lab(new: Callable[[], Lab]) -> Lab:
    lab = new()
    lab.up()
    return lab


@pytest.fixture(scope="module")
def still(shared_run: Any, lab_name: Callable[[], str]) -> Lab:
    """A lab that its tests do not change."""
    lab = Lab(shared_run, lab_name())
    lab.up()
    return lab


def test_up_says_what_it_made(new: Callable[[], Lab]) -> None:
    lab = new()
    done = lab("up", "-f", "-", "-o", "json", stdin=MANIFESTS)
    found = json.loads(done.stdout)
    assert list(found) == ["lab", "nodes", "pods", "services", "changed", "seconds"]
    assert (found["lab"], found["nodes"], found["pods"], found["services"]) == (lab.name, 2, 2, 1)
    assert list(found["changed"]) == ["created", "deleted", "updated"]
    assert found["changed"]["created"] > 50
    assert (found["changed"]["deleted"], found["changed"]["updated"]) == (0, 0)
    assert 0 < found["seconds"] < 30
    assert done.stderr.splitlines()[0] == f"lab {lab.name}: 2 nodes, 2 pods, 1 service; ignored: 1 ConfigMap"


def test_without_json_stdout_is_empty(new: Callable[[], Lab]) -> None:
    lab = new()
    first, second = (lab("up", "-f", "-", stdin=MANIFESTS) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "")
    assert re.search(r"kernel objects: \d+ made \(\d+\.\d\d s\)$", first.stderr.rstrip())
    assert re.search(r"nothing to change \(\d+\.\d\d s\)$", second.stderr.rstrip())


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    before = lab.json("status")["pid"]
    assert lab.up()["changed"] == {"created": 0, "deleted": 0, "updated": 0}
    assert lab.json("status")["pid"] == before


def test_up_of_less_removes_it(lab: Lab) -> None:
    less = "---".join(part for part in MANIFESTS.split("---") if "name: api" not in part)
    changed = lab.up(less)["changed"]
    assert changed["deleted"] > 0
    assert [each["metadata"]["name"] for each in lab.json("get", "pods")["items"]] == ["db"]
    assert lab.json("get", "pods", "-n", "shop")["items"] == []
    assert lab("status").returncode == 0


def test_wrong_manifests_leave_a_running_lab_alone(lab: Lab) -> None:
    refused = lab("up", "-f", "-", stdin=MANIFESTS.replace("nodePort: 30432", "nodePort: 80"))
    assert refused.returncode == 2
    assert lab.up()["changed"] == {"created": 0, "deleted": 0, "updated": 0}


def test_list(lab: Lab, run: Any) -> None:
    found = json.loads(run("list", "-o", "json").stdout)
    assert found == [{"name": lab.name, "pid": found[0]["pid"], "nodes": 2, "pods": 2, "services": 1}]
    assert run("list", "-o", "name").stdout == f"{lab.name}\n"
    assert run("list").stdout.splitlines()[1].split() == [lab.name, str(found[0]["pid"]), "2", "2", "1"]


def test_the_only_lab_is_meant(lab: Lab, run: Any) -> None:
    assert run("status").stdout.startswith(f"lab      {lab.name} (process ")


def test_one_of_several_must_be_named(lab: Lab, new: Callable[[], Lab], run: Any) -> None:
    other = new()
    other.up()
    unsaid = run("get", "pods")
    assert unsaid.returncode == 2
    names = ", ".join(sorted([lab.name, other.name]))
    assert unsaid.stderr == f"error: several labs run: {names}\nhint: say which one with --lab\n"
    assert other("get", "pods").returncode == 0
    assert run("get", "pods", K8SNETLAB_LAB=other.name).returncode == 0


def test_status(still: Lab) -> None:
    found = still.json("status")
    assert list(found) == ["lab", "pid", "nodes", "pods", "services", "complete", "drift"]
    assert found["drift"] == {"missing": [], "extra": []}
    assert found["complete"] is True
    lines = still("status").stdout.splitlines()
    assert lines[1:] == [
        "network  bridge, host-gw; kube-proxy iptables",
        "holds    2 nodes, 2 pods, 1 service; ignored: 1 ConfigMap",
        "drift    none: the kernel has exactly what was planned",
    ]


def test_drift_is_shown_and_mended(lab: Lab) -> None:
    assert lab("exec", "node/node1", "--", "ip", "route", "del", "10.244.1.0/24").returncode == 0
    assert lab("exec", "shop/api", "--", "ip", "addr", "add", "10.9.9.9/32", "dev", "lo").returncode == 0
    drift = lab.json("status", code=1)["drift"]
    assert [each["destination"] for each in drift["missing"]] == ["10.244.1.0/24"]
    assert [each["interface"] for each in drift["extra"]] == ["10.9.9.9/32"]
    shown = lab("status")
    assert shown.returncode == 1
    assert "drift    1 missing, 1 extra (up mends it)" in shown.stdout
    assert re.search(r"^  - node1: .*10\.244\.1\.0/24", shown.stdout, re.MULTILINE)
    assert re.search(r"^  \+ shop_api: .*10\.9\.9\.9/32", shown.stdout, re.MULTILINE)
    assert lab.up()["changed"] == {"created": 1, "deleted": 1, "updated": 0}
    assert lab("status").returncode == 0


def names_of(done: Any) -> list[str]:
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_get(still: Lab) -> None:
    assert names_of(still("get", "pods")) == ["NAME", "db"]
    assert names_of(still("get", "pods", "-A")) == ["NAMESPACE", "default", *["kube-system"] * 3, "shop"]
    assert names_of(still("get", "po", "-n", "shop")) == ["NAME", "api"]
    assert still("get", "svc/db", "-o", "name").stdout == "service/db\n"
    assert names_of(still("get", "pod", "shop/api")) == ["NAME", "api"]
    assert names_of(still("get", "pod", "api", "-n", "shop")) == ["NAME", "api"]
    assert "10.96.0.50" in still("get", "services").stdout
    assert "10.244.1.2" in still("get", "pods", "-o", "wide").stdout
    assert "app=db" in still("get", "pods", "--show-labels").stdout


def test_get_by_labels(still: Lab) -> None:
    assert names_of(still("get", "pods", "-A", "-l", "app=api,tier==front"))[1:] == ["shop"]
    nothing = still("get", "pods", "-l", "app=other")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "No resources found in default namespace.\n"
    refused = still("get", "pods", "-l", "app in (a,b)")
    assert refused.returncode == 2
    assert "only key=value pairs" in refused.stderr


def test_get_as_data(still: Lab) -> None:
    one = still.json("get", "pod", "db")
    assert (one["apiVersion"], one["kind"], one["status"]["podIP"]) == ("v1", "Pod", "10.244.1.2")
    many = still.json("get", "pods", "-A")
    assert (many["apiVersion"], many["kind"], len(many["items"])) == ("v1", "List", 5)
    assert still.json("get", "jobs") == {"apiVersion": "v1", "kind": "List", "items": []}
    assert yaml.safe_load(still("get", "pod", "db", "-o", "yaml").stdout) == one
    missing = still("get", "pod", "nobody", "-o", "json")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == f'error: pod "nobody" not found in lab {still.name}\n'


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(("true",), 0, id="success"),
        pytest.param(("sh", "-c", "exit 7"), 7, id="its own code"),
        pytest.param(("sh", "-c", "kill -TERM $$"), 143, id="ended by a signal"),
        pytest.param(("no-such-program",), 127, id="not found"),
        pytest.param(("/etc/hosts",), 126, id="not executable"),
    ],
)
def test_exit_codes_of_exec(still: Lab, words: tuple[str, ...], code: int) -> None:
    assert still("exec", "db", "--", *words).returncode == code


def test_exec_hands_everything_through(still: Lab) -> None:
    done = still("exec", "db", "--", "sh", "-c", "cat; hostname; echo said >&2", stdin="given\n")
    assert (done.stdout, done.stderr) == ("given\ndb\n", "said\n")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("-n", "shop", "api", "--", "echo", "-n", "x"), id="options before the target"),
        pytest.param(("api", "-n", "shop", "--", "echo", "-n", "x"), id="options behind it, as with kubectl"),
        pytest.param(("shop/api", "echo", "-n", "x"), id="no --"),
        pytest.param(
            ("-n", "shop", "api", "sh", "-c", 'printf %s "$2"', "--", "-n", "x"), id="a -- of the command's own"
        ),
    ],
)
def test_options_of_exec_and_of_its_command(still: Lab, words: tuple[str, ...]) -> None:
    done = still("exec", *words)
    assert (done.returncode, done.stdout) == (0, "x"), done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        pytest.param("exec ap1 -n shop -- true", "no pod shop/ap1\nhint: did you mean shop/api?\n", id="exec"),
        pytest.param("probe node/node7 db", "no node node7\nhint: did you mean node1 or node2?\n", id="probe from"),
        pytest.param("probe db svc/dp", "no service default/dp\n", id="probe to"),
        pytest.param("probe db svc/dbs", "no service default/dbs\nhint: did you mean default/db?\n", id="misspelt"),
        pytest.param(
            "probe db db --protocol TCP", "TCP to db needs a port\nhint: say which with --port\n", id="no port"
        ),
        pytest.param(
            "check --type pod-to-moon", "unknown type of check: pod-to-moon\nhint: the types are ", id="check"
        ),
        pytest.param("delete pod nobody", "no Pod default/nobody", id="delete"),
        pytest.param("scale deploy/nobody --replicas 1", "no Deployment default/nobody", id="scale"),
        pytest.param("set-ready nobody true", "no pod default/nobody\n", id="set-ready"),
    ],
)
def test_a_target_that_is_not_there(still: Lab, command: str, said: str) -> None:
    done = still(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}"), done.stderr


def test_probe(still: Lab) -> None:
    found = still.json("probe", "shop/api", "svc/db", "--count", "2")
    assert list(found) == ["from", "to", "protocol", "port", "results"]
    assert (found["from"], found["to"]) == ("pod/shop/api", "svc/default/db")
    assert (found["protocol"], found["port"]) == ("TCP", 5432)
    assert [list(each) for each in found["results"]] == [["outcome", "rtt_ms", "server", "source", "reason"]] * 2
    answer = found["results"][0]
    assert (answer["outcome"], answer["server"], answer["source"]) == ("ok", "default/db", "10.244.0.2")
    assert 0 < answer["rtt_ms"] < 1000


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        pytest.param(("shop/api", "db"), "ok", id="ping"),
        pytest.param(("shop/api", "db", "--port", "1"), "refused", id="a closed port"),
        pytest.param(("shop/api", "10.244.1.99", "--port", "80", "--timeout", "0.3"), "timeout", id="nobody's address"),
        pytest.param(("external/client", "db", "--port", "5432", "--timeout", "0.3"), "timeout", id="no route"),
        pytest.param(("node/node1", "node/node2", "--port", "30432"), "ok", id="nodePort"),
        pytest.param(("shop/api", "http://10.96.0.50:5432/x"), "ok", id="URL"),
        pytest.param(("shop/api", "no.such.name", "--port", "80", "--timeout", "0.3"), "error", id="name"),
    ],
)
def test_outcomes_of_probe(still: Lab, words: tuple[str, ...], outcome: str) -> None:
    done = still("probe", *words, "-o", "json")
    [result] = json.loads(done.stdout)["results"]
    assert result["outcome"] == outcome, result
    assert done.returncode == (0 if outcome == "ok" else 1)


def test_check(still: Lab) -> None:
    found = still.json("check")
    assert list(found) == ["lab", "passed", "failed", "skipped", "checks"]
    assert (found["lab"], found["passed"], found["failed"], found["skipped"]) == (
        still.name,
        len(found["checks"]),
        0,
        0,
    )
    keys = ["type", "name", "from", "to", "protocol", "port", "expected", "observed", "source", "passed", "reason"]
    assert {tuple(each) for each in found["checks"]} == {tuple(keys)}


def test_check_of_some_types(still: Lab) -> None:
    table = still("check", "--type", "external-to-nodeport", "--type", "container-to-container")
    assert table.returncode == 0
    assert {line.split()[1] for line in table.stdout.splitlines()[1:]} == {
        "external-to-nodeport",
        "container-to-container",
    }
    assert table.stderr == "3 of 3 checks passed\n"
    nothing = still("check", "--type", "pod-to-headless")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (4, "", "nothing to check\n")
    assert still.json("check", "--type", "pod-to-headless", code=4)["checks"] == []


def test_check_list_sends_nothing(still: Lab) -> None:
    found = still.json("check", "--list")
    assert list(found) == ["lab", "checks"]
    assert list(found["checks"][0]) == ["type", "name", "from", "to", "protocol", "port", "expected"]
    assert len(still("check", "--list").stdout.splitlines()) == len(found["checks"]) + 1


def test_a_failed_check_is_1(lab: Lab) -> None:
    lab("exec", "node/node1", "--", "iptables", "-t", "nat", "-F", "KUBE-SERVICES")
    done = lab("check", "--type", "pod-to-clusterip", "--timeout", "0.3")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert re.fullmatch(r"\d of \d checks passed, \d FAILED\n", done.stderr)
    found = lab.json("check", "--type", "pod-to-clusterip", "--timeout", "0.3", code=1)
    wrong = [each for each in found["checks"] if not each["passed"]]
    assert len(wrong) == found["failed"] > 0
    assert all(each["reason"].startswith("expected ok, got ") for each in wrong)


def test_labs_of_the_same_addresses_do_not_meet(lab: Lab, new: Callable[[], Lab]) -> None:
    """Both have 10.244.1.2; what listens there in the one is not reached from the other."""
    other = new()
    other.up(MANIFESTS.replace("name: db", "name: other").replace("app: db", "app: other").replace("5432", "6379"))
    for mine, theirs, port in ((lab, "6379", "5432"), (other, "5432", "6379")):
        assert mine.json("probe", "shop/api", "10.244.1.2", "--port", port)["results"][0]["outcome"] == "ok"
        results = mine.json("probe", "shop/api", "10.244.1.2", "--port", theirs, code=1)["results"]
        assert results[0]["outcome"] == "refused"
    assert lab.json("probe", "shop/api", "10.244.1.2", "--port", "5432")["results"][0]["server"] == "default/db"
    assert other.json("probe", "shop/api", "10.244.1.2", "--port", "6379")["results"][0]["server"] == "default/other"
    assert other("down").returncode == 0
    assert lab("check").returncode == 0


def of_the_lab(name: str) -> list[str]:
    """What of the lab is on the host: published namespaces and processes inside it."""
    directory = Path("/run/netns")
    published = [path.name for path in directory.glob(f"{name}.*")] if directory.is_dir() else []
    return published + [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]


def in_pid_namespace(pid_namespace: str) -> Iterator[int]:
    """The processes there; one that has ended is not one, whenever the host's init gets round to reaping it."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(path / "ns/pid") == pid_namespace and not _is_zombie(path):  # noqa: PTH115
                yield int(path.name)
        except OSError:  # it has just ended
            continue


def _is_zombie(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")


def test_down_leaves_nothing(lab: Lab, tmp_path: Path, run: Any) -> None:
    pid = lab.json("status")["pid"]
    inside = os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115
    assert len(list(in_pid_namespace(inside))) >= 2  # the holder and the pod server
    assert of_the_lab(lab.name)
    down = lab("down")
    assert (down.returncode, down.stdout, down.stderr) == (0, "", f"lab {lab.name} is gone\n")
    assert list(in_pid_namespace(inside)) == []
    assert of_the_lab(lab.name) == []
    assert list((tmp_path / "run").iterdir()) == []
    assert run("list", "-o", "name").stdout == ""


def test_a_killed_holder_takes_everything_with_it(lab: Lab, run: Any, tmp_path: Path) -> None:
    pid = lab.json("status")["pid"]
    inside = os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115
    holder = os.pidfd_open(pid)
    servers = [os.pidfd_open(each) for each in in_pid_namespace(inside) if each != pid]
    try:
        signal.pidfd_send_signal(holder, signal.SIGKILL)
        for each in (holder, *servers):
            assert select.select([each], [], [], 10)[0], "a process of the lab outlives it"
    finally:
        for each in (holder, *servers):
            os.close(each)
    assert list(in_pid_namespace(inside)) == []
    gone = lab("get", "pods")
    assert gone.returncode == 2
    assert f"lab {lab.name} does not run" in gone.stderr
    assert run("list", "-o", "name").stdout == ""
    assert of_the_lab(lab.name) == []
    assert list((tmp_path / "run").iterdir()) == []
    assert lab.up()["changed"]["created"] > 50
    assert lab("check").returncode == 0


def test_down_all(lab: Lab, new: Callable[[], Lab], run: Any) -> None:
    other = new()
    other.up()
    done = run("down", "--all")
    assert sorted(done.stderr.splitlines()) == sorted(f"lab {each.name} is gone" for each in (lab, other))
    assert run("list", "-o", "json").stdout == "[]\n"


def test_an_ordinary_user_is_told_to_be_root(new: Callable[[], Lab], nobody: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    done = new()("up", "-f", "-", stdin=MANIFESTS, prefix=nobody)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.search(r"^error: .*\nhint: run as root", done.stderr), done.stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_doctor_of_an_ordinary_user(run: Any, nobody: tuple[str, ...]) -> None:
    done = run("doctor", "-o", "json", prefix=nobody)
    assert done.returncode == 3
    facts = json.loads(done.stdout)
    assert {tuple(each) for each in facts} == {("feature", "ok", "required", "detail", "fix")}
    [root] = [each for each in facts if each["feature"] == "root"]
    assert (root["ok"], root["required"]) == (False, True)
    assert "sudo" in root["fix"]


def test_doctor_of_root(run: Any) -> None:
    facts = json.loads(run("doctor", "-o", "json").stdout)
    missing = [each["feature"] for each in facts if each["required"] and not each["ok"]]
    assert missing == []
    assert run("doctor").returncode == 0
    assert len(run("doctor").stdout.splitlines()) == len(facts) + 1


def test_changes_are_said_like_those_of_up(lab: Lab) -> None:
    web = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: x}]}}"
    done = lab("apply", "-f", "-", "-o", "json", stdin=web)
    found = json.loads(done.stdout)
    assert list(found) == ["lab", "nodes", "pods", "services", "changed", "seconds"]
    assert (found["pods"], found["changed"]["deleted"]) == (3, 0)
    assert lab("label", "pod", "web", "app=db").returncode == 0
    assert len(lab.json("get", "endpoints", "db")["subsets"][0]["addresses"]) == 2
    assert lab.json("delete", "pod/web")["pods"] == 2
    assert lab("status").returncode == 0


SCENARIO = (
    MANIFESTS
    + """
---
apiVersion: k8snetlab.dev/v1
kind: Check
metadata: {name: api-reaches-db}
spec: {from: pod/shop/api, to: svc/default/db, port: 5432, expect: EXPECTED}
"""
)


def test_scenarios(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "scenarios"
    cases = {
        "a-good": SCENARIO.replace("EXPECTED", "ok"),
        "b-bad": SCENARIO.replace("EXPECTED", "refused"),
        "c-broken": "{",
    }
    for name, text in cases.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "all.yaml").write_text(text)
    report = tmp_path / "report.xml"
    done = run("test", str(folder), "-j", "2", "--junit", str(report))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(" checks, 2 scenarios failed")
    assert "api-reaches-db" in done.stdout
    suite = ET.parse(report).getroot()
    assert suite.attrib | {"time": ""} == {
        "name": "k8snetlab",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "",
    }
    assert [(Path(each.attrib["name"]).name, [child.tag for child in each]) for each in suite] == [
        ("a-good", []),
        ("b-bad", ["failure"]),
        ("c-broken", ["error"]),
    ]
    assert run("test", str(folder / "a-good")).returncode == 0
    assert run("test", str(folder), "--shard", "1/3").returncode == 0
    assert run("test", str(folder / "c-broken")).returncode == 3
    assert run("list", "-o", "name").stdout == ""


def test_nothing_tested_is_4(run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("test", str(tmp_path / "empty"))
    assert (done.returncode, done.stderr) == (4, "0 scenarios, 0 checks, 0 scenarios failed\n")
    (tmp_path / "few.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: x}}")
    assert run("test", str(tmp_path / "few.yaml")).returncode == 4
