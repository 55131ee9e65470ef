"""What a stretch of work cost: CPU by process, WAL, and how busy the rest of the machine was.

Processes are either `counted`, they do the work that is measured, or `apart`: they run meanwhile.
A PostgreSQL backend is counted with its client; what no client owns is counted as well, so that
nothing is left out in our favour.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import asyncpg

from tools.bench import connections, cpu, instructions

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BACKENDS = "SELECT pid, client_port FROM pg_stat_activity WHERE client_port > 0"
WAL = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
_BENCH = "bench"
_CALM_CORES, _STEADY_CORES, _STEADY = 0.2, 0.5, 0.8
_CALM_LOOK_SECONDS = 0.4


@dataclass(frozen=True)
class Ledger:
    """Process ids by name. `postgres`: the postmaster; its children are attributed one by one."""

    counted: Mapping[str, int]
    apart: Mapping[str, int]
    postgres: int


@dataclass
class Spent:
    """CPU seconds by process name; `seconds` is wall time."""

    seconds: float = 0.0
    counted: dict[str, float] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    wal_bytes: int = 0
    busy_seconds: float = 0.0
    """CPU of all processes of the machine."""
    stolen_seconds: float = 0.0
    instructions: dict[str, int] | None = None
    """By counted process; None where the machine offers no counters."""

    @property
    def cpu_seconds(self) -> float:
        """Of the processes that did the work, PostgreSQL's part included."""
        return sum(self.counted.values())

    def rest_cores(self, generator: float) -> float:
        """Cores that neither the measured processes nor the load used: noise, when not near 0."""
        known = self.cpu_seconds + sum(self.apart.values()) + generator
        return max(0.0, self.busy_seconds - known) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class _Look:
    at: float
    processes: Mapping[str, float]
    postgres: float
    backends: Mapping[int, float]
    owners: Mapping[int, str]
    wal: int
    busy: float
    stolen: float


class Meter:
    """Looks at the processes of a ledger before and after."""

    def __init__(self, ledger: Ledger, admin: Admin) -> None:
        self._ledger, self._admin = ledger, admin
        self._processes = {**ledger.counted, **ledger.apart}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Spent]:
        """Measure a block; the yielded object is filled when the block ends."""
        spent = Spent()
        counter = instructions.Counter(self._ledger.counted)
        before = await self._look()
        async with counter:
            yield spent
        after = await self._look()
        spent.instructions = counter.counted
        _fill(spent, self._ledger, before, after)

    async def _look(self) -> _Look:
        rows = await self._admin.fetch(BACKENDS)
        wal = int(await self._admin.fetchval(WAL))
        ports = {row["pid"]: row["client_port"] for row in rows}
        known = cpu.children()
        families = {name: cpu.family(pid, known) for name, pid in self._processes.items()}
        owners = connections.owners(ports, families | {_BENCH: [os.getpid()]})
        busy, stolen = cpu.machine_seconds()
        return _Look(
            at=time.perf_counter(),
            processes={
                name: cpu.family_cpu_seconds(pid, known) for name, pid in self._processes.items()
            }
            | {_BENCH: cpu.cpu_seconds(os.getpid())},
            postgres=cpu.family_cpu_seconds(self._ledger.postgres, known),
            backends={backend: cpu.cpu_seconds(backend) for backend in owners},
            owners=owners,
            wal=wal,
            busy=busy,
            stolen=stolen,
        )


def _fill(spent: Spent, ledger: Ledger, before: _Look, after: _Look) -> None:
    spent.seconds = after.at - before.at
    spent.wal_bytes = after.wal - before.wal
    spent.busy_seconds = after.busy - before.busy
    spent.stolen_seconds = after.stolen - before.stolen
    used = {name: after.processes[name] - before.processes[name] for name in after.processes}
    spent.counted = {name: used[name] for name in ledger.counted}
    spent.apart = {name: seconds for name, seconds in used.items() if name not in ledger.counted}
    for_others = sum(
        seconds - before.backends.get(backend, 0.0)
        for backend, seconds in after.backends.items()
        if after.owners[backend] not in ledger.counted
    )
    spent.counted["postgres"] = max(0.0, after.postgres - before.postgres - for_others)
    spent.apart["postgres for these"] = for_others


async def calm(pids: Mapping[str, int], *, patience: float = 30.0) -> bool:
    """Wait until these processes only idle; False when they never did.

    What idling costs depends on how many they are and on how busy the machine is: so it is also
    calm when two looks find the same, and not much.
    """
    deadline = time.perf_counter() + patience
    last = float("inf")
    while time.perf_counter() < deadline:
        before, began = sum(map(cpu.family_cpu_seconds, pids.values())), time.perf_counter()
        await asyncio.sleep(_CALM_LOOK_SECONDS)
        used = sum(map(cpu.family_cpu_seconds, pids.values())) - before
        cores = used / (time.perf_counter() - began)
        if is_calm(last, cores):
            return True
        last = cores
    return False


def is_calm(before: float, now: float) -> bool:
    """Whether cores used in two looks after each other are those of idling processes."""
    return now < _CALM_CORES or (now < _STEADY_CORES and now > _STEADY * before)
