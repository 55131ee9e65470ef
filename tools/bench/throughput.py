"""How fast events travel: the relay from an outbox to Kafka, consumers from Kafka to effects."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from shared.bus.shards import Shards
from tools.bench import scenarios
from tools.bench.backlog import Backlog
from tools.bench.bench import Bench, JsonLine
from tools.bench.meter import Ledger, Meter, Spent
from tools.bench.muster import Muster
from tools.bench.results import Line

EVENTS: Final = 20_000
"""Of one measurement, at least: enough for seconds of CPU."""
RELAY: Final = "command_queue-relay"
WAITING = "SELECT count(*) FROM outbox"
WAITS = "SELECT EXISTS (SELECT FROM outbox)"
_PAUSE = 0.1
_PATIENCE = 300.0


async def relay(bench: Bench) -> AsyncIterator[JsonLine]:
    """Real events pile up while somebody else holds the shards; then those are let go."""
    muster = bench.muster
    async with _shards_held(muster):
        await _answered(bench, EVENTS)
        events = int(await muster.queue.fetchval(WAITING))
    async with _metered(muster, RELAY) as spent:
        began = time.perf_counter()
        await _until_sent(muster)
        seconds = time.perf_counter() - began
    yield _line("relay", "events, outbox to Kafka", events, seconds, spent, RELAY)
    await bench.calm()
    await muster.forget()


async def consumers(bench: Bench) -> AsyncIterator[JsonLine]:
    """A consumer that was away finds events in Kafka: commands answered."""
    yield await _caught_up(bench, "push_notifier")
    await bench.muster.forget()
    yield await _caught_up(bench, "inventory")


async def _caught_up(bench: Bench, service: str) -> JsonLine:
    muster, name = bench.muster, f"{service}-consumer-worker"
    cluster = muster.cluster
    await bench.calm()
    async with Backlog(cluster.running.kafka_admin, service) as backlog:
        await backlog.until_empty(_PATIENCE)
        await cluster.kill(name, signal.SIGTERM)
        await _answered(bench, EVENTS // 3)
        await _until_sent(muster)
        await cluster.launch(name)
        await cluster.until_ready(name)
        # It has begun before it was ready: only what is left now is measured.
        async with _metered(muster, name) as spent:
            began, waiting = time.perf_counter(), await backlog.waiting()
            await backlog.until_empty(_PATIENCE)
            seconds = time.perf_counter() - began
    line = _line(f"consumer {service}", "events consumed", waiting, seconds, spent, name)
    await bench.calm()
    return line


async def _answered(bench: Bench, answers: int) -> None:
    """At least so many outcomes, each an event."""
    commands = -(-answers // len(bench.devices))
    _, asked = await scenarios.enqueue(bench.ground, bench.devices, commands=commands)
    await scenarios.drain(bench.ground, asked)


def _line(
    scenario: str, unit: str, units: int, seconds: float, spent: Spent, process: str
) -> dict[str, Any]:
    """`per_core`: a second of CPU of the process itself, as if it had a core for itself."""
    line = Line(scenario, "muster", unit, units, spent, seconds=seconds).json()
    return {**line, "per_core": round(units / spent.counted[process])}


@asynccontextmanager
async def _metered(muster: Muster, process: str) -> AsyncIterator[Spent]:
    pids = muster.everything()
    postgres = pids.pop("postgres")
    ledger = Ledger({process: pids.pop(process)}, pids, postgres)
    async with Meter(ledger, muster.admin).running() as spent:
        yield spent


@asynccontextmanager
async def _shards_held(muster: Muster) -> AsyncIterator[None]:
    """Take all shards of command_queue's outbox, as a relay does that then stands still."""
    await muster.cluster.kill(RELAY, signal.SIGTERM)
    dsn = muster.cluster.running.services["command_queue"].database_url
    connection = await asyncpg.connect(dsn)
    try:
        shards = Shards(connection, "command_queue")
        await shards.enter()
        await shards.balance()
        await muster.cluster.launch(RELAY)
        await muster.cluster.until_ready(RELAY)
        yield
    finally:
        await connection.close()


async def _until_sent(muster: Muster) -> None:
    deadline = time.monotonic() + _PATIENCE
    while await muster.queue.fetchval(WAITS):
        if time.monotonic() > deadline:
            raise TimeoutError("events do not leave the outbox of command_queue")
        await asyncio.sleep(_PAUSE)
