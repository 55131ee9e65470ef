"""How far consumers are behind, and whether they move at all.

aiokafka's fetcher has stopped silently more than once (#718, #983): records wait, nobody is busy,
nothing moves. Then the process says that it is not well and is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.bus import metrics
from shared.bus.handling import Handling

STALL_SECONDS = 120.0
_EVERY_SECONDS = 5.0
_ASK_SECONDS = 5.0


class Followed(Protocol):
    """A partition as the runner keeps it."""

    place: TopicPartition
    handling: Handling
    next_offset: int | None
    handled_until: float


class Watch:
    """Asks the broker where its logs end, now and then."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._looked_at = 0.0
        self._topics: set[str] = set()
        self.stalled = False

    async def look(self, consumer: AIOKafkaConsumer, partitions: Iterable[Followed]) -> None:
        """Set the lag metrics and `stalled`; without an answer of the broker they stay."""
        now = time.monotonic()
        if now - self._looked_at < _EVERY_SECONDS:
            return
        self._looked_at = now
        held = list(partitions)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                ends = await consumer.end_offsets([partition.place for partition in held])
            starts = {p.place: await _start(consumer, p) for p in held}
        except (KafkaError, TimeoutError):
            return
        behind = [(p, max(0, ends[p.place] - starts[p.place])) for p in held]
        self.stalled = any(
            records and now - partition.handling.moved_at > STALL_SECONDS
            for partition, records in behind
        )
        for partition, records in behind:
            if not records:
                # Nothing to do is progress: the clock starts when something waits.
                partition.handling.moved_at = now
        self._publish(behind)

    def forget(self) -> None:
        """The partitions went: their lag is somebody else's to tell."""
        self.stalled = False
        for topic in self._topics:
            metrics.LAG_RECORDS.labels(self._service, topic).set(0)
            metrics.LAG_SECONDS.labels(self._service, topic).set(0)

    def _publish(self, behind: list[tuple[Followed, int]]) -> None:
        records: dict[str, int] = defaultdict(int)
        seconds: dict[str, float] = defaultdict(float)
        for partition, waiting in behind:
            topic = partition.place.topic
            records[topic] += waiting
            age = time.time() - partition.handled_until if waiting else 0.0
            seconds[topic] = max(seconds[topic], age)
        self._topics |= records.keys()
        for topic, waiting in records.items():
            metrics.LAG_RECORDS.labels(self._service, topic).set(waiting)
            metrics.LAG_SECONDS.labels(self._service, topic).set(seconds[topic])


async def _start(consumer: AIOKafkaConsumer, partition: Followed) -> int:
    """Where the work on a partition stands; before the first batch, where its reading begins."""
    if partition.next_offset is not None:
        return partition.next_offset
    try:
        async with asyncio.timeout(1):
            position: int = await consumer.position(partition.place)
    except TimeoutError:
        return 0  # it does not even know where to begin: whatever is there waits
    return position
