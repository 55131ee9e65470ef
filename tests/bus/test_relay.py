from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber

from shared.bus import apply, outbox
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import BATCH_BYTES, BATCH_ROWS, READ, Relay
from shared.bus.sending import Sending
from shared.db.locks import lock_devices
from shared.db.pool import Pool, open_pool, transaction
from shared.events import Event, uuid7
from shared.events.inventory import FactChange, FactsChanged
from tests.bus.small import SERVICE, Tap, effects, empty, ids, note, running


def changed(device_id: UUID | None = None, value: object = "1") -> FactsChanged:
    return FactsChanged(
        device_id=device_id or uuid7(),
        observed_at=datetime.now(UTC),
        changes=[FactChange(name="n", value=value)],
    )


async def emit(pool: Pool, *events: FactsChanged) -> None:
    async with transaction(pool) as tx:
        await lock_devices(tx, {event.device_id for event in events})
        await outbox.emit(tx, events)


def values_of(events: Iterable[Event]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = defaultdict(list)
    for event in events:
        assert isinstance(event, FactsChanged)
        found[event.device_id].append(event.changes[0].value)
    return found


def firsts(values: Sequence[Any]) -> list[Any]:
    """What a consumer with an inbox handles: the first time of each."""
    return list(dict.fromkeys(values))


async def test_events_arrive_with_their_envelope(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    event = changed()
    await emit(pool, event)
    async with pool.acquire() as connection:
        [waiting] = await outbox.read(connection, SERVICE)
    async with running(Relay(SERVICE, dsn, kafka)):
        [arrived] = await tap.until(lambda events: len(events) == 1)
        await empty(pool)
    assert arrived.model_dump() == event.model_dump()
    assert arrived.meta == waiting.meta


async def test_a_commit_is_sent_without_waiting_for_the_poll(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    """The poll is an hour: only the wake-up in this process can have sent the second event."""
    async with running(Relay(SERVICE, dsn, kafka, poll_seconds=3600)):
        for number in (1, 2, 3):
            await emit(pool, changed())
            await tap.until(lambda events, wanted=number: len(events) == wanted)  # type: ignore[misc]


async def test_a_notification_of_another_process_wakes(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    relay = Relay(SERVICE, dsn, kafka, poll_seconds=3600)
    async with running(relay):
        await emit(pool, changed())
        await tap.until(lambda events: len(events) == 1)
        async with pool.acquire() as connection, connection.transaction():
            await outbox.emit(connection, [changed()])  # not through `transaction`: wakes nobody
        await pool.execute("SELECT pg_notify('muster_outbox_inventory', '')")
        await tap.until(lambda events: len(events) == 2)


async def test_without_any_wake_up_the_poll_finds_it(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    async with running(Relay(SERVICE, dsn, kafka, poll_seconds=0.1)):
        async with pool.acquire() as connection, connection.transaction():
            await outbox.emit(connection, [changed()])
        await tap.until(lambda events: len(events) == 1)


async def test_each_device_keeps_its_order_under_many_writers(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    devices = [uuid7() for _ in range(7)]
    written: dict[UUID, list[int]] = defaultdict(list)

    async def writer(number: int) -> None:
        for turn in range(25):
            device = devices[(number + turn) % len(devices)]
            async with transaction(pool) as tx:
                await lock_devices(tx, [device])
                value = number * 1000 + turn
                await outbox.emit(tx, [changed(device, value)])
                if turn % 5 == 0:  # a slow transaction: others commit higher ids before it
                    await asyncio.sleep(0.01)
                written[device].append(value)  # still under the lock: the order of commits

    async with running(Relay(SERVICE, dsn, kafka), Relay(SERVICE, dsn, kafka)):
        await asyncio.gather(*(writer(number) for number in range(8)))
        events = await tap.until(lambda events: len({e.meta.event_id for e in events}) == 200)
        await empty(pool)
    arrived = values_of(events)
    assert {device: firsts(values) for device, values in arrived.items()} == written
    for device in devices:
        sequences = [e.meta.sequence for e in events if e.device == device]
        assert sequences == sorted(sequences)


async def test_relays_share_the_shards_and_take_over_those_of_the_dead(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    one, two = Relay(SERVICE, dsn, kafka), Relay(SERVICE, dsn, kafka)
    async with running(one):
        await until(lambda: len(one.shards) == 16)
        async with running(two):
            await until(lambda: len(one.shards) == 8 and len(two.shards) == 8)
            assert set(one.shards) | set(two.shards) == set(range(16))
            await emit(pool, *(changed() for _ in range(60)))
            await empty(pool)
        await until(lambda: len(one.shards) == 16)
        await emit(pool, *(changed() for _ in range(60)))
        events = await tap.until(lambda events: len(events) == 120)
    assert len(values_of(events)) == 120


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.02)


class DiesBeforeDeleting(Relay):
    """Killed between the broker's acknowledgement and the delete."""

    async def _send(self, connection: Any, rows: Any) -> bool:  # noqa: ARG002
        lanes = await self._sending.lanes(rows)
        await self._sending.step(lanes)
        await self._sending.close()
        raise Killed


class DeletesTooEarly(Relay):
    """The planted mistake: rows go before the broker has them."""

    async def _send(self, connection: Any, rows: Any) -> bool:
        await connection.execute(
            "DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows]
        )
        raise Killed


class Killed(Exception):  # noqa: N818
    pass


async def crash_and_recover(
    victim: type[Relay], pool: Pool, dsn: str, kafka: KafkaAccess
) -> list[FactsChanged]:
    """Let a relay of this kind die in the middle and a good one finish its work."""
    device = uuid7()
    events = [changed(device, number) for number in range(20)]
    await emit(pool, *events)
    with pytest.raises(Killed):
        await victim(SERVICE, dsn, kafka).run()
    async with running(Relay(SERVICE, dsn, kafka)):
        await empty(pool)
    return events


async def test_a_relay_that_dies_after_the_ack_repeats_and_loses_nothing(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    events = await crash_and_recover(DiesBeforeDeleting, pool, dsn, kafka)
    arrived = await tap.until(lambda found: len(found) == 40)
    [values] = values_of(arrived).values()
    assert values == [*range(20), *range(20)]
    assert len({event.meta.event_id for event in arrived}) == len(events)
    await apply(pool, SERVICE, {FactsChanged: note}, arrived)
    assert await effects(pool) == ids(arrived[:20])


async def test_the_crash_test_would_catch_rows_deleted_before_the_ack(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    await crash_and_recover(DeletesTooEarly, pool, dsn, kafka)
    await emit(pool, changed(value="afterwards"))
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda found: len(found) > 0)
    assert list(values_of(arrived).values()) == [["afterwards"]]


async def test_events_wait_for_a_broker_that_is_away(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap, unused_tcp_port: int
) -> None:
    away = kafka.model_copy(update={"bootstrap": f"127.0.0.1:{unused_tcp_port}"})
    device = uuid7()
    async with running(relay := Relay(SERVICE, dsn, away)):
        await emit(pool, *(changed(device, number) for number in range(30)))
        await until(lambda: len(relay.shards) == 16)
        await asyncio.sleep(0.5)
        assert relay.healthy()
        assert await pool.fetchval("SELECT count(*) FROM outbox") == 30
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda found: len(found) == 30)
    assert values_of(arrived) == {device: list(range(30))}


async def test_a_lost_database_connection_is_replaced(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    async with running(relay := Relay(SERVICE, dsn, kafka)):
        await until(lambda: len(relay.shards) == 16)
        for number in range(3):
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'muster:inventory:relay' "
                "AND datname = current_database()"
            )
            await emit(pool, changed(value=number))
        await tap.until(lambda found: len({event.meta.event_id for event in found}) == 3)
        await empty(pool)


async def test_a_fatal_error_of_the_producer_replaces_it(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    device = uuid7()
    relay = Relay(SERVICE, dsn, kafka)
    async with running(relay):
        await emit(pool, changed(device, 1))
        await empty(pool)
        broken = relay._sending._producer
        assert broken is not None
        broken._message_accumulator.fail_all(OutOfOrderSequenceNumber())
        await emit(pool, changed(device, 2), changed(device, 3))
        await tap.until(lambda found: len(found) == 3)
        assert relay._sending._producer is not broken
    assert values_of(tap.events) == {device: [1, 2, 3]}


async def test_what_follows_a_failed_batch_stays_behind_it(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Big events fill a batch each; the first one's batch fails once."""
    device = uuid7()
    big = [f"{number}" + "x" * 200_000 for number in range(4)]
    await emit(pool, *(changed(device, value) for value in big))
    steps = []
    real = Sending.step

    async def failing(self: Sending, lanes: Any) -> list[int]:
        steps.append({lane: len(rows) for lane, rows in lanes.items()})
        if len(steps) == 1:
            producer = await self._started()
            real_send = producer.send_batch

            async def refuse(*args: Any, **options: Any) -> Any:
                future = await real_send(*args, **options)
                producer._message_accumulator.fail_all(OutOfOrderSequenceNumber())
                return future

            monkeypatch.setattr(producer, "send_batch", refuse)
        return await real(self, lanes)

    monkeypatch.setattr(Sending, "step", failing)
    async with running(Relay(SERVICE, dsn, kafka)):
        arrived = await tap.until(lambda found: len({e.meta.event_id for e in found}) == 4)
        await empty(pool)
    assert len(steps) >= 5
    assert firsts(values_of(arrived)[device]) == big


async def test_a_topic_that_does_not_exist_holds_up_no_other(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    await emit(pool, *(changed() for _ in range(3)))
    await pool.execute("UPDATE outbox SET aggregatetype = 'muster.no-such-topic'")
    await emit(pool, changed(value="fine"))
    async with running(Relay(SERVICE, dsn, kafka)):
        [arrived] = await tap.until(lambda found: len(found) == 1)
    assert list(values_of([arrived]).values()) == [["fine"]]
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 3


async def test_a_service_in_the_same_database_is_not_disturbed(
    dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    """Locks are database-wide, so their numbers must differ from service to service."""
    inventory, compliance = Relay(SERVICE, dsn, kafka), Relay("compliance", dsn, kafka)
    async with running(inventory, compliance):
        await until(lambda: len(inventory.shards) == 16 and len(compliance.shards) == 16)


async def test_an_event_of_many_megabytes_arrives(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    await emit(pool, changed(value="a" * 5_000_000), changed(value="small"))
    async with running(Relay(SERVICE, dsn, kafka)):
        await tap.until(lambda found: len(found) == 2)
        await empty(pool)


async def test_a_batch_is_bounded_by_what_it_holds_in_memory(pool: Pool) -> None:
    """Text of one letter is stored at a hundredth of its size: ten of these are no small batch."""
    await emit(pool, *(changed(value="a" * 3_000_000) for _ in range(10)))
    stored = await pool.fetchval("SELECT sum(pg_column_size(payload)) FROM outbox")
    assert stored < BATCH_BYTES
    rows = await pool.fetch(READ, list(range(16)), [], BATCH_ROWS, BATCH_BYTES)
    assert len(rows) == 3
    await pool.execute("DELETE FROM outbox WHERE id = $1", rows[0]["id"])
    rows = await pool.fetch(READ, list(range(16)), [], BATCH_ROWS, 1000)
    assert len(rows) == 1  # one that is larger than all that is allowed comes alone


async def test_a_pool_is_not_needed(dsn: str, kafka: KafkaAccess, tap: Tap) -> None:
    """The relay lives on its own connection: it must work while every pooled one is taken."""
    pool = await open_pool(dsn, name="tests", max_size=1)
    await emit(pool, changed())
    async with pool.acquire(), running(Relay(SERVICE, dsn, kafka)):
        await tap.until(lambda found: len(found) == 1)
    await pool.close()


class Resting(Relay):
    """Rests as long as the test wants."""

    rests = 0

    def __init__(self, dsn: str, kafka: KafkaAccess) -> None:
        super().__init__(SERVICE, dsn, kafka)
        self.resting, self.go_on = asyncio.Event(), asyncio.Event()

    async def _rest(self, until: float) -> None:  # noqa: ARG002 - the test says until when
        self.rests += 1
        self.resting.set()
        await self.go_on.wait()


async def test_what_comes_while_it_rests_goes_together(
    pool: Pool, dsn: str, kafka: KafkaAccess, tap: Tap
) -> None:
    relay = Resting(dsn, kafka)
    events = [changed() for _ in range(4)]
    async with running(relay):
        await emit(pool, events[0])  # after a silence: nobody waits
        await relay.resting.wait()
        for event in events[1:]:
            await emit(pool, event)
        relay.go_on.set()
        await empty(pool)
    wanted = {event.device_id for event in events}
    await tap.until(lambda found: wanted <= values_of(found).keys())
    assert relay.rests <= 2
