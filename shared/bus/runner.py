"""From Kafka to effects: one task a partition, one transaction a batch.

Offsets are committed after the transaction, so a crash repeats events and the inbox absorbs them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from shared.bus import lag, membership, metrics, rebuild
from shared.bus.ending import ended
from shared.bus.gathering import Gathering
from shared.bus.handlers import Handlers
from shared.bus.handling import Abandoned, Handling
from shared.bus.housekeeping import InboxKeeper
from shared.bus.kafka import KafkaAccess, group_of, start, stop
from shared.bus.limits import FailureLimit, TooManyFailuresError
from shared.bus.records import Record
from shared.bus.replaying import replay_due
from shared.db.pool import Pool, describe, is_transient
from shared.events.registry import topics_read

log = logging.getLogger(__name__)

BATCH_RECORDS = 256
PARALLEL = 4
_POLL_MS = 5000
_TICK_SECONDS = 0.5
_SIDE_WORK_SECONDS = 2.0
# Within rebalance_timeout_ms, with room for the rest of the rebalance.
_LET_GO_SECONDS = 20.0
_LONGEST_PAUSE = 10.0


@dataclass
class Partition:
    """One partition while it is ours; `next_offset` is what was handled up to."""

    place: TopicPartition
    handling: Handling
    task: asyncio.Task[None] = field(init=False)
    busy: bool = False
    next_offset: int | None = None
    handled_until: float = field(default_factory=time.time)
    """The time stamp of the last record handled, else when the partition came."""


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Reads what a service's handlers want; run as many as there are processes.

    The database away: it waits and skips nothing. An event that fails: five tries, then a dead
    letter of that event alone. Too many of them: it stops, unready, until a person restarts it.
    """

    def __init__(
        self,
        service: str,
        pool: Pool,
        kafka: KafkaAccess,
        handlers: Handlers,
        *,
        group: str | None = None,
        parallel: int = PARALLEL,
    ) -> None:
        self._service, self._pool, self._kafka, self._handlers = service, pool, kafka, handlers
        self._group = group or group_of(service)
        self._topics = topics_read(set(handlers))
        self._gathering = Gathering(service, self._group, pool, handlers, parallel)
        self._limit = FailureLimit()
        self._partitions: dict[TopicPartition, Partition] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._watch = lag.Watch(service, kafka, self._group)
        self._failure: BaseException | None = None
        self._given_up = False

    def ready(self) -> bool:
        """False once too many events failed."""
        return not self._given_up

    def healthy(self) -> bool:
        """False when nothing moves though the broker answers, for a reason that is not known."""
        return self._given_up or not self._watch.stalled

    async def run(self) -> None:
        """Consume until cancelled; what is in hand is finished, and committed, before it ends."""
        pause = 1.0
        while True:
            begun = time.monotonic()
            try:
                await self._session()
            except TooManyFailuresError as error:
                await self._give_up(error)
            except lag.Stalled:
                metrics.CONSUMER_RENEWED.labels(self._service).inc()
                self._say("The consumer stands still, nobody knows why: it is made anew")
            except Exception as error:
                if not isinstance(error, KafkaError) and not is_transient(error):
                    raise
                self._say("The consumer lost its broker or database; it tries again", error)
            if time.monotonic() - begun > _LONGEST_PAUSE:
                pause = 1.0
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the batches in hand: else the next owner would do their work again."""
        log.debug("Partitions go", extra={"partitions": len(revoked)})
        await self._let_go()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin with the partitions that are ours now."""
        for place in assigned:
            handling = Handling(
                self._service, self._pool, self._handlers, self._limit, self._gathering
            )
            partition = Partition(place, handling)
            partition.task = asyncio.create_task(self._consume(partition))
            self._partitions[place] = partition
        self._committed.clear()

    async def _session(self) -> None:
        """One membership in the group."""
        if await rebuild.needed(self._service, self._kafka, self._pool, self._handlers):
            self._say("The projection is empty: it is rebuilt")
            await rebuild.rebuild(self._service, self._kafka, self._pool, self._handlers)
        self._failure = None
        self._consumer = consumer = self._kafka.consumer(self._group)
        parts = {
            asyncio.create_task(self._take_part(consumer)),
            asyncio.create_task(self._side_work()),
            asyncio.create_task(self._watch.guard(consumer)),
        }
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            raise _why(done.pop())
        finally:
            await ended(parts)
            await self._let_go()
            await stop(consumer)

    async def _take_part(self, consumer: AIOKafkaConsumer) -> None:
        """Be a member until something fails."""
        consumer.subscribe(self._topics, listener=self)
        await start(consumer)
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._look_for_failures()
            if self._failure is not None:
                raise self._failure
            membership.check(consumer)
            await self._commit()
            await self._watch.look(consumer, self._partitions.values())

    async def _consume(self, partition: Partition) -> None:
        """One partition's loop; cancelled while idle, abandoned while it waits."""
        consumer = self._consumer
        if consumer is None:
            raise RuntimeError("partitions are assigned by a running consumer")
        while not partition.handling.abandoned:
            batches = await consumer.getmany(
                partition.place, timeout_ms=_POLL_MS, max_records=BATCH_RECORDS
            )
            if batch := batches.get(partition.place):
                partition.busy = True
                try:
                    await partition.handling.handle(batch, behind=_more(consumer, batch))
                except Abandoned:
                    return
                partition.busy = False
                partition.next_offset = batch[-1].offset + 1
                partition.handled_until = batch[-1].timestamp / 1000

    async def _let_go(self) -> None:
        """End all partitions: the idle at once, the busy when their batch is through."""
        partitions, tasks = list(self._partitions.values()), set()
        for partition in partitions:
            partition.handling.abandon()
            if not partition.busy:
                partition.task.cancel()
            tasks.add(partition.task)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LET_GO_SECONDS)
            await ended(late)  # rolls back; the next owner does it again
            await self._gathering.close()
            await self._commit()
            self._look_for_failures()
        self._partitions.clear()
        self._watch.forget()

    async def _commit(self) -> None:
        """Tell the broker how far the effects have come."""
        offsets = {
            place: partition.next_offset
            for place, partition in self._partitions.items()
            if partition.next_offset is not None
            and partition.next_offset != self._committed.get(place)
        }
        if not offsets or self._consumer is None:
            return
        try:
            async with asyncio.timeout(_LET_GO_SECONDS):
                await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            # The partitions are somebody else's by now, who reads the events again: the inbox
            # knows them.
            log.info("A commit came too late", extra={"service": self._service})
        except (KafkaError, TimeoutError) as error:
            self._say("Offsets are committed later", error)
        else:
            self._committed.update(offsets)

    async def _side_work(self) -> None:
        """Replays that were asked for, and the inbox's partitions."""
        inbox = InboxKeeper(self._pool)
        while True:
            try:
                await inbox.keep()
                await replay_due(self._pool, self._handlers)
            except Exception as error:
                if not is_transient(error):
                    raise
                self._say("The database is away", error)
            await asyncio.sleep(_SIDE_WORK_SECONDS)

    def _look_for_failures(self) -> None:
        """Remember what ended a partition that should have gone on."""
        for task in (p.task for p in self._partitions.values()):
            if task.done() and not task.cancelled():
                self._failure = task.exception() or self._failure

    async def _give_up(self, error: TooManyFailuresError) -> None:
        self._given_up = True
        metrics.CONSUMER_STOPPED.labels(self._service).set(1)
        log.critical(
            "The consumer stopped: fix the cause, replay the dead letters, restart it",
            extra={"service": self._service, "error": str(error)},
        )
        await asyncio.Event().wait()

    def _say(self, message: str, error: BaseException | None = None) -> None:
        about = {} if error is None else {"error": describe(error)}
        log.warning(message, extra={"service": self._service, **about})


def _why(ended_: asyncio.Task[None]) -> BaseException:
    """Why a task that should have gone on has ended."""
    return lag.Stalled() if ended_.cancelled() else ended_.exception() or lag.Stalled()


def _more(consumer: AIOKafkaConsumer, batch: Sequence[Record]) -> bool:
    """Whether the partition was longer than this batch when it was read."""
    place = TopicPartition(batch[-1].topic, batch[-1].partition)
    end = consumer.highwater(place) if place in consumer.assignment() else None
    return end is not None and end > batch[-1].offset + 1
