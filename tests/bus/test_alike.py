"""A row of the outbox that stands for many events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber

from shared.bus import alike, outbox
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import Relay
from shared.bus.sending import Sending
from shared.db.pool import Pool, transaction
from shared.events import Event, uuid7
from shared.events.inventory import FactChange, FactsChanged
from tests.bus.small import SERVICE, Tap, empty, running

_INSERT = f"""
WITH told AS (
    SELECT $1::smallint AS shard, $2::text AS topic, $3::text AS type, $4::text AS payload,
           $5::uuid AS event_id, now() AS occurred_at, $6::text AS correlation_id,
           $7::text AS causation_id, NULL::text AS traceparent, $8::uuid[] AS device_ids,
           $9::uuid[] AS channel_ids, 1 AS place
)
{alike.EMIT.format(source="told")}
"""


def _changed(device_id: UUID, value: object) -> FactsChanged:
    return FactsChanged(
        device_id=device_id,
        observed_at=datetime.now(UTC),
        changes=[FactChange(name="n", value=str(value))],
    )


def _devices(shard: int) -> Iterator[UUID]:
    while True:
        device = uuid7()
        if outbox.shard_of(str(device)) == shard:
            yield device


async def _emit(pool: Pool, channels: dict[UUID, UUID], shard: int) -> outbox.Row:
    row = outbox.row_of(_changed(alike.DEVICE, alike.CHANNEL))
    alike.check(row.payload)
    async with transaction(pool) as tx:
        await tx.execute(
            _INSERT,
            shard,
            row.topic,
            row.type,
            row.payload,
            row.event_id,
            row.correlation_id,
            str(uuid7()),
            list(channels),
            list(channels.values()),
        )
    return row


def _values(events: Collection[Event]) -> dict[UUID, Any]:
    found = {}
    for event in events:
        assert isinstance(event, FactsChanged)
        found[event.device_id] = event.changes[0].value
    return found


@pytest.fixture
def channels() -> dict[UUID, UUID]:
    devices = _devices(3)
    return {next(devices): uuid7() for _ in range(40)}


async def test_one_row_is_one_event_for_each_device(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap, channels: dict[UUID, UUID]
) -> None:
    row = await _emit(pool, channels, 3)
    async with pool.acquire() as connection:
        waiting = await outbox.read(connection, SERVICE)
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda events: len(events) == 40)
        await empty(pool)
    assert _values(arrived) == {device: str(channel) for device, channel in channels.items()}
    assert {event.device for event in arrived} == set(channels)
    assert {event.meta.event_id: event.meta for event in arrived} == {
        event.meta.event_id: event.meta for event in waiting
    }
    ids = {event.meta.event_id for event in arrived}
    assert len(ids) == 40
    # What the inbox asks of an id: a UUIDv7 of the row's moment.
    assert {(one.version, one.variant, one.hex[:16]) for one in ids} == {
        (7, row.event_id.variant, row.event_id.hex[:16])
    }


async def test_a_row_stays_until_the_broker_has_all_of_it_and_its_repeats_are_known(
    pool: Pool,
    dsn: str,
    kafka: KafkaAccess,
    tap: Tap,
    channels: dict[UUID, UUID],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One partition's batch fails once: the others' events are there, and come again."""
    await _emit(pool, channels, 3)
    real, calls = Sending.step, 0

    async def failing(self: Sending, lanes: Any) -> list[int]:
        nonlocal calls
        calls += 1
        if calls > 1:
            return await real(self, lanes)
        assert len(lanes) > 1
        producer = await self._started()
        send = producer.send_batch
        failed: list[Any] = []

        async def refuse(*args: Any, **options: Any) -> Any:
            if failed:
                return await send(*args, **options)
            failed.append(asyncio.get_running_loop().create_future())
            failed[0].set_exception(OutOfOrderSequenceNumber())
            return failed[0]

        monkeypatch.setattr(producer, "send_batch", refuse)
        done = await real(self, lanes)
        assert done == []
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 1
        return done

    monkeypatch.setattr(Sending, "step", failing)
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda found: len({one.device for one in found}) == 40)
        await empty(pool)
    times = Counter(event.device for event in arrived)
    assert set(times.values()) == {1, 2}
    assert len({event.meta.event_id for event in arrived}) == 40


async def test_what_comes_later_about_a_device_comes_later(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap, channels: dict[UUID, UUID]
) -> None:
    await _emit(pool, channels, 3)
    async with transaction(pool) as tx:
        await outbox.emit(tx, [_changed(device, "later") for device in channels])
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda events: len(events) == 80)
    assert set(_values(arrived).values()) == {"later"}
    for device in channels:
        first, second = [event.meta.sequence for event in arrived if event.device == device]
        assert first < second


@pytest.mark.parametrize("payload", ["{}", f'{{"a": "{alike.DEVICE}", "b": "{alike.DEVICE}"}}'])
def test_a_pattern_that_does_not_name_its_device_once_is_refused(payload: str) -> None:
    with pytest.raises(ValueError, match="does not name its device once"):
        alike.check(payload)
