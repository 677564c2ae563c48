"""`make bench`: how far k8snetlab is from what the machine allows, and from what people use today.

Everything that is compared is run in turn, in one run, on one machine: ratios are what counts. Each contender builds
the same pods: a namespace, a veth pair to its node's bridge, an address, a default route. All of it runs in a mount
namespace with a tmpfs on /run, as systemd's hosts have one (containers often do not: there the namespaces' names on the
host cost up to 0.6 ms each); the others once more in mount (and, for mininet, network and PID) namespaces of their own.
So this host sees nothing of them and they vanish with their process. On a host that does other things too, CPU seconds
are the surer figure. Needs root, cc and the iproute2 tools; standard library only.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from builds import NODES, Size, write_batches, write_pods, write_services
from costs import Cost, Memory, cost_of, cost_row, cpu_seconds, ratios, resident
from matrix import time_curls, write_policies
from measure import PRIVATE, quiet_kernel, row, run, stopwatch

HERE = Path(__file__).parent
LAB = f"bench-{os.getpid()}"
INSIDE = "K8SNETLAB_BENCH_INSIDE"  # set in the environment once /run is ours
DEBIAN_PYTHON = "/usr/bin/python3"
MATRIX_GOALS = {100: 2.0, 200: 6.0}
CURLS = 200  # of that many the time of a curl is known well enough
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


def main() -> int:
    options = read_options()
    if os.geteuid() != 0:
        print("bench: labs need root: use `make bench`, or sudo", file=sys.stderr)
        return 3
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.environ.pop("K8SNETLAB_RUN_DIR", None)
        os.execvp(PRIVATE[0], [*PRIVATE, sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory(prefix="k8snetlab-bench-") as name:
        directory = Path(name)
        floor = compile_floor(directory)
        print(f"{os.cpu_count()} CPUs, Linux {os.uname().release}; seconds, median (least-most) of the runs\n")
        if not options.only_small:
            compare(options, floor, directory)
            grow(options, directory)
        small_labs(options, directory)
        matrices(options, directory)
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
        cost, memory = time_lab(options.k8snetlab, manifest, size)
        labs.append(cost)
        memories.append(memory)
    print(f"{size.pods} pods on {size.nodes} nodes")
    cost_row("C, raw netlink, nothing else (the floor)", floors)
    cost_row("k8snetlab up, whole command", labs, f"{ratios(labs, floors)} the floor (goal: at most 2)")
    batches = [time_batch(directory, size) for _ in range(options.runs)]
    cost_row("ip -batch, one a namespace", batches, f"{ratios(batches, labs)} k8snetlab")
    if not options.no_mininet:
        measure_mininet(size, labs)
    print(f"\nresident with {size.pods} pods: {max(memories, key=lambda memory: memory.rss)} (goal: under 60 MB)")


def grow(options: argparse.Namespace, directory: Path) -> None:
    """Twice the pods must not take much more than twice the time."""
    small, large = Size(options.pods), Size(2 * options.pods)
    manifests = {size: write_pods(directory, size) for size in (small, large)}
    costs: dict[Size, list[Cost]] = {small: [], large: []}
    for _ in range(options.runs):
        for size in (small, large):
            costs[size].append(time_lab(options.k8snetlab, manifests[size], size)[0])
    print("\ngrowth")
    cost_row(f"{small.pods} pods", costs[small])
    cost_row(f"{large.pods} pods", costs[large], f"{ratios(costs[large], costs[small])} (goal: at most 2.3)")


def compile_floor(directory: Path) -> Path:
    program = directory / "floor"
    run(["cc", "-O2", "-Wall", "-o", str(program), str(HERE / "floor.c")])
    return program


def time_floor(floor: Path, size: Size) -> Cost:
    """The clock is the program's own, without the start of its shell."""
    with quiet_kernel(), cpu_seconds() as cpu:
        wall = float(run([*PRIVATE, str(floor), str(size.nodes), str(size.pods_per_node)]))
    return Cost(wall, cpu[0])


def time_lab(command: str, manifest: Path, size: Size) -> tuple[Cost, Memory]:
    """The whole `up`, interpreter and pod server included, and what stays resident; the lab is gone afterwards."""
    with quiet_kernel():
        try:
            cost = cost_of([command, "up", "--lab", LAB, "-f", str(manifest), "--nodes", str(size.nodes)])
            memory, cpu = resident(command, LAB)
            return Cost(cost.wall, cost.cpu + cpu), memory
        finally:
            run([command, "down", LAB])


def time_batch(directory: Path, size: Size) -> Cost:
    """One `ip` for all namespaces, then one a node and one a pod, each reading all it has to do from a file."""
    script = write_batches(directory / f"batch-{size.pods}", size)
    with quiet_kernel():
        return cost_of([*PRIVATE, "sh", "-eu", str(script)])


def measure_mininet(size: Size, labs: Sequence[Cost]) -> None:
    found = subprocess.run([DEBIAN_PYTHON, "-c", "import mininet.net"], capture_output=True, check=False)
    if found.returncode or not shutil.which("brctl") or not shutil.which("mnexec"):
        print(
            "  mininet: not measured, it is not installed"
            " (apt-get install --no-install-recommends mininet bridge-utils)"
        )
        return
    isolated = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    arguments = (DEBIAN_PYTHON, "-c", MININET, str(size.nodes), str(size.pods_per_node))
    with quiet_kernel():
        costs = [cost_of([*isolated, *arguments])]
    cost_row("mininet, LinuxBridge, build only", costs, f"{ratios(costs, labs)} k8snetlab")


@contextmanager
def lab_removed(command: str) -> Iterator[None]:
    try:
        yield
    finally:
        run([command, "down", LAB])


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


# --- all pairs -------------------------------------------------------------------------------------------------------


def matrices(options: argparse.Namespace, directory: Path) -> None:
    """Every pair of 100 and of 200 pods, a third denied and every denial proven, against one curl a pair."""
    command = options.k8snetlab
    for pods, goal in MATRIX_GOALS.items():
        manifest = write_policies(directory / f"policies-{pods}.yaml", pods)
        pairs = pods * (pods - 1)
        with quiet_kernel(), lab_removed(command):
            run([command, "up", "--lab", LAB, "-f", str(manifest)])
            seconds = [stopwatch([command, "matrix", "--lab", LAB]) for _ in range(max(options.runs, 3))]
            report = json.loads(run([command, "get", "pods", "--lab", LAB, "-o", "json"]))
            addresses = [(pod["metadata"]["name"], pod["status"]["podIP"]) for pod in report["items"]]
            curl = time_curls(LAB, addresses, CURLS)
        ours = statistics.median(seconds)
        print(f"\nmatrix of {pods} pods, {pairs} pairs, a third denied")
        row("k8snetlab matrix, whole command", seconds, f"(goal: under {goal})")
        row("one curl a pair, by a sample", [curl * pairs], f"{curl * pairs / ours:.0f} x k8snetlab (goal: over 100)")


if __name__ == "__main__":
    sys.exit(main())
