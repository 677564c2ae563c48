"""`make bench-services`: how fast the rules of thousands of Services are made, changed and met by packets.

Needs root, iptables, nft and the project's virtual environment. IPVS is measured under the test guest's kernel (`make
vm-test` builds it) against `ipvsadm -R`. Ratios are what counts; CPU seconds are disturbed least by other work.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from loading import PODS, SERVICE
from measure import PRIVATE, quiet_kernel, row, run, stopwatch

HERE = Path(__file__).parent
LAB = f"bench-{os.getpid()}"
KERNEL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "k8snetlab" / "uml"
MODES = {
    "iptables": "kubeProxyMode: iptables",
    "nftables": "kubeProxyMode: nftables",
    "nftables, flat": "kubeProxyMode: nftables, nftablesLayout: flat",
}
CHANGE_GOALS = {"iptables": 0.3, "nftables": 0.1, "nftables, flat": 0.1}
# Besides the many one Service of its own endpoint, which is the one that changes.
CHANGING = """---
apiVersion: v1
kind: Pod
metadata: {name: changing, labels: {app: changing}}
spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: changing}
spec: {selector: {app: changing}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: c, image: nginx}]}
"""
# Microseconds of connect(2), the median of many.
CONNECT = """
import socket, statistics, sys, time
times = []
for _ in range(200):
    began = time.perf_counter()
    with socket.create_connection((sys.argv[1], 80)):
        times.append(time.perf_counter() - began)
print(statistics.median(times) * 1e6)
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-services", description=__doc__)
    parser.add_argument("--k8snetlab", default=".venv/bin/k8snetlab", help="the command to measure")
    parser.add_argument("--services", type=int, default=5000, help="how many, with three endpoints each")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured")
    options = parser.parse_args()
    options.k8snetlab = str(Path(options.k8snetlab).absolute())
    if os.geteuid() != 0:
        print("bench: labs need root: use `make bench-services`, or sudo", file=sys.stderr)
        return 3
    print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}; {options.services} Services with 3 endpoints each\n")
    loads(options)
    with tempfile.TemporaryDirectory(prefix="k8snetlab-bench-") as name:
        changes(options, Path(name))
    return 0


def loads(options: argparse.Namespace) -> None:
    """The rules of one node into an empty namespace: by us, and by the tool that is fed the finished text."""
    many = options.services
    print("load the rules of one node (seconds, and CPU seconds), against the tool fed the finished text")
    show(loaded("iptables", many, options.runs), "iptables-nft-restore", goal=1.3)
    show(loaded("nftables", many, options.runs), "nft -f", goal=1.3)
    flat = loaded("flat", 2 * many, options.runs)
    show(flat, "nft -f", goal=1.3)
    laid_out = loaded("nftables", 2 * many, 1)
    ratio = laid_out["load"]["cpu"] / flat["load"]["cpu"]
    print(f"    kube-proxy's layout of as many: {laid_out['load']['cpu']:.1f} s of CPU, {ratio:.0f} x (goal: over 50)")
    if not (KERNEL / "linux.uml").exists() or not shutil.which("ipvsadm"):
        print("  ipvs: not measured; it takes `make vm-test` once, and ipvsadm")
        return
    guest = [str(HERE.parent / "tools/vm/run.py"), "--kernel", str(KERNEL), "--", *PRIVATE]
    show(loaded("ipvs", many, 1, guest), "ipvsadm -R, in the guest", goal=2.0)


def loaded(mode: str, services: int, runs: int, within: list[str] | None = None) -> Any:
    with quiet_kernel():
        argv = [sys.executable, str(HERE / "loading.py"), mode, str(services), str(runs)]
        return json.loads(run([*(within or PRIVATE), *argv]).splitlines()[-1])


def show(found: Any, tool: str, goal: float) -> None:
    def both(name: str) -> str:
        return f"{found[name]['wall']:.2f} ({found[name]['cpu']:.2f} CPU)"

    ratio = found["load"]["cpu"] / max(found["reference"]["cpu"], 0.01)
    print(f"  {found['mode']}, {found['services']} Services: rendered in {both('render')}, loaded in {both('load')}")
    print(f"    {tool}: {both('reference')}; ratio {ratio:.2f} (goal: at most {goal})", flush=True)


def changes(options: argparse.Namespace, directory: Path) -> None:
    """Whole commands on a lab of that many Services, and what a packet to the last of them costs."""
    command = options.k8snetlab
    services = "".join(SERVICE.format(f"{number:05}") for number in range(options.services))
    print("\nwhole commands on a lab of three nodes (seconds); connect(2) to a pod and by Services (microseconds)")
    for mode, spec in MODES.items():
        manifest = directory / "services.yaml"
        lab = f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{{spec}}}\n"
        manifest.write_text(lab + PODS + CHANGING + services)
        with quiet_kernel():
            try:
                row(f"{mode}: up", [stopwatch([command, "up", "--lab", LAB, "-f", str(manifest)])])
                change = [command, "set-ready", "--lab", LAB, "changing"]
                times = [stopwatch([*change, ready]) for _ in range(options.runs) for ready in ("false", "true")]
                row(f"{mode}: one Service changed", times, f"(goal: under {CHANGE_GOALS[mode]})")
                latencies(command, mode, f"s{options.services - 1:05}")
            finally:
                run([command, "down", LAB])


def latencies(command: str, mode: str, last: str) -> None:
    def address(kind: str, name: str, *path: str) -> str:
        found = json.loads(run([command, "get", "--lab", LAB, kind, name, "-o", "json"]))
        for key in path:
            found = found[key]
        return str(found)

    targets = {
        "a pod": address("pod", "changing", "status", "podIP"),
        "the first Service": address("service", "s00000", "spec", "clusterIP"),
        "the last": address("service", last, "spec", "clusterIP"),
    }
    asking = [command, "exec", "--lab", LAB, "client", "--", sys.executable, "-I", "-S", "-c", CONNECT]
    found = {
        name: statistics.median(float(run([*asking, target])) for _ in range(3)) for name, target in targets.items()
    }
    print(f"  {mode}: connect to " + ", ".join(f"{name} {value:.0f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
