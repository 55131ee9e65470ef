"""What the bus tells of itself when things go wrong."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from prometheus_client import REGISTRY

from shared.bus.gathering import Gathering
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import Relay
from shared.db.pool import Pool
from shared.events import Meta, uuid7
from tests.bus.small import SERVICE, running, seen
from tests.bus.test_relay import changed, emit

DEAD = """
INSERT INTO dead_letter
    (id, topic, partition_number, record_offset, headers, reason, error, trace)
VALUES ($1, 'muster.device.v1', 0, 1, '[]', 'failed', 'x', 'x')
"""


def told(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_relay_without_a_broker_says_so_and_counts_dead_letters(
    pool: Pool, dsn: str, kafka: KafkaAccess
) -> None:
    await emit(pool, changed())
    await pool.execute(DEAD, uuid4())
    away = Relay(SERVICE, dsn, KafkaAccess(bootstrap="127.0.0.1:1"), poll_seconds=0.05)
    async with running(away), asyncio.timeout(30):
        while not told("muster_outbox_broker_away", service=SERVICE):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert told("muster_dead_letters_rows", service=SERVICE) == 1
    async with running(Relay(SERVICE, dsn, kafka, poll_seconds=0.05)), asyncio.timeout(30):
        while told("muster_outbox_broker_away", service=SERVICE):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0


async def test_the_age_of_an_effect_is_that_of_the_oldest_event(pool: Pool) -> None:
    gathering = Gathering(SERVICE, "group", pool, {}, parallel=1)
    labels = {"service": SERVICE, "topic": "muster.command.v1"}
    sums = [f"muster_event_{what}_sum" for what in ("effect_seconds", "batch_events")]
    before = [told(name, **labels) for name in sums]
    events = []
    for minutes in (1, 3, 2):
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        meta = Meta(event_id=uuid7(), sequence=1, time=at, source=f"/muster/{SERVICE}")
        events.append(seen().received(meta))
    gathering._measure("muster.command.v1", events, 0.1)
    age, batch = (told(name, **labels) - was for name, was in zip(sums, before, strict=True))
    assert 180 <= age < 240
    assert batch == 3
