"""How far consumers are behind, and whether they move at all.

aiokafka has stopped silently more than once, its fetcher (#718, #983) and its coordinator: records
wait, nobody is busy, nothing moves. Then the consumer is made anew, and until something moves the
process says that it is not well.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.bus import membership, metrics
from shared.bus.handling import Handling
from shared.bus.kafka import KafkaAccess

STALL_SECONDS = 120.0
"""Longer than a group needs to find that a member is gone and to share its partitions out."""
_DOUBT_SECONDS = 30.0
_EVERY_SECONDS = 5.0
_ASK_SECONDS = 5.0


class Stalled(Exception):  # noqa: N818 - it says what it found
    """The consumer stands still although the broker answers."""


class Followed(Protocol):
    """A partition as the runner keeps it."""

    place: TopicPartition
    handling: Handling
    next_offset: int | None
    handled_until: float


class Watch:
    """Asks the broker where its logs end, now and then, and who is in the group, in doubt.

    `stalled` from when nothing moved for too long until something moves again.
    """

    def __init__(self, service: str, kafka: KafkaAccess, group: str) -> None:
        self._service, self._kafka, self._group = service, kafka, group
        self._looked_at = self._well_at = 0.0
        self._holds = False
        self._stuck = False
        self._topics: set[str] = set()
        self.stalled = False

    async def guard(self, consumer: AIOKafkaConsumer) -> None:
        """Watch over one consumer; raises Stalled when it stands still although the broker answers.

        Who holds partitions is judged by `look`. Who holds none may be the one too many, or wait
        for a rebalance that never ends, or hang before it ever joined: the broker knows.
        """
        self._well_at, self._stuck = time.monotonic(), False
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            if time.monotonic() - self._well_at > _DOUBT_SECONDS:
                await self._ask(consumer)
            if self._stuck or time.monotonic() - self._well_at > STALL_SECONDS:
                self.stalled = True
                raise Stalled

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        standing = await membership.ask(self._kafka, self._group, consumer)
        if standing is None:  # the broker is away: nothing can be known
            self._well_at = time.monotonic()
        elif standing == 0 and not self._holds:
            self._well_at, self.stalled = time.monotonic(), False

    async def look(self, consumer: AIOKafkaConsumer, partitions: Iterable[Followed]) -> None:
        """Set the lag metrics and `stalled`; without an answer of the broker they stay."""
        now, held = time.monotonic(), list(partitions)
        self._holds = bool(held)
        if not held or now - self._looked_at < _EVERY_SECONDS:
            return
        self._looked_at = now
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                ends = await consumer.end_offsets([partition.place for partition in held])
            starts = {p.place: await _start(consumer, p) for p in held}
        except (KafkaError, TimeoutError):
            return
        behind = [(p, max(0, ends[p.place] - starts[p.place])) for p in held]
        self._judge(behind, now)
        self._publish(behind)

    def _judge(self, behind: list[tuple[Followed, int]], now: float) -> None:
        self._well_at = now
        if any(n and now - p.handling.moved_at > STALL_SECONDS for p, n in behind):
            self._stuck = self.stalled = True
        elif all(not n or p.next_offset is not None for p, n in behind):
            self.stalled = False
        for partition, records in behind:
            if not records:
                # Nothing to do is progress: the clock starts when something waits.
                partition.handling.moved_at = now

    def forget(self) -> None:
        """The partitions went: their lag is somebody else's to tell."""
        self._holds = False
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
