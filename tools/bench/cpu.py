"""CPU and memory of processes, as the operating system counts them (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 2
_PARENT, _USER, _CHILDREN = 1, 11, 13
# The columns of /proc/stat: user nice system idle iowait irq softirq steal; guests are in user.
_IDLE, _WAITING, _STEAL, _COLUMNS = 3, 4, 7, 8


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + _AFTER_NAME :].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process; 0 when it is gone.

    The scheduler's own account is in nanoseconds, but only of threads that live; the other one, in
    ticks of 10 ms, also has the threads that have ended. The larger is nearer to the truth.
    """
    fields = _fields(pid)
    if not fields:
        return 0.0
    in_ticks = sum(map(int, fields[_USER : _USER + 2])) / _TICK
    return max(in_ticks, sum(_scheduled(pid)) / 1e9)


def _scheduled(pid: int) -> Iterator[int]:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        for thread in threads:
            yield int((thread / "schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return


def ended_children_seconds(pid: int) -> float:
    """What the children of a process used that have ended and been waited for."""
    fields = _fields(pid)
    return sum(map(int, fields[_CHILDREN : _CHILDREN + 2])) / _TICK if fields else 0.0


def children() -> dict[int, list[int]]:
    """The living children of every process."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            found.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    return found


def family(root: int, known: Mapping[int, list[int]] | None = None) -> list[int]:
    """A process and all its living descendants; `known`: what `children` found just now."""
    parents = children() if known is None else known
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def family_cpu_seconds(root: int, known: Mapping[int, list[int]] | None = None) -> float:
    """What a server with a process a connection used, those that have ended included."""
    pids = family(root, known)
    return sum(map(cpu_seconds, pids)) + sum(map(ended_children_seconds, pids))


def memory_megabytes(root: int) -> float:
    """Proportional set size of a process and its descendants: shared pages are counted once."""
    total = 0
    for pid in family(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def machine_seconds() -> tuple[float, float]:
    """What all processes together used, and what the hypervisor took away (steal)."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    return busy_and_stolen(line)


def busy_and_stolen(line: str) -> tuple[float, float]:
    """Read the `cpu` line of /proc/stat."""
    columns = [int(number) / _TICK for number in line.split()[1 : 1 + _COLUMNS]]
    stolen = columns[_STEAL]
    return sum(columns) - columns[_IDLE] - columns[_WAITING] - stolen, stolen
