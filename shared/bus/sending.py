"""Bringing outbox rows to the broker so that a key's events can never overtake each other.

One task sends. Each partition has at most one batch on its way, filled in id order; what follows a
batch that failed stays in the outbox with it. So even a broker that loses a batch and takes the
next cannot turn the order round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner

from shared.bus import envelope, metrics
from shared.bus.kafka import KafkaAccess, discard, start, stop
from shared.db.pool import Record
from shared.events import Meta

log = logging.getLogger(__name__)

ACK_SECONDS = 120.0
"""A producer whose batch is out for so long is stuck (aiokafka #1017), or the broker is away."""
_METADATA_SECONDS = 5.0
_REFUSED_SECONDS = 10.0
_TOPIC_ERRORS = (
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
_partition_of = DefaultPartitioner()

Lane = tuple[str, int]
"""Topic and partition."""


class BrokerUnavailableError(Exception):
    """The broker cannot be reached, or did not take everything."""


class Sending:
    """Sends rows; its producer is made when first needed and replaced when it failed."""

    def __init__(self, service: str, kafka: KafkaAccess) -> None:
        self._service, self._kafka = service, kafka
        self._producer: AIOKafkaProducer | None = None
        self._refused: dict[str, float] = {}

    def refused(self) -> list[str]:
        """The topics that the broker does not take just now: the others go on without them."""
        now = time.monotonic()
        self._refused = {topic: until for topic, until in self._refused.items() if until > now}
        return list(self._refused)

    async def lanes(self, rows: Iterable[Record]) -> dict[Lane, deque[Record]]:
        """Sort events by partition, in the order given; those of refused topics stay behind."""
        producer = await self._started()
        partitions: dict[str, list[int]] = {}
        lanes: dict[Lane, deque[Record]] = {}
        for row in rows:
            topic = row["aggregatetype"]
            if topic not in partitions:
                partitions[topic] = await self._partitions(producer, topic)
            if known := partitions[topic]:
                lane = topic, _partition_of(row["aggregateid"].encode(), known, known)
                lanes.setdefault(lane, deque()).append(row)
        return lanes

    async def step(self, lanes: dict[Lane, deque[Record]]) -> list[int]:
        """Send the next batch of every partition; return the ids of rows that the broker has whole.

        Sent rows leave their lanes, a lane leaves when it is empty or its batch failed. After a
        failure the producer is replaced: whether it can still be trusted is not knowable.
        """
        producer = await self._started()
        sent: dict[asyncio.Future[Any], tuple[Lane, list[int]]] = {}
        for (topic, partition), rows in lanes.items():
            batch, ids = producer.create_batch(), []
            while rows and _append(batch, rows[0], self._service):
                ids.append(rows.popleft()["id"])
            batch.close()
            future = await producer.send_batch(batch, topic, partition=partition)
            future.add_done_callback(_look_at)
            sent[future] = ((topic, partition), ids)
        await asyncio.wait(sent, timeout=ACK_SECONDS)
        acked: list[int] = []
        failed: list[BaseException] = []
        for future, (lane, ids) in sent.items():
            error = future.exception() if future.done() else TimeoutError("no acknowledgement")
            if error is None:
                acked.extend(ids)
            else:
                failed.append(error)
                self._note(lane, error)
            if error is not None or not lanes[lane]:
                del lanes[lane]
        if failed:
            await self.discard()
        metrics.SENT.labels(self._service).inc(len(acked))
        return acked

    async def discard(self) -> None:
        """Throw the producer away with all it holds; the outbox still has it."""
        producer, self._producer = self._producer, None
        if producer is not None:
            metrics.PRODUCER_REBUILT.labels(self._service).inc()
            await discard(producer)

    async def close(self) -> None:
        """End the producer; call it when nothing is on its way."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = self._kafka.producer()
            try:
                await start(producer)
            except BaseException as error:
                await stop(producer)
                if isinstance(error, (KafkaError, OSError)):
                    raise BrokerUnavailableError(str(error)) from error
                raise
            self._producer = producer
        return self._producer

    async def _partitions(self, producer: AIOKafkaProducer, topic: str) -> list[int]:
        try:
            async with asyncio.timeout(_METADATA_SECONDS):
                return sorted(await producer.partitions_for(topic))
        except (KafkaError, TimeoutError) as error:
            self._note((topic, -1), UnknownTopicOrPartitionError(str(error)))
            return []

    def _note(self, lane: Lane, error: BaseException) -> None:
        topic, partition = lane
        metrics.SEND_FAILURES.labels(self._service, type(error).__name__).inc()
        if isinstance(error, _TOPIC_ERRORS):
            self._refused[topic] = time.monotonic() + _REFUSED_SECONDS
        log.warning(
            "The broker did not take events: they wait in the outbox",
            extra={"topic": topic, "partition": partition, "error": repr(error)},
        )


def _append(batch: Any, row: Record, service: str) -> bool:
    meta = Meta(
        event_id=row["event_id"],
        sequence=row["sequence"],
        time=row["occurred_at"],
        source=envelope.source_of(service),
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        traceparent=row["traceparent"],
    )
    placed = batch.append(
        timestamp=int(row["occurred_at"].timestamp() * 1000),
        key=row["aggregateid"].encode(),
        value=row["payload"].encode(),
        headers=envelope.encode(row["type"], row["aggregateid"], meta),
    )
    return placed is not None


def _look_at(future: asyncio.Future[Any]) -> None:
    """A future that nobody waits for any more must not complain about its exception."""
    if not future.cancelled():
        future.exception()
