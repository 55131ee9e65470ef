"""A command to 100,000 devices while others poll at a constant rate: do the polls feel it?

The targets are devices that never speak. Polls run at planned times, alone first, then while the
command is taken in, expanded and told to Kafka. In the middle a command for one device is asked
for: it must not wait for the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from tools.bench import silent
from tools.bench.bench import Bench, JsonLine
from tools.bench.driver import Manner, Measured, together
from tools.bench.meter import Meter
from tools.bench.muster import COMMANDS, Muster
from tools.bench.results import MICRO
from tools.bench.scenarios import idles
from tools.bench.scripts import Round

RATE: Final = 500
_CONNECTIONS: Final = 64
_WINDOW_SECONDS: Final = 2.0
_WARM_WINDOWS: Final = 6
"""Connections plan anew when statistics have changed, which is after some seconds."""
_PAUSE: Final = 0.1
"""Between two looks: whoever looks is on the same machine, and must not be what polls wait for."""
_SHORT_PAUSE: Final = 0.01
_PATIENCE: Final = 300.0

SETTLE = "VACUUM (ANALYZE) device, enrollment, channel"
LEFT = "SELECT coalesce(sum(size), 0) FROM target"
HALF_EXPANDED = "SELECT coalesce(sum(size), 0) <= $1 FROM target"
IS_QUEUED = "SELECT EXISTS (SELECT FROM pending WHERE command_id = $1)"
ALL_EXPANDED = "SELECT NOT EXISTS (SELECT FROM target)"
ALL_TOLD = "SELECT NOT EXISTS (SELECT FROM outbox)"


async def fanout(bench: Bench) -> AsyncIterator[JsonLine]:
    """Polls alone, then polls beside the fan-out."""
    muster, generator = bench.muster, bench.ground.generator
    channels = await silent.add(muster.queue, bench.options.targets)
    await _settle(muster)
    await bench.calm()
    await generator.load(Round(await idles(bench.ground, bench.devices), seconds=_WINDOW_SECONDS))
    for _ in range(_WARM_WINDOWS):
        await _window(bench)
    alone = together([await _window(bench) for _ in range(3)])
    meter = Meter(muster.ledger("enqueue"), muster.admin)
    async with meter.running() as spent:
        work = asyncio.create_task(_fan_out(muster, list(channels)))
        windows = [await _window(bench)]
        while not work.done():
            windows.append(await _window(bench))
        times = await work
    beside = together(windows)
    before, during = alone.quantile(0.99), beside.quantile(0.99)
    yield {
        "scenario": "fanout",
        "system": muster.name,
        "targets": len(channels),
        **times,
        "polls": beside.requests,
        "polls_refused": beside.wrong,
        "poll_p50_ms": [round(alone.quantile(0.5), 2), round(beside.quantile(0.5), 2)],
        "poll_p99_ms": [round(before, 2), round(during, 2)],
        "value": round(during / before, 2) if before else None,
        "unit": "p99 of polls beside the fan-out, to p99 before",
        "apart_us_by": {
            name: round(MICRO * used / len(channels), 1) for name, used in spent.apart.items()
        },
        "counted_us_by": {
            name: round(MICRO * used / len(channels), 1) for name, used in spent.counted.items()
        },
    }


async def _settle(muster: Muster) -> None:
    """Do now what follows from so many new rows: polls before the fan-out must not feel it either,
    or the comparison would flatter us.
    """
    await muster.queue.execute(SETTLE)
    await muster.admin.execute("CHECKPOINT")


async def _window(bench: Bench) -> Measured:
    manner = Manner(_CONNECTIONS, rate=RATE)
    return await bench.ground.generator.run(bench.muster.connect.target, manner)


async def _fan_out(muster: Muster, devices: Sequence[UUID]) -> dict[str, float]:
    """Ask for the command and follow it; how many seconds each stage took."""
    began = time.perf_counter()
    async with muster.cluster.session() as session:
        await _ask(muster, session, devices)
        taken = time.perf_counter()
        await _until(muster, HALF_EXPANDED, len(devices) // 2)
        urgent = time.perf_counter()
        command_id = await _ask(muster, session, devices[:1])
        await _until(muster, IS_QUEUED, UUID(command_id), pause=_SHORT_PAUSE)
        queued = time.perf_counter()
        rest = await muster.queue.fetchval(LEFT)
    await _until(muster, ALL_EXPANDED)
    expanded = time.perf_counter()
    await _until(muster, ALL_TOLD)
    return {
        "taken_in_seconds": round(taken - began, 2),
        "expanded_seconds": round(expanded - began, 2),
        "told_seconds": round(time.perf_counter() - began, 2),
        "urgent_queued_seconds": round(queued - urgent, 3),
        "unexpanded_then": int(rest),
    }


async def _until(muster: Muster, statement: str, *values: Any, pause: float = _PAUSE) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not await muster.queue.fetchval(statement, *values):
        if time.monotonic() > deadline:
            raise TimeoutError(statement)
        await asyncio.sleep(pause)


async def _ask(muster: Muster, session: Any, devices: Sequence[UUID]) -> str:
    body = {
        "kind": "inventory.refresh",
        "params": {"section": "security"},
        "device_ids": [str(device) for device in devices],
        "idempotency_key": str(uuid4()),
        "reason": "bench",
    }
    made = await muster.cluster.call(session, "command_queue", "POST", COMMANDS, json=body)
    return str(made["command_id"])
