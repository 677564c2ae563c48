"""`make bench-dns`: how many answers a second the lab's DNS server gives over its ClusterIP, and Knot in its place.

Both run in labs of the same manifests, one after the other, asked by dnsperf from a pod. Needs root and dnsperf; Knot
is left out where it is not installed. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GOAL = 15_000
MANIFESTS = """
apiVersion: k8snetlab.dev/v1
kind: Lab
spec: {{nodes: 2, dns: {dns}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, labels: {{app: web}}}}
spec: {{containers: [{{name: c, ports: [{{containerPort: 80, name: http}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: pods}}
spec: {{clusterIP: None, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
"""
QUERIES = """\
web.default.svc.cluster.local A
web.default.svc.cluster.local AAAA
pods.default.svc.cluster.local A
_http._tcp.web.default.svc.cluster.local SRV
_http._tcp.pods.default.svc.cluster.local SRV
10.0.96.10.in-addr.arpa PTR
web.default.svc.cluster.local.default.svc.cluster.local A
kubernetes.default.svc.cluster.local A
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--k8snetlab", default="k8snetlab")
    parser.add_argument("--seconds", type=int, default=3, help="of each run")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    if shutil.which("dnsperf") is None:
        sys.exit("dnsperf is missing: sudo apt install dnsperf")
    rates = {"embedded": measure(options, "{}")}
    if shutil.which("knotd"):
        rates["knot"] = measure(options, "knot")
    for name, found in rates.items():
        low, high = min(found), max(found)
        print(f"{name:<9} {statistics.median(found):>8.0f} answers/s  (of {len(found)} runs: {low:.0f}-{high:.0f})")
    if "knot" in rates:
        ratio = statistics.median(rates["embedded"]) / statistics.median(rates["knot"])
        print(f"embedded / knot: {ratio:.2f}")
    reached = statistics.median(rates["embedded"]) >= GOAL
    print(f"goal of {GOAL} answers/s: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


def measure(options: argparse.Namespace, dns: str) -> list[float]:
    """Answers a second, each run's."""
    lab = f"bench-dns-{os.getpid()}"
    command = [options.k8snetlab]
    with tempfile.TemporaryDirectory() as folder:
        queries = Path(folder, "queries")
        queries.write_text(QUERIES)
        text = MANIFESTS.format(dns=dns)
        subprocess.run([*command, "up", "--lab", lab, "-f", "-"], input=text, text=True, check=True)
        try:
            ask = [
                "dnsperf",
                "-s",
                "10.96.0.10",
                "-d",
                str(queries),
                "-l",
                str(options.seconds),
                "-c",
                "20",
                "-q",
                "80",
            ]
            runs = [
                subprocess.run(
                    [*command, "exec", "--lab", lab, "client", "--", *ask], capture_output=True, text=True, check=True
                )
                for _ in range(options.runs)
            ]
        finally:
            subprocess.run([*command, "down", lab], check=True)
    return [rate(run.stdout) for run in runs]


def rate(text: str) -> float:
    """dnsperf's own figure; a run that lost questions does not count as quick."""
    found = re.search(r"Queries per second:\s+([\d.]+)", text)
    lost = re.search(r"Queries lost:\s+(\d+)", text)
    if found is None or lost is None or int(lost[1]):
        raise SystemExit(f"dnsperf lost questions or said nothing:\n{text}")
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main())
