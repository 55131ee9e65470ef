"""What several partitions of a topic have in hand at the same time goes into one transaction.

A transaction costs a service about the same for one event as for thirty, and under load every
partition brings a few at a time. Nothing waits for company: the first events after a silence go at
once, and only what follows them closely is held back for a moment, as the relay does (decision 30).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.bus import metrics, tracing
from shared.bus.applying import apply, is_compacted
from shared.bus.context import correlated
from shared.bus.ending import ended
from shared.bus.handlers import Handlers
from shared.bus.pacing import pace
from shared.bus.records import Arrival
from shared.db.pool import Pool, describe
from shared.events import Event

log = logging.getLogger(__name__)

FULL = 256
"""Events that wait no longer."""


@dataclass(eq=False)
class _Waiting:
    """A partition's events, and whether they took effect together with others."""

    arrivals: Sequence[Arrival]
    done: asyncio.Future[bool]


@dataclass
class _Topic:
    """Who waits for the next transaction of a topic, when the last one began and what it took."""

    waiting: list[_Waiting] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = float("-inf")
    took: float = 0.0
    collects: bool = False

    @property
    def events(self) -> int:
        return sum(len(one.arrivals) for one in self.waiting)

    def take(self) -> list[_Waiting]:
        """Whoever fits into one transaction, the first in any case; who gave up is left out."""
        self.waiting = [one for one in self.waiting if not one.done.done()]
        taken: list[_Waiting] = []
        events = 0
        while self.waiting and (not taken or events + len(self.waiting[0].arrivals) <= FULL):
            events += len(self.waiting[0].arrivals)
            taken.append(self.waiting.pop(0))
        return taken


class Gathering:
    """Lets events take effect, those of one partition or of several; one for each runner."""

    def __init__(
        self, service: str, group: str, pool: Pool, handlers: Handlers, parallel: int
    ) -> None:
        self._service, self._group, self._pool = service, group, pool
        self._handlers = handlers
        self._turns = asyncio.Semaphore(parallel)
        self._topics: dict[str, _Topic] = defaultdict(_Topic)
        self._collectors: set[asyncio.Task[None]] = set()

    async def alone(self, arrivals: Sequence[Arrival]) -> None:
        """One transaction for these; raises what went wrong."""
        async with self._turns:
            await self._apply(arrivals)

    async def together(self, arrivals: Sequence[Arrival], *, behind: bool = False) -> bool:
        """Join whoever else has events of this topic; at once, when more of them wait `behind`.

        False: nothing took effect, because nobody else has any or because it failed. The partition
        then goes on `alone`.
        """
        if len(arrivals) >= FULL:
            return False
        topic = self._topics[arrivals[0].record.topic]
        one = _Waiting(arrivals, asyncio.get_running_loop().create_future())
        topic.waiting.append(one)
        if behind or topic.events >= FULL:
            topic.full.set()
        self._collect(topic)
        try:
            return await one.done
        finally:
            if one in topic.waiting:
                topic.waiting.remove(one)

    async def close(self) -> None:
        """End what is on its way for partitions that are gone; it rolls back."""
        await ended(self._collectors)
        self._topics.clear()

    def _collect(self, topic: _Topic) -> None:
        if topic.waiting and not topic.collects:
            topic.collects = True
            task = asyncio.create_task(self._collected(topic))
            self._collectors.add(task)
            task.add_done_callback(self._collectors.discard)

    async def _collected(self, topic: _Topic) -> None:
        await _at_its_time(topic)
        async with self._turns:
            taken = topic.take()
            begun = topic.began = time.monotonic()
            topic.collects = False
            topic.full.clear()
            self._collect(topic)
            took = len(taken) > 1 and await self._took_effect(
                [arrival for one in taken for arrival in one.arrivals]
            )
            topic.took = time.monotonic() - begun
        for one in taken:
            if not one.done.done():
                one.done.set_result(took)

    async def _took_effect(self, arrivals: Sequence[Arrival]) -> bool:
        try:
            await self._apply(arrivals)
        except Exception as error:  # noqa: BLE001 - each partition finds out for itself
            log.info(
                "Events of several partitions failed together: each is tried alone",
                extra={"topic": arrivals[0].record.topic, "error": describe(error)},
            )
            return False
        return True

    async def _apply(self, arrivals: Sequence[Arrival]) -> None:
        events = [arrival.event for arrival in arrivals]
        topic = arrivals[0].record.topic
        partitions = {arrival.record.partition for arrival in arrivals}
        partition = partitions.pop() if len(partitions) == 1 else None
        correlations = {event.meta.correlation_id for event in events}
        only = correlations.pop() if len(correlations) == 1 else None
        begun = time.monotonic()
        with (
            correlated(only),
            tracing.processing(self._service, topic, partition, self._group, events),
        ):
            await apply(self._pool, self._service, self._handlers, events)
        self._measure(topic, events, time.monotonic() - begun)

    def _measure(self, topic: str, events: Sequence[Event], seconds: float) -> None:
        labels = self._service, topic
        metrics.HANDLE_SECONDS.labels(*labels).observe(seconds)
        metrics.BATCH_EVENTS.labels(*labels).observe(len(events))
        if not is_compacted(events[0]):  # a state may be read long after it was told
            age = time.time() - min(event.meta.time for event in events).timestamp()
            metrics.EFFECT_SECONDS.labels(*labels).observe(max(0.0, age))


async def _at_its_time(topic: _Topic) -> None:
    """Wait until the last transaction of the topic began long enough ago, or one would be full."""
    rest = topic.began + pace(topic.took) - time.monotonic()
    if rest > 0:
        try:
            async with asyncio.timeout(rest):
                await topic.full.wait()
        except TimeoutError:
            pass
