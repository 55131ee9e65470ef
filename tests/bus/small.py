"""A service of the smallest kind, and what tests of the bus do with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.bus import envelope
from shared.bus.kafka import KafkaAccess, stop
from shared.bus.relay import Relay
from shared.bus.runner import Runner
from shared.bus.testing import travelled
from shared.db.pool import Connection, Pool
from shared.events import Event, uuid7
from shared.events.commands import DeviceSeen

SERVICE = "inventory"
TABLES = """
CREATE TABLE device (device_id uuid PRIMARY KEY, name text, sequence bigint NOT NULL DEFAULT 0);
CREATE TABLE effect (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id uuid NOT NULL,
    type text NOT NULL,
    note text
);
"""


TOPIC = "muster.command.v1"


def seen(device_id: UUID | None = None) -> DeviceSeen:
    [event] = travelled(
        DeviceSeen(device_id=device_id or uuid7(), seen_at=datetime.now(UTC)),
        service="command_queue",
    )
    return event


async def note(tx: Connection, events: Sequence[Any]) -> None:
    await tx.executemany(
        "INSERT INTO effect (device_id, type, note) VALUES ($1, $2, $3)",
        [(event.device_id, event.TYPE, str(event.meta.event_id)) for event in events],
    )


async def effects(pool: Pool) -> list[str]:
    rows = await pool.fetch("SELECT note FROM effect ORDER BY place")
    return [row["note"] for row in rows]


def ids(events: Sequence[Event]) -> list[str]:
    return [str(event.meta.event_id) for event in events]


class Publisher:
    """Writes records as a relay would, and worse ones."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._producer = kafka.producer()

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await stop(self._producer)

    async def send(self, *events: Event, topic: str = TOPIC) -> None:
        for event in events:
            headers = envelope.encode(event.TYPE, event.subject, event.meta)
            await self.raw(event.subject, event.model_dump_json().encode(), headers, topic)

    async def raw(self, key: str, value: bytes | None, headers: Any, topic: str = TOPIC) -> None:
        await self._producer.send_and_wait(topic, value, key.encode(), headers=list(headers))


@contextlib.asynccontextmanager
async def running(*parts: Relay | Runner) -> AsyncIterator[None]:
    """Relays and runners that end a test by their failure."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(part.run()) for part in parts]
        yield
        for task in started:
            task.cancel()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.05)


async def empty(pool: Pool) -> None:
    """Return when the outbox is."""
    while await pool.fetchval("SELECT EXISTS (SELECT FROM outbox)"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def committed(kafka: KafkaAccess, group: str) -> int:
    admin = kafka.admin()
    await admin.start()
    offsets = await admin.list_consumer_group_offsets(group)
    await admin.close()
    return sum(max(at.offset, 0) for at in offsets.values())


class Tap:
    """Reads what is written to some topics from now on."""

    def __init__(self, kafka: KafkaAccess, names: Sequence[str]) -> None:
        self._consumer = kafka.consumer(None, names)
        self.events: list[Event] = []

    async def open(self) -> None:
        await self._consumer.start()
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        for partition, offset in ends.items():
            self._consumer.seek(partition, offset)

    async def close(self) -> None:
        await stop(self._consumer)

    async def until(self, enough: Callable[[list[Event]], bool]) -> list[Event]:
        """All events since the tap was opened, in the order of their partitions."""
        while not enough(self.events):
            batches = await self._consumer.getmany(timeout_ms=200)
            for records in batches.values():
                self.events += [envelope.decode(record.headers, record.value) for record in records]
        return self.events
