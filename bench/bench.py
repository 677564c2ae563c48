"""`make bench`: how far k8snetlab is from what the machine allows, and from what people use today.

Everything that is compared is run in turn, in one run, on one machine: ratios are what counts. Each contender builds
the same pods: a namespace, a veth pair to its node's bridge, an address, a default route. The others run in mount (and,
for mininet, network and PID) namespaces of their own, so this host sees nothing of them and they vanish with their
process. Needs root, cc and the iproute2 tools; standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builds import NODES, Size, write_batches, write_pods, write_services
from measure import PRIVATE, quiet_kernel, row, run, stopwatch

HERE = Path(__file__).parent
LAB = f"bench-{os.getpid()}"
DEBIAN_PYTHON = "/usr/bin/python3"
PROJECT_GOALS = {"--help": 0.12, "up": 0.5, "second up": 0.3, "check": 3.0, "down": 0.15}

MININET = """
import os, sys
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import Topo

nodes, pods = int(sys.argv[1]), int(sys.argv[2])
topo = Topo()
for node in range(nodes):
    topo.addSwitch(f"s{node}")
    for pod in range(pods):
        topo.addHost(f"n{node}p{pod}", ip=f"10.244.{node}.{pod + 2}/24", defaultRoute=f"via 10.244.{node}.1")
        topo.addLink(f"n{node}p{pod}", f"s{node}")
Mininet(topo=topo, switch=LinuxBridge, controller=None, waitConnected=False).start()
sys.stdout.flush()
os._exit(0)
"""


@dataclass(frozen=True)
class Memory:
    """Of all resident processes of a lab, in MB: what they map, and their fair share of what is shared."""

    processes: int
    rss: float
    pss: float

    def __str__(self) -> str:
        return f"{self.processes} processes, RSS {self.rss:.1f} MB, PSS {self.pss:.1f} MB"


def main() -> int:
    options = read_options()
    if os.geteuid() != 0:
        print("bench: labs need root: use `make bench`, or sudo", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="k8snetlab-bench-") as name:
        directory = Path(name)
        floor = compile_floor(directory)
        print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}; seconds, median (least-most) of the runs\n")
        if not options.only_small:
            compare(options, floor, directory)
            grow(options, directory)
        small_labs(options, directory)
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--k8snetlab", default=".venv/bin/k8snetlab", help="the command to measure")
    parser.add_argument("--pods", type=int, default=1000, help="pods of the comparison, a multiple of 10")
    parser.add_argument("--runs", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--no-mininet", action="store_true", help="leave out the slowest contender")
    parser.add_argument("--only-small", action="store_true", help="only the small lab, a few seconds")
    options = parser.parse_args()
    if options.pods < NODES or options.pods % NODES or 2 * options.pods > 253 * NODES:
        parser.error(f"--pods: a multiple of {NODES}, at most {253 * NODES // 2 // NODES * NODES}")
    options.k8snetlab = str(Path(options.k8snetlab).absolute())
    return options


# --- the comparison --------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace, floor: Path, directory: Path) -> None:
    """The floor and the lab in turn, then the contenders that take much longer."""
    size = Size(options.pods)
    manifest = write_pods(directory, size)
    floors, labs, memories = [], [], []
    for _ in range(options.runs):
        floors.append(time_floor(floor, size))
        seconds, memory = time_lab(options.k8snetlab, manifest, size)
        labs.append(seconds)
        memories.append(memory)
    base, ours = statistics.median(floors), statistics.median(labs)
    print(f"{size.pods} pods on {size.nodes} nodes")
    row("C, raw netlink, nothing else (the floor)", floors)
    row("k8snetlab up, whole command", labs, f"{ours / base:.2f} x the floor (goal: at most 2)")
    batches = [time_batch(directory, size) for _ in range(options.runs)]
    row("ip -batch, one a namespace", batches, f"{statistics.median(batches) / ours:.1f} x k8snetlab")
    if not options.no_mininet:
        measure_mininet(size, ours)
    print(f"\nresident with {size.pods} pods: {max(memories, key=lambda memory: memory.rss)} (goal: under 60 MB)")


def grow(options: argparse.Namespace, directory: Path) -> None:
    """Twice the pods must not take much more than twice the time."""
    small, large = Size(options.pods), Size(2 * options.pods)
    manifests = {size: write_pods(directory, size) for size in (small, large)}
    seconds: dict[Size, list[float]] = {small: [], large: []}
    for _ in range(options.runs):
        for size in (small, large):
            seconds[size].append(time_lab(options.k8snetlab, manifests[size], size)[0])
    ratio = statistics.median(seconds[large]) / statistics.median(seconds[small])
    print("\ngrowth")
    row(f"{small.pods} pods", seconds[small])
    row(f"{large.pods} pods", seconds[large], f"{ratio:.2f} x (goal: at most 2.3)")


def time_floor(floor: Path, size: Size) -> float:
    """Seconds by the program's own clock, without the start of its shell."""
    with quiet_kernel():
        return float(run([*PRIVATE, str(floor), str(size.nodes), str(size.pods_per_node)]))


def time_lab(command: str, manifest: Path, size: Size) -> tuple[float, Memory]:
    """Seconds of the whole `up`, interpreter included, and what stays resident; the lab is gone afterwards."""
    with quiet_kernel():
        try:
            seconds = stopwatch([command, "up", "--lab", LAB, "-f", str(manifest), "--nodes", str(size.nodes)])
            return seconds, resident_memory(command)
        finally:
            run([command, "down", LAB])


def time_batch(directory: Path, size: Size) -> float:
    """One `ip` for all namespaces, then one a node and one a pod, each reading all it has to do from a file."""
    script = write_batches(directory / f"batch-{size.pods}", size)
    with quiet_kernel():
        return stopwatch([*PRIVATE, "sh", "-eu", str(script)])


def measure_mininet(size: Size, ours: float) -> None:
    found = subprocess.run([DEBIAN_PYTHON, "-c", "import mininet.net"], capture_output=True, check=False)
    if found.returncode or not shutil.which("brctl") or not shutil.which("mnexec"):
        print("mininet: not measured, it is not installed (apt-get install mininet bridge-utils)")
        return
    isolated = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    arguments = (DEBIAN_PYTHON, "-c", MININET, str(size.nodes), str(size.pods_per_node))
    with quiet_kernel():
        seconds = [stopwatch([*isolated, *arguments])]
    row("mininet, LinuxBridge, build only", seconds, f"{seconds[0] / ours:.0f} x k8snetlab")


# --- the small lab ---------------------------------------------------------------------------------------------------


def small_labs(options: argparse.Namespace, directory: Path) -> None:
    """What a person waits for: three nodes, ten pods, five Services; `check` with twelve Services."""
    command = options.k8snetlab
    five = write_services(directory / "five.yaml", services=5, pods_each=2)
    twelve = write_services(directory / "twelve.yaml", services=12, pods_each=2)
    up, check = [command, "up", "--lab", LAB, "-f"], [command, "check", "--lab", LAB, "-o", "json"]
    times: dict[str, list[float]] = {name: [] for name in PROJECT_GOALS}
    checks = 0
    stopwatch([command, "--help"])  # the first one reads the interpreter from disk
    for _ in range(max(options.runs, 3)):
        times["--help"].append(stopwatch([command, "--help"]))
        with quiet_kernel(), lab_removed(command):
            times["up"].append(stopwatch([*up, str(five)]))
            times["second up"].append(stopwatch([*up, str(five)]))
            times["down"].append(stopwatch([command, "down", LAB]))
        with quiet_kernel(), lab_removed(command):
            run([*up, str(twelve)])
            started = time.perf_counter()
            report = json.loads(run(check))
            times["check"].append(time.perf_counter() - started)
            checks = len(report["checks"])
    print("\nthree nodes, ten pods, five Services")
    for name, goal in PROJECT_GOALS.items():
        label = f"check, twelve Services, {checks} probes" if name == "check" else name
        row(label, times[name], f"(goal: under {goal})")


# --- measuring -------------------------------------------------------------------------------------------------------


def compile_floor(directory: Path) -> Path:
    program = directory / "floor"
    run(["cc", "-O2", "-Wall", "-o", str(program), str(HERE / "floor.c")])
    return program


@contextmanager
def lab_removed(command: str) -> Iterator[None]:
    try:
        yield
    finally:
        run([command, "down", LAB])


def resident_memory(command: str) -> Memory:
    """Of the lab's first process, all in its PID namespace, and its parent outside (which cleans up after it)."""
    labs = json.loads(run([command, "list", "-o", "json"]))
    holder = next(int(lab["pid"]) for lab in labs if lab["name"] == LAB)
    namespace = pid_namespace(holder)
    members = {pid for pid in processes() if pid_namespace(pid) == namespace} | {parent(holder)}
    sizes = [sizes_of(pid) for pid in members if pid > 1]
    return Memory(len(sizes), sum(rss for rss, _ in sizes) / 1024, sum(pss for _, pss in sizes) / 1024)


def processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def pid_namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # it ended just now
        return ""


def parent(pid: int) -> int:
    return int(field(Path(f"/proc/{pid}/status"), "PPid:"))


def sizes_of(pid: int) -> tuple[int, int]:
    """RSS and PSS in kB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return int(field(rollup, "Rss:")), int(field(rollup, "Pss:"))


def field(path: Path, name: str) -> str:
    return next(line.split()[1] for line in path.read_text().splitlines() if line.startswith(name))


if __name__ == "__main__":
    sys.exit(main())
