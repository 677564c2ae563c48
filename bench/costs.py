"""What a command costs: seconds by the clock and of CPU, and the memory of what it leaves running."""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import row, run


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of CPU by everything that ran, in the kernel too."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Memory:
    """Of all resident processes of a lab, in MB: what they map, and their fair share of what is shared."""

    processes: int
    rss: float
    pss: float

    def __str__(self) -> str:
        return f"{self.processes} processes, RSS {self.rss:.1f} MB, PSS {self.pss:.1f} MB"


def cost_of(command: Sequence[str]) -> Cost:
    with cpu_seconds() as cpu:
        started = time.perf_counter()
        run(command)
        wall = time.perf_counter() - started
    return Cost(wall, cpu[0])


@contextmanager
def cpu_seconds() -> Iterator[list[float]]:
    """What the children that ended meanwhile have used, and theirs that they waited for: there after the body."""
    found: list[float] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield found
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def resident(command: str, lab: str) -> tuple[Memory, float]:
    """Of the lab's first process, all in its PID namespace, and its parent outside: what they hold, and CPU seconds."""
    labs = json.loads(run([command, "list", "-o", "json"]))
    holder = next(int(each["pid"]) for each in labs if each["name"] == lab)
    namespace = pid_namespace(holder)
    members = {pid for pid in processes() if pid_namespace(pid) == namespace} | {parent(holder)}
    sizes = [sizes_of(pid) for pid in members if pid > 1]
    memory = Memory(len(sizes), sum(rss for rss, _ in sizes) / 1024, sum(pss for _, pss in sizes) / 1024)
    return memory, sum(cpu_of(pid) for pid in members if pid > 1)


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


def cpu_of(pid: int) -> float:
    """Seconds in user and kernel mode, proc_pid_stat(5): fields 14 and 15, counted from 1."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def field(path: Path, name: str) -> str:
    return next(line.split()[1] for line in path.read_text().splitlines() if line.startswith(name))


def ratios(costs: Sequence[Cost], others: Sequence[Cost]) -> str:
    """How many times the others' medians: by the clock, then CPU seconds."""
    wall = statistics.median(each.wall for each in costs) / statistics.median(each.wall for each in others)
    cpu = statistics.median(each.cpu for each in costs) / statistics.median(each.cpu for each in others)
    return f"{wall:.2f} x (CPU {cpu:.2f} x)"


def cost_row(name: str, costs: Sequence[Cost], remark: str = "") -> None:
    cpu = statistics.median(cost.cpu for cost in costs)
    row(name, [cost.wall for cost in costs], f"CPU {cpu:6.3f}  {remark}")
