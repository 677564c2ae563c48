"""What the contenders of bench.py build: manifests for k8snetlab, files of `ip` commands for `ip -batch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NODES = 10


@dataclass(frozen=True)
class Size:
    """How many pods on how many nodes."""

    pods: int
    nodes: int = NODES

    @property
    def pods_per_node(self) -> int:
        return self.pods // self.nodes


def write_pods(directory: Path, size: Size) -> Path:
    """One Deployment for each node's worth of pods, and no Service: the same work as the floor's."""
    path = directory / f"pods-{size.pods}.yaml"
    names = [f"web-{number}" for number in range(size.nodes)]
    path.write_text("---\n".join(deployment(name, size.pods_per_node) for name in names))
    return path


def write_services(path: Path, *, services: int, pods_each: int) -> Path:
    names = [f"web-{number}" for number in range(services)]
    path.write_text("---\n".join(deployment(name, pods_each) + "---\n" + service(name) for name in names))
    return path


def deployment(name: str, replicas: int) -> str:
    return f"""\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{containers: [{{name: web, image: "nginx:1.27", ports: [{{containerPort: 80}}]}}]}}
"""


def service(name: str) -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}
"""


def write_batches(directory: Path, size: Size) -> Path:
    """The same end state for `ip -batch`, in the order that is fastest for it: peers created in place, one queue."""
    directory.mkdir(exist_ok=True)
    script = ["ip -batch " + str(directory / "namespaces")]
    namespaces: list[str] = []
    for node in range(size.nodes):
        pods = [f"node{node}-pod{pod}" for pod in range(size.pods_per_node)]
        namespaces += [f"node{node}", *pods]
        lines = list(node_batch(node, pods))
        (directory / f"node{node}").write_text("\n".join(lines) + "\n")
        script.append(f"ip -n node{node} -batch {directory}/node{node}")
        for pod, name in enumerate(pods):
            (directory / name).write_text("\n".join(pod_batch(node, pod)) + "\n")
            script.append(f"ip -n {name} -batch {directory}/{name}")
    (directory / "namespaces").write_text("".join(f"netns add {name}\n" for name in namespaces))
    path = directory / "build.sh"
    path.write_text("\n".join(script) + "\n")
    return path


def node_batch(node: int, pods: Sequence[str]) -> Iterator[str]:
    yield "link set lo up"
    yield "link add cni0 type bridge"
    yield "link set cni0 addrgenmode none"
    yield "link set cni0 up"
    yield f"addr add 10.244.{node}.1/24 dev cni0"
    for number, pod in enumerate(pods):
        queues = "numtxqueues 1 numrxqueues 1"
        yield f"link add veth{number} {queues} type veth peer name eth0 {queues} netns {pod}"
        yield f"link set veth{number} addrgenmode none"
        yield f"link set veth{number} master cni0 up"


def pod_batch(node: int, pod: int) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 addrgenmode none"
    yield "link set eth0 up"
    yield f"addr add 10.244.{node}.{pod + 2}/24 dev eth0"
    yield f"route add default via 10.244.{node}.1"
