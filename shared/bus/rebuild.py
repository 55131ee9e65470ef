"""Filling a service's projections again from the compacted topics.

Each event there replaces the whole state of its subject under a guard on its sequence, so reading
them again does no harm, also while the service's consumers go on.
"""

from __future__ import annotations

import asyncio
import logging
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.bus.gathering import Gathering
from shared.bus.handlers import Handlers
from shared.bus.handling import Handling
from shared.bus.kafka import KafkaAccess, disconnect, group_of, start, stop
from shared.bus.limits import FailureLimit
from shared.db.pool import Pool
from shared.events.registry import TOPICS, topics_read

log = logging.getLogger(__name__)

BATCH_RECORDS = 256
_POLL_MS = 1000
_SILENCE_SECONDS = 120.0

IS_EMPTY = "SELECT NOT EXISTS (SELECT FROM device)"
BEGIN = "INSERT INTO rebuild DEFAULT VALUES ON CONFLICT DO NOTHING"
IS_BEGUN = "SELECT EXISTS (SELECT FROM rebuild)"
END = "DELETE FROM rebuild"


def compacted_topics(handlers: Handlers) -> list[str]:
    """The topics of these handlers that can be read again from the start."""
    return [name for name in topics_read(set(handlers)) if TOPICS[name].compacted]


async def rebuild(service: str, kafka: KafkaAccess, pool: Pool, handlers: Handlers) -> int:
    """Read the compacted topics from the start to where they end now; return the records read.

    What is done for `muster rebuild SERVICE`. It may run beside the service's consumers. Broken off
    it stays `needed` until one has come to its end. Raises TimeoutError when the broker brings
    nothing more before the end.
    """
    topics = compacted_topics(handlers)
    if not topics:
        return 0
    await pool.execute(BEGIN)
    consumer = kafka.consumer(None, topics)
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            await start(consumer)
        ends = await consumer.end_offsets(consumer.assignment())
        gathering = Gathering(service, group_of(service), pool, handlers, parallel=1)
        handling = Handling(service, pool, handlers, FailureLimit(), gathering)
        read = await _read(consumer, ends, handling)
    finally:
        await stop(consumer)
    await pool.execute(END)
    return read


async def needed(service: str, kafka: KafkaAccess, pool: Pool, handlers: Handlers) -> bool:
    """Tell whether a rebuild was broken off, or the projection is empty although its group has read
    the topics already.

    A group that never committed reads them from the start anyway.
    """
    topics = compacted_topics(handlers)
    if topics and await pool.fetchval(IS_BEGUN):
        return True
    if not topics or not await pool.fetchval(IS_EMPTY):
        return False
    admin = kafka.admin()
    try:
        await start(admin)
        offsets = await admin.list_consumer_group_offsets(group_of(service))
    finally:
        await disconnect(admin)
    return any(place.topic in topics and at.offset > 0 for place, at in offsets.items())


async def _read(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int], handling: Handling
) -> int:
    read = 0
    behind = {place for place, end in ends.items() if end > 0}
    while behind:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH_RECORDS)
        for records in batches.values():
            await handling.handle(records, behind=True)
            read += len(records)
        if time.monotonic() - handling.moved_at > _SILENCE_SECONDS:
            raise TimeoutError("the broker brings nothing more")
        # Compaction leaves gaps: what counts is where the reader stands, not what it was given.
        for place in list(behind):
            if await consumer.position(place) >= ends[place]:
                behind.discard(place)
    log.info("Projections were rebuilt", extra={"records": read})
    return read
