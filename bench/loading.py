"""Load the rules of many Services into one node's namespace, by k8snetlab and by the tool that reads finished text.

    loading.py MODE SERVICES [RUNS]     MODE: iptables, nftables, flat, ipvs

Run in a mount namespace with an empty /run/netns (bench.py and `make bench` see to it). Prints one JSON object: medians
of wall seconds, and of CPU seconds of this process and its children, which other work on the machine disturbs less.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from k8snetlab.cluster.resolve import Overrides, resolve
from k8snetlab.kernel.apply import apply
from k8snetlab.kernel.iptables import restore_text
from k8snetlab.manifests.load import load_text
from k8snetlab.plan.build import build
from k8snetlab.plan.proxy.ipvs_script import making_servers
from k8snetlab.plan.proxy.nft_script import making
from k8snetlab.plan.state import (
    IptablesChain,
    KernelObject,
    Netns,
    NftChain,
    NftElement,
    NftSet,
    NftTable,
    RealServer,
    VirtualServer,
)

NODE = "node1"
MODES = {
    "iptables": "kubeProxyMode: iptables",
    "nftables": "kubeProxyMode: nftables",
    "flat": "kubeProxyMode: nftables, nftablesLayout: flat",
    "ipvs": "kubeProxyMode: ipvs",
}
REFERENCE = {
    "iptables": ["iptables-nft-restore"],
    "nftables": ["nft", "-f", "-"],
    "flat": ["nft", "-f", "-"],
    "ipvs": ["ipvsadm", "-R"],
}
LAB = "apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: 1, serviceSubnet: 10.96.0.0/12, {}}}\n"
PODS = """---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: nginx}]}}
"""
SERVICE = """---
apiVersion: v1
kind: Service
metadata: {{name: s{}}}
spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}
"""


def main() -> None:
    mode, services = sys.argv[1], int(sys.argv[2])
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    text = LAB.format(MODES[mode]) + PODS + "".join(SERVICE.format(number) for number in range(services))
    cluster = resolve(load_text(text.encode(), "bench.yaml"), Overrides())
    render = [measured(lambda: build(cluster)) for _ in range(runs)]
    rules = [each for each in build(cluster).objects if is_rule(each, mode)]
    finished = reference_text(rules, mode).encode()
    ours, theirs = [], []
    for number in range(runs):  # in turn, each in a namespace that has nothing yet
        ours.append(measured(lambda: apply([Netns(NODE), *rules])))
        subprocess.run(["ip", "netns", "del", NODE], check=True)
        subprocess.run(["ip", "netns", "add", f"reference{number}"], check=True)
        subprocess.run(["ip", "-n", f"reference{number}", "link", "set", "lo", "up"], check=True)
        argv = ["ip", "netns", "exec", f"reference{number}", *REFERENCE[mode]]
        theirs.append(measured(lambda argv=argv: subprocess.run(argv, input=finished, check=True)))
        subprocess.run(["ip", "netns", "del", f"reference{number}"], check=True)
    print(
        json.dumps(
            {
                "mode": mode,
                "services": services,
                "objects": len(rules),
                "render": median(render),
                "load": median(ours),
                "reference": median(theirs),
            }
        )
    )


def is_rule(item: KernelObject, mode: str) -> bool:
    """What the tool loads, too: for ipvs the servers, without the addresses and sets around them."""
    kinds = (VirtualServer, RealServer) if mode == "ipvs" else (IptablesChain, NftTable, NftSet, NftChain, NftElement)
    return isinstance(item, kinds) and item.netns == NODE


def reference_text(rules: Iterable[KernelObject], mode: str) -> str:
    if mode == "iptables":
        return restore_text([each for each in rules if isinstance(each, IptablesChain)])
    if mode == "ipvs":
        lines = making_servers(each for each in rules if isinstance(each, VirtualServer | RealServer))
    else:
        lines = making(each for each in rules if isinstance(each, NftTable | NftSet | NftChain | NftElement))
    return "\n".join(lines) + "\n"


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    before, began = os.times(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - began, os.times()
    return seconds, sum(after[:4]) - sum(before[:4])


def median(samples: list[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*samples, strict=True)
    return {"wall": round(statistics.median(wall), 4), "cpu": round(statistics.median(cpu), 4)}


if __name__ == "__main__":
    main()
