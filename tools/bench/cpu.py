"""CPU and memory of processes, as the operating system counts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 2
_PARENT, _USER, _CHILDREN = 1, 11, 4


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text[text.rindex(")") + _AFTER_NAME :].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that have ended (proc(5))."""
    fields = _fields(pid)
    return sum(map(int, fields[_USER : _USER + _CHILDREN])) / _TICK if fields else 0.0


def family(root: int) -> list[int]:
    """A process and all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))):
            parents.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def family_cpu_seconds(root: int) -> float:
    """What a server with a process a connection used; who ended is in its parent's count."""
    return sum(cpu_seconds(pid) for pid in family(root))


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


@dataclass(frozen=True)
class Usage:
    """CPU seconds by name, between two looks."""

    seconds: Mapping[str, float]

    @classmethod
    def now(cls, roots: Mapping[str, int]) -> Usage:
        return cls({name: family_cpu_seconds(pid) for name, pid in roots.items()})

    def since(self, before: Usage) -> dict[str, float]:
        return {name: self.seconds[name] - before.seconds[name] for name in self.seconds}
