"""All pairs of pods: `k8snetlab matrix` against one `curl` a pair, in the same lab. A part of `make bench`."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

NODES = 3
DENIED = 4  # of ten groups of pods, so many let in only two others: a third of the pairs is denied
SEED = 1


def write_policies(path: Path, pods: int) -> Path:
    """`pods` pods in ten groups, and a policy for each of the first ones."""
    documents = [f"apiVersion: k8snetlab.dev/v1\nkind: Lab\nspec: {{nodes: {NODES}}}\n"]
    documents += [pod(number) for number in range(pods)]
    documents += [policy(group) for group in range(DENIED)]
    path.write_text("---\n".join(documents))
    return path


def pod(number: int) -> str:
    return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: p{number:03}, labels: {{group: g{number % 10}}}}}
spec: {{containers: [{{name: c, image: x, ports: [{{containerPort: 80}}]}}]}}
"""


def policy(group: int) -> str:
    return f"""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: g{group}}}
spec:
  podSelector: {{matchLabels: {{group: g{group}}}}}
  ingress: [{{from: [{{podSelector: {{matchExpressions: [{{key: group, operator: In, values: [g8, g9]}}]}}}}]}}]
"""


def time_curls(lab: str, addresses: Sequence[tuple[str, str]], count: int) -> float:
    """Seconds a pair of `ip netns exec POD curl`, one after the other, of `count` pairs chosen at random.

    Pairs that policies deny are not among them: curl would wait for its timeout there.
    """
    allowed = [(one, address) for one, _ in addresses for other, address in addresses if may_talk(one, other)]
    chosen = random.Random(SEED).sample(allowed, count)
    started = time.perf_counter()
    for sender, address in chosen:
        command = ["ip", "netns", "exec", f"{lab}.default_{sender}", "curl", "-sS", "-m", "5", f"http://{address}/"]
        subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - started) / count


def may_talk(sender: str, receiver: str) -> bool:
    """Pod `p012` is in group g2."""
    return sender != receiver and (int(receiver[-1]) >= DENIED or int(sender[-1]) >= 8)
