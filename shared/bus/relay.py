"""From the outbox to Kafka: in id order, at least once, for the shards this process holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError

from shared.bus import metrics, waking
from shared.bus.ending import ended
from shared.bus.kafka import KafkaAccess
from shared.bus.pacing import pace
from shared.bus.sending import BrokerUnavailableError, Sending
from shared.bus.shards import Shards
from shared.db.pool import Connection, Record, describe, is_transient

log = logging.getLogger(__name__)

BATCH_ROWS = 500
BATCH_BYTES = 8 * 1024 * 1024
_BALANCE_SECONDS = 1.0
_OBSERVE_SECONDS = 5.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_GRACE_SECONDS = 5.0
_HUNG_SECONDS = 300.0

# Bytes as they will lie in memory: of text PostgreSQL knows its length without unpacking it.
READ = """
WITH head AS (
    SELECT *, sum(size) OVER (ORDER BY id) AS bytes
    FROM (
        SELECT *, octet_length(payload) AS size FROM outbox
        WHERE shard = ANY($1::smallint[]) AND aggregatetype <> ALL($2::text[])
        ORDER BY id LIMIT $3
    ) AS waiting
)
SELECT id, id + ((SELECT number FROM epoch)::bigint << 40) AS sequence, aggregatetype, aggregateid,
       type, payload, event_id, occurred_at, correlation_id, causation_id,
       traceparent
FROM head WHERE bytes - size < $4 ORDER BY id
"""
DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
OBSERVE = """
SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT 10000) AS head) AS rows,
       (SELECT occurred_at FROM outbox ORDER BY id LIMIT 1) AS oldest,
       (SELECT count(*) FROM (SELECT FROM dead_letter LIMIT 1000) AS head) AS dead_letters
"""


class Relay:
    """Sends a service's events; run as many as there are processes.

    One connection holds the locks of its shards, reads them all in one query, and hears NOTIFY. A
    row is deleted after the broker has it: a crash repeats events and never loses one.
    """

    def __init__(
        self, service: str, dsn: str, kafka: KafkaAccess, *, poll_seconds: float = 1.0
    ) -> None:
        self._service, self._dsn = service, dsn
        self._poll_seconds = poll_seconds
        self._sending = Sending(service, kafka)
        self._wanted = asyncio.Event()
        self._pass_on = False
        self._turned = time.monotonic()
        self._balance_at = self._observe_at = 0.0
        self._stopping = False
        self._shards: Shards | None = None

    @property
    def shards(self) -> Sequence[int]:
        """The shards held now."""
        return tuple(self._shards.held) if self._shards else ()

    def wake(self) -> None:
        """Say that rows wait, committed in this process."""
        self._pass_on = True
        self._wanted.set()

    def healthy(self) -> bool:
        """False when the loop does not turn any more: a broker that is away does not stop it."""
        return time.monotonic() - self._turned < _HUNG_SECONDS

    async def run(self) -> None:
        """Relay until cancelled; outages of the database and the broker are waited out."""
        pause = _FIRST_PAUSE
        self._stopping = False
        try:
            with waking.listening(self._service, self):
                while True:
                    begun = time.monotonic()
                    lost = await self._try_session()
                    if time.monotonic() - begun > _LONGEST_PAUSE:
                        pause = _FIRST_PAUSE
                    if pause in {_FIRST_PAUSE, _LONGEST_PAUSE}:  # not each of the quick tries
                        self._tell(lost)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            await self._sending.close()

    async def _try_session(self) -> Exception | None:
        """What it was lost by; raises what does not pass by itself."""
        self._turned = time.monotonic()
        self._balance_at = 0.0
        try:
            await self._session()
        except Exception as error:
            if not is_transient(error):
                raise
            return error
        return None

    def _tell(self, lost: Exception | None) -> None:
        if lost is not None:
            log.warning(
                "The relay lost the database; it tries again",
                extra={"service": self._service, "error": describe(lost)},
            )

    async def _session(self) -> None:
        """One connection's life. Its end gives the shards to others: then nothing of ours may still
        be on its way.
        """
        connection = await self._connect()
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        work = asyncio.create_task(self._work(connection))
        loss = asyncio.create_task(closed.wait())
        try:
            await asyncio.wait({work, loss}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ConnectionError("the relay's connection was closed")
            await work
        except asyncio.CancelledError:
            # What is on its way may arrive and be deleted: that spares everybody the repeats.
            self._stopping = True
            self._wanted.set()
            await asyncio.wait({work}, timeout=_GRACE_SECONDS)
            raise
        finally:
            loss.cancel()
            await self._leave(connection, work)

    async def _connect(self) -> asyncpg.Connection[Record]:
        return await asyncpg.connect(
            self._dsn,
            timeout=5,
            command_timeout=30,
            server_settings={
                "application_name": f"muster:{self._service}:relay",
                # The locks of a machine that is gone are given free within half a minute.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        )

    async def _leave(
        self, connection: asyncpg.Connection[Record], work: asyncio.Task[None]
    ) -> None:
        await ended({work})
        self._shards = None
        metrics.RELAY_SHARDS.labels(self._service).set(0)
        try:
            await connection.close(timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()

    async def _work(self, connection: asyncpg.Connection[Record]) -> None:
        """Look, send, delete, sleep."""
        self._shards = shards = Shards(connection, self._service)
        await shards.enter()
        await connection.add_listener(waking.channel_of(self._service), self._notified)
        pause, away = _FIRST_PAUSE, metrics.BROKER_AWAY.labels(self._service)
        while not self._stopping:
            self._turned = time.monotonic()
            await self._look_around(connection, shards)
            self._wanted.clear()
            begun = time.monotonic()
            rows = await connection.fetch(
                READ, shards.held, self._sending.refused(), BATCH_ROWS, BATCH_BYTES
            )
            sent = not rows or await self._send(connection, rows)
            away.set(not sent)
            if not rows:
                await self._sleep(self._poll_seconds)
            elif sent:
                pause = _FIRST_PAUSE
                if len(rows) < BATCH_ROWS:  # what comes meanwhile goes together
                    await self._rest(begun + pace(time.monotonic() - begun))
            else:
                # A wake-up must not turn an outage of the broker into a busy loop.
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _send(self, connection: Connection, rows: Sequence[Record]) -> bool:
        """Send and delete what can be sent; True when something was."""
        try:
            lanes = await self._sending.lanes(rows)
            progress = False
            while lanes:
                if acked := await self._sending.step(lanes):
                    await connection.execute(DELETE, acked)
                    progress = True
        except (BrokerUnavailableError, KafkaError) as error:
            log.warning(
                "The broker is away: events wait in the outbox",
                extra={"service": self._service, "error": repr(error)},
            )
            await self._sending.discard()
            return False
        except BaseException:
            await self._sending.discard()
            raise
        return progress

    async def _look_around(self, connection: Connection, shards: Shards) -> None:
        """Share the shards with whoever came or went, and pass wake-ups on to the others."""
        now = time.monotonic()
        if now >= self._balance_at:
            self._balance_at = now + _BALANCE_SECONDS
            await shards.balance()
            metrics.RELAY_SHARDS.labels(self._service).set(len(shards.held))
        if now >= self._observe_at:
            self._observe_at = now + _OBSERVE_SECONDS
            await self._observe(connection)
        if self._pass_on and not shards.complete:
            await connection.execute(waking.NOTIFY, waking.channel_of(self._service))
        self._pass_on = False

    async def _observe(self, connection: Connection) -> None:
        row = await connection.fetchrow(OBSERVE)
        if row is not None:
            age = (datetime.now(UTC) - row["oldest"]).total_seconds() if row["oldest"] else 0
            metrics.OUTBOX_ROWS.labels(self._service).set(row["rows"])
            metrics.OUTBOX_OLDEST.labels(self._service).set(max(age, 0))
            metrics.DEAD_LETTERS.labels(self._service).set(row["dead_letters"])

    def _notified(self, connection: Any, sender: int, *_: object) -> None:
        if sender != connection.get_server_pid():  # our own was for the others
            self._wanted.set()

    async def _rest(self, until: float) -> None:
        await asyncio.sleep(until - time.monotonic())

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass
