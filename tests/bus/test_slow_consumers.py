"""A database slower than the broker: consumers pause, keep their place and their size."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Collection, Sequence
from random import Random

from aiokafka import TopicPartition

from shared.bus import envelope
from shared.bus.kafka import KafkaAccess
from shared.bus.runner import Runner
from shared.db.pool import Connection, Pool
from shared.events.commands import DeviceSeen
from tests.bus.small import SERVICE, Publisher, effects, ids, note, running, seen, until

MEGABYTE = 1024 * 1024
BALLAST = 12 * MEGABYTE


class Counting(Runner):
    """Counts how often the group was put together anew."""

    assignments = 0

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.assignments += 1
        await super().on_partitions_assigned(assigned)


async def test_a_consumer_that_waits_neither_leaves_its_group_nor_hoards(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    open_ = asyncio.Event()
    stuck = 0

    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        nonlocal stuck
        stuck += 1
        await open_.wait()
        await note(tx, batch)

    events = [seen() for _ in range(30)]
    await publisher.send(*events)
    await _send_ballast(publisher)
    tracemalloc.start()
    try:
        runner = Counting(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)
        async with running(runner):
            await until(lambda: _is(stuck > 0 and _all_busy(runner)))
            await asyncio.sleep(3)  # six heartbeats
            held, _ = tracemalloc.get_traced_memory()
            assert runner.assignments == 1
            assert runner.healthy()
            open_.set()
            await until(lambda: _done(pool, len(events)))
            assert runner.assignments == 1
    finally:
        tracemalloc.stop()
    assert held < 4 * MEGABYTE, f"{held} bytes for {BALLAST} that wait"
    assert sorted(await effects(pool)) == sorted(ids(events))


async def _send_ballast(publisher: Publisher) -> None:
    """Records of a type that this release does not know, and that compress badly."""
    chance = Random(1)
    event = seen()
    headers = envelope.encode("muster.unknown.v1", event.subject, event.meta)
    for number in range(BALLAST // 50_000):
        await publisher.raw(f"key-{number}", chance.randbytes(50_000), headers)


def _all_busy(runner: Runner) -> bool:
    partitions = runner._partitions.values()
    return len(partitions) == 3 and all(partition.busy for partition in partitions)


async def _is(value: bool) -> bool:
    return value


async def _done(pool: Pool, count: int) -> bool:
    return len(await effects(pool)) >= count
