from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.bus import outbox, waking
from shared.bus.context import correlated, trail
from shared.bus.testing import travelled
from shared.db.pool import Pool, transaction
from shared.events import Event, uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandRequested, DeviceSeen
from shared.events.inventory import FactChange, FactsChanged

SERVICE = "inventory"


def changed(name: str = "os.version", value: object = "1") -> FactsChanged:
    return FactsChanged(
        device_id=uuid7(),
        observed_at=datetime.now(UTC),
        changes=[FactChange(name=name, value=value)],
    )


async def emitted(pool: Pool, *events: Event) -> list[Event]:
    async with transaction(pool) as tx:
        await outbox.emit(tx, events)
    async with pool.acquire() as connection:
        return await outbox.read(connection, SERVICE)


async def test_events_wait_in_the_order_they_were_emitted(pool: Pool) -> None:
    events = [changed(value=number) for number in range(50)]
    waiting = await emitted(pool, *events)
    assert [event.model_dump() for event in waiting] == [event.model_dump() for event in events]
    sequences = [event.meta.sequence for event in waiting]
    assert sequences == sorted(set(sequences))
    assert {event.meta.source for event in waiting} == {"/muster/inventory"}


async def roll_back(pool: Pool) -> None:
    async with transaction(pool) as tx:
        await outbox.emit(tx, [changed()])
        raise RuntimeError


async def test_what_is_rolled_back_was_never_emitted(pool: Pool) -> None:
    with pytest.raises(RuntimeError):
        await roll_back(pool)
    assert await emitted(pool) == []


async def test_the_cause_gives_correlation_and_causation(pool: Pool) -> None:
    [cause] = travelled(changed(), service=SERVICE)
    [event] = await emitted(pool, changed().because(cause))
    assert event.meta.causation_id == str(cause.meta.event_id)
    assert event.meta.correlation_id == cause.meta.correlation_id


async def test_without_a_cause_the_correlation_is_the_one_in_hand(pool: Pool) -> None:
    with correlated("request-1"):
        [event] = await emitted(pool, changed())
    assert event.meta.correlation_id == "request-1"
    assert event.meta.causation_id is None


async def test_in_a_batch_each_event_has_the_correlation_of_its_own_request(pool: Pool) -> None:
    trails = []
    for name in ("request-1", "request-2"):
        with correlated(name):
            trails.append(trail())
    events = await emitted(pool, *(changed().along(*one) for one in trails))
    assert [event.meta.correlation_id for event in events] == ["request-1", "request-2"]


async def test_the_topic_of_each_service_carries_its_name(pool: Pool) -> None:
    ask = CommandRequested(
        device_id=uuid7(), kind="inventory.refresh", idempotency_key="1", actor="job:refresh"
    )
    await emitted(pool, ask)
    topics = await pool.fetchval("SELECT array_agg(aggregatetype) FROM outbox")
    assert topics == ["muster.command-request.inventory.v1"]


async def test_another_services_topic_is_refused(pool: Pool) -> None:
    with pytest.raises(outbox.ForeignTopicError, match="written by command_queue"):
        await emitted(pool, DeviceSeen(device_id=uuid7(), seen_at=datetime.now(UTC)))
    assert await emitted(pool) == []


async def test_an_event_that_fits_only_compressed_is_taken(pool: Pool) -> None:
    [event] = await emitted(pool, changed(value="a" * 2_000_000))
    assert isinstance(event, FactsChanged)


async def test_an_event_too_large_for_kafka_is_refused_before_it_can_block(pool: Pool) -> None:
    noise = "".join(uuid4().hex for _ in range(60_000))
    with pytest.raises(outbox.EventTooLargeError, match="send ordered parts"):
        await emitted(pool, changed(value=noise))


async def test_nul_characters_survive(pool: Pool) -> None:
    [event] = await emitted(pool, changed(value="a\x00b"))
    assert isinstance(event, FactsChanged)
    assert event.changes[0].value == "a\x00b"


async def test_a_new_epoch_is_above_all_earlier_sequences(pool: Pool) -> None:
    [before] = await emitted(pool, changed())
    async with transaction(pool) as tx:
        assert await outbox.new_epoch(tx) == 1
        await tx.execute("ALTER TABLE outbox ALTER id RESTART")
        await tx.execute("DELETE FROM outbox")
    [after] = await emitted(pool, changed())
    assert after.meta.sequence == 2**40 + 1
    assert after.meta.sequence > before.meta.sequence


async def test_the_columns_are_those_of_debezium(pool: Pool) -> None:
    event = changed()
    await emitted(pool, event)
    row = await pool.fetchrow("SELECT id, aggregatetype, aggregateid, type, payload FROM outbox")
    assert row is not None
    assert row["aggregatetype"] == "muster.inventory.v1"
    assert row["aggregateid"] == str(event.device_id)
    assert row["type"] == FactsChanged.TYPE
    assert row["payload"] == event.model_dump_json()


async def test_long_events_are_packed_by_the_faster_method_where_there_is_one(pool: Pool) -> None:
    async with pool.acquire() as connection:
        offered = await connection.fetchval(
            "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
        await emitted(pool, changed(value="a" * 50_000))
        used = await connection.fetchval("SELECT pg_column_compression(payload) FROM outbox")
    assert used == ("lz4" if offered else "pglz")


async def test_shards_are_the_same_for_ever() -> None:
    assert [outbox.shard_of(key) for key in ("a", "b", "device")] == [3, 9, 14]
    assert {outbox.shard_of(str(uuid7())) for _ in range(1000)} == set(range(16))


class Bell:
    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def wake(self) -> None:
        self.rung.set()


async def test_a_commit_wakes_and_a_rollback_does_not(pool: Pool) -> None:
    bell = Bell()
    with waking.listening(SERVICE, bell):
        with pytest.raises(RuntimeError):
            await roll_back(pool)
        assert not bell.rung.is_set()
        async with transaction(pool) as tx:
            await outbox.emit(tx, [changed()])
            assert not bell.rung.is_set()
        assert bell.rung.is_set()


async def test_audit_events_are_keyed_by_their_target(pool: Pool) -> None:
    [event] = await emitted(
        pool,
        AuditRecorded(audit_id=uuid7(), actor="a", permission="p", action="x", target="device:1"),
    )
    assert event.subject == "device:1"
