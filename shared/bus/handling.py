"""What becomes of the records of one partition: an effect, a wait, or a dead letter."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence

from shared.bus import dead_letters, metrics, records
from shared.bus.gathering import Gathering
from shared.bus.handlers import Handlers, Poison, TryLater
from shared.bus.limits import FailureLimit
from shared.bus.records import Arrival, Record
from shared.db.pool import Pool, describe, is_transient, transaction

log = logging.getLogger(__name__)

TRIES = 5
MOST_DEVICES = 1000
"""Whose rows one partition's part of a transaction locks; a single event may name more."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0


class Abandoned(Exception):  # noqa: N818 - nothing went wrong
    """The partition goes to somebody else, who will read these records again."""


class Handling:
    """Handles one partition's records in order; `abandon` ends its waiting, not its working."""

    def __init__(
        self,
        service: str,
        pool: Pool,
        handlers: Handlers,
        limit: FailureLimit,
        gathering: Gathering,
    ) -> None:
        self._service, self._pool, self._handlers = service, pool, handlers
        self._limit, self._gathering = limit, gathering
        self._abandoned = asyncio.Event()
        self.moved_at = time.monotonic()
        """When it last got on, or knew why it could not."""

    @property
    def abandoned(self) -> bool:
        """Whether the partition goes to somebody else."""
        return self._abandoned.is_set()

    def abandon(self) -> None:
        """Stop waiting for better times: the records are somebody else's soon."""
        self._abandoned.set()

    async def handle(self, batch: Sequence[Record], *, behind: bool = False) -> None:
        """Let a batch take effect in one transaction, or each of its records come to an end.

        `behind`: more records wait already, so nothing is held back for company.
        Raises Abandoned when told to let go, TooManyFailuresError when too much was given up.
        """
        arrivals = []
        for record in batch:
            wanted = records.concerns(record, self._handlers)
            if wanted is None:
                metrics.SKIPPED.labels(self._service, record.topic).inc()
            elif wanted:
                try:
                    arrivals.append(Arrival(record, records.read(record)))
                except Poison as error:
                    await self._give_up(record, error)
        for some in _portions(arrivals):
            if await self._gathering.together(some, behind=behind):
                self._limit.passed(len(some))
            else:
                await self._settle(some, TRIES)
        self.moved_at = time.monotonic()

    async def _settle(self, arrivals: Sequence[Arrival], tries: int) -> None:
        """Apply; what fails again and again is split until the one that fails stands alone."""
        try:
            await self._persist(arrivals, tries)
        except Abandoned:
            raise
        except Exception as error:  # noqa: BLE001 - it goes into the dead letter
            if len(arrivals) > 1:
                left = tries if isinstance(error, Poison) else 1
                middle = len(arrivals) // 2
                await self._settle(arrivals[:middle], left)
                await self._settle(arrivals[middle:], left)
                return
            await self._give_up(arrivals[0].record, error)
        else:
            self._limit.passed(len(arrivals))

    async def _persist(self, arrivals: Sequence[Arrival], tries: int) -> None:
        """Try for ever while errors pass by themselves, else `tries` times; poison only once."""
        failures, pause = 0, _FIRST_PAUSE
        while True:
            try:
                await self._gathering.alone(arrivals)
            except Poison:
                raise
            except Exception as error:
                passing = isinstance(error, TryLater) or is_transient(error)
                failures += not passing
                if failures >= tries:
                    raise
                self._note_retry(arrivals[0].record, error, "transient" if passing else "unknown")
            else:
                return
            await self._wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _give_up(self, record: Record, error: BaseException) -> None:
        """Keep a record as a dead letter, however long the database takes to take it."""
        reason = error.reason if isinstance(error, Poison) else "failed"
        new = await self._keep(record, reason, error)
        if new:
            metrics.DEAD_LETTERED.labels(self._service, reason).inc()
            log.error(
                "An event was given up: see `muster dead-letters`",
                extra={**_place(record), "reason": reason, "error": describe(error)},
            )
        self._limit.failed()

    async def _keep(self, record: Record, reason: str, error: BaseException) -> bool:
        pause = _FIRST_PAUSE
        while True:
            try:
                async with transaction(self._pool) as tx:
                    return await dead_letters.record(tx, record, reason, error)
            except Exception as obstacle:
                if not is_transient(obstacle):
                    raise
                self._note_retry(record, obstacle, "transient")
            await self._wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _note_retry(self, record: Record, error: BaseException, kind: str) -> None:
        self.moved_at = time.monotonic()
        metrics.RETRIES.labels(self._service, kind).inc()
        log.warning(
            "Events are tried again",
            extra={**_place(record), "kind": kind, "error": describe(error)},
        )

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._abandoned.wait()
        except TimeoutError:
            return
        raise Abandoned


def _portions(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """What one transaction may take: an event about many devices locks all of them."""
    start = devices = 0
    for place, arrival in enumerate(arrivals):
        more = len(arrival.event.devices)
        if devices and devices + more > MOST_DEVICES:
            yield arrivals[start:place]
            start, devices = place, 0
        devices += more
    if arrivals:
        yield arrivals[start:]


def _place(record: Record) -> dict[str, object]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
