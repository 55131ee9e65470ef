from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer

from shared.bus import Handlers, Poison, TryLater, dead_letters, envelope
from shared.bus.handling import Handling
from shared.bus.kafka import KafkaAccess
from shared.bus.runner import Runner
from shared.db.pool import Connection, Pool
from shared.events import Event, Meta, uuid7
from shared.events.access import AccountState
from shared.events.commands import DeviceSeen
from tests.bus.small import (
    SERVICE,
    TOPIC,
    Publisher,
    committed,
    effects,
    ids,
    note,
    running,
    seen,
    until,
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries without pauses between them."""

    async def at_once(self: Handling, seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Handling, "_wait", at_once)


async def test_events_take_effect_once_and_offsets_follow(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    events = [seen() for _ in range(40)]
    before = await committed(kafka, group)
    await publisher.send(*events, *events)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)):
        await until(lambda: enough(pool, 40))
        await until(lambda: is_committed(kafka, group, before + 80))
    assert sorted(await effects(pool)) == sorted(ids(events))


async def enough(pool: Pool, count: int) -> bool:
    return len(await effects(pool)) >= count


async def is_committed(kafka: KafkaAccess, group: str, offset: int) -> bool:
    return await committed(kafka, group) >= offset


async def test_what_was_in_hand_is_committed_when_it_stops(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    before = await committed(kafka, group)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Connection, events: Sequence[Any]) -> None:
        begun.set()
        await go_on.wait()
        await note(tx, events)

    await publisher.send(seen())
    task = asyncio.create_task(Runner(SERVICE, pool, kafka, {DeviceSeen: slow}, group=group).run())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.2)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await effects(pool)) == 1
    assert await committed(kafka, group) == before + 1


async def test_each_device_keeps_its_order(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    devices = [uuid7() for _ in range(6)]
    events = [seen(devices[number * number % 6]) for number in range(120)]
    await publisher.send(*events)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)):
        await until(lambda: enough(pool, 120))
    done = await effects(pool)
    for device in devices:
        sent = [str(e.meta.event_id) for e in events if e.device_id == device]
        assert [one for one in done if one in sent] == sent


async def test_unknown_and_unwanted_types_are_passed_over(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    event = seen()
    tomorrow = dict(envelope.encode(event.TYPE, event.subject, event.meta))
    tomorrow["ce_type"] = b"muster.command.from_the_next_release.v1"
    unwanted = dict(tomorrow, ce_type=b"muster.command.deferred.v1")
    for headers in (tomorrow, unwanted):
        await publisher.raw(event.subject, b"{}", headers.items())
    await publisher.send(event)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)):
        await until(lambda: enough(pool, 1))
    assert await pool.fetchval("SELECT count(*) FROM dead_letter") == 0


def changed(event: Event, **fields: Any) -> list[tuple[str, bytes]]:
    meta = Meta(**{**event.meta.model_dump(), **fields})
    return envelope.encode(event.TYPE, event.subject, meta)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rubbish", "malformed"),
        ("no type", "malformed"),
        ("wrong model", "malformed"),
        ("old", "too_old"),
        ("ahead", "from_the_future"),
        ("random id", "malformed"),
        ("foreign source", "misplaced"),
        ("another's event", "misplaced"),
    ],
)
async def test_poison_becomes_a_dead_letter_at_once(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher, name: str, reason: str
) -> None:
    event, now = seen(), datetime.now(UTC)
    good = event.model_dump_json().encode()
    headers = changed(event)
    value, sent = {
        "rubbish": (b"{", headers),
        "no type": (good, [h for h in headers if h[0] != "ce_type"]),
        "wrong model": (b'{"device_id": "secret-value"}', headers),
        "old": (good, changed(event, event_id=uuid7(now - timedelta(days=46)))),
        "ahead": (good, changed(event, event_id=uuid7(now + timedelta(minutes=6)))),
        "random id": (good, changed(event, event_id=uuid4())),
        "foreign source": (good, changed(event, source="/muster/inventory")),
        "another's event": _made_up(event),
    }[name]
    await publisher.raw(event.subject, value, sent)
    await publisher.send(event)
    handlers: Handlers = {DeviceSeen: note, AccountState: note}
    async with running(Runner(SERVICE, pool, kafka, handlers, group=group)):
        await until(lambda: enough(pool, 1))
        await until(lambda: dead(pool, 1))
    [letter] = await dead_letters.list_(pool)
    assert (letter.reason, letter.topic) == (reason, TOPIC)
    whole = await dead_letters.show(pool, letter.id)
    assert whole is not None
    assert whole.value == value
    assert "secret" not in whole.error + whole.trace


def _made_up(event: Event) -> tuple[bytes, list[tuple[str, bytes]]]:
    """What only the console may tell, as command_queue would write it to a topic of its own."""
    now = datetime.now(UTC)
    about = {"name": "secret", "disabled": False, "created_at": now, "reset_at": None}
    account = AccountState(account_id=uuid7(), roles=[], keys=[], **about)
    headers = envelope.encode(account.TYPE, account.subject, event.meta)
    return account.model_dump_json().encode(), headers


async def dead(pool: Pool, count: int) -> bool:
    rows: int = await pool.fetchval("SELECT count(*) FROM dead_letter")
    return rows >= count


@pytest.mark.usefixtures("quick")
async def test_an_event_that_fails_is_found_and_given_up_alone(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    events = [seen() for _ in range(50)]
    bad = events[23].device_id
    tries: dict[int, int] = defaultdict(int)

    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        await note(tx, batch)
        if any(event.device_id == bad for event in batch):
            tries[len(batch)] += 1
            raise ZeroDivisionError("unexpected")

    await publisher.send(*events)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)):
        await until(lambda: enough(pool, 49))
        await until(lambda: dead(pool, 1))
    assert sorted(await effects(pool)) == sorted(ids([e for e in events if e.device_id != bad]))
    [letter] = await dead_letters.list_(pool)
    assert (letter.reason, letter.error) == ("failed", "ZeroDivisionError: unexpected")
    whole = await dead_letters.show(pool, letter.id)
    assert whole is not None
    assert "test_runner.py" in whole.trace
    assert max(tries.values()) == 5
    announced = await pool.fetch("SELECT payload FROM outbox WHERE aggregatetype LIKE '%dead%'")
    assert [json.loads(row["payload"])["source_event_id"] for row in announced] == [
        str(events[23].meta.event_id)
    ]


@pytest.mark.usefixtures("quick")
async def test_what_a_handler_calls_poison_is_not_tried_again(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    events = [seen() for _ in range(8)]
    calls = 0

    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        nonlocal calls
        if any(event.device_id == events[3].device_id for event in batch):
            calls += len(batch) == 1
            raise Poison("the answer of a command that never was")
        await note(tx, batch)

    await publisher.send(*events)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)):
        await until(lambda: enough(pool, 7))
        await until(lambda: dead(pool, 1))
    assert calls == 1


@pytest.mark.parametrize(
    "error",
    [asyncpg.DeadlockDetectedError("x"), asyncpg.CannotConnectNowError("x"), TryLater("x")],
)
@pytest.mark.usefixtures("quick")
async def test_what_passes_by_itself_is_waited_out_and_never_skipped(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher, error: Exception
) -> None:
    failures = 30

    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        nonlocal failures
        await note(tx, batch)
        failures -= 1
        if failures > 0:
            raise error

    await publisher.send(seen())
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)):
        await until(lambda: enough(pool, 1))
    assert failures == 0
    assert not await dead(pool, 1)


async def test_a_partition_that_waits_holds_up_no_other(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    """One device's events fail in passing for ever; devices of other partitions are served."""
    stuck = seen()

    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        if any(event.device_id == stuck.device_id for event in batch):
            raise TryLater
        await note(tx, batch)

    await publisher.send(stuck)
    runner = Runner(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)
    async with running(runner):
        others = [seen() for _ in range(30)]
        await publisher.send(*others)
        await until(lambda: enough(pool, 10))
        assert runner.healthy()
        assert runner.ready()


@pytest.mark.usefixtures("quick")
async def test_it_stops_before_it_gives_up_everything(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        raise Poison("all of them")

    await publisher.send(*(seen() for _ in range(250)))
    runner = Runner(SERVICE, pool, kafka, {DeviceSeen: handle}, group=group)
    async with running(runner):
        await until(lambda: not_ready(runner))
    given_up = await pool.fetchval("SELECT count(*) FROM dead_letter")
    assert 100 <= given_up <= 110


async def not_ready(runner: Runner) -> bool:
    return not runner.ready()


async def test_a_second_runner_takes_its_part_and_the_rest_when_the_first_ends(
    pool: Pool, kafka: KafkaAccess, group: str, publisher: Publisher
) -> None:
    """Handed over while batches are in hand: everything has its effect once, in order."""
    calls: dict[str, int] = defaultdict(int)

    def counting(name: str) -> Handlers:
        async def handle(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
            calls[name] += len(batch)
            await asyncio.sleep(0.02)
            await note(tx, batch)

        return {DeviceSeen: handle}

    devices = [uuid7() for _ in range(12)]
    events = [seen(devices[number % 12]) for number in range(360)]

    async def publish() -> None:
        for event in events:
            await publisher.send(event)
            await asyncio.sleep(0.005)

    publishing = asyncio.create_task(publish())
    second = Runner(SERVICE, pool, kafka, counting("second"), group=group)
    async with running(second):
        async with running(Runner(SERVICE, pool, kafka, counting("first"), group=group)):
            await until(lambda: both(calls))
        await until(lambda: enough(pool, 360))
    await publishing
    done = await effects(pool)
    assert sorted(done) == sorted(ids(events))
    for device in devices:
        sent = ids([event for event in events if event.device_id == device])
        assert [one for one in done if one in sent] == sent


async def both(calls: dict[str, int]) -> bool:
    return calls["first"] > 0 and calls["second"] > 0


async def test_a_batch_that_will_not_end_is_rolled_back_and_left_to_the_next(
    pool: Pool,
    kafka: KafkaAccess,
    group: str,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.bus.runner._LET_GO_SECONDS", 0.2)
    begun = asyncio.Event()

    async def hang(tx: Connection, batch: Sequence[DeviceSeen]) -> None:
        await note(tx, batch)
        begun.set()
        await asyncio.sleep(3600)

    event = seen()
    await publisher.send(event)
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: hang}, group=group)):
        await begun.wait()
    assert await effects(pool) == []
    async with running(Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)):
        await until(lambda: enough(pool, 1))
    assert await effects(pool) == ids([event])


async def test_it_waits_for_a_broker_that_is_away(
    pool: Pool, kafka: KafkaAccess, unused_tcp_port: int
) -> None:
    away = kafka.model_copy(update={"bootstrap": f"127.0.0.1:{unused_tcp_port}"})
    runner = Runner(SERVICE, pool, away, {DeviceSeen: note})
    async with running(runner):
        await asyncio.sleep(0.5)
        assert runner.ready()
        assert runner.healthy()


async def test_records_that_wait_while_nothing_moves_are_noticed(
    pool: Pool,
    kafka: KafkaAccess,
    group: str,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = AIOKafkaConsumer.getmany

    async def silent(self: AIOKafkaConsumer, *places: Any, **options: Any) -> Any:
        await asyncio.sleep(3600)
        return await real(self, *places, **options)

    runner = Runner(SERVICE, pool, kafka, {DeviceSeen: note}, group=group)
    async with running(runner):
        await publisher.send(seen())
        await until(lambda: enough(pool, 1))
        assert runner.healthy()
    monkeypatch.setattr("shared.bus.lag.STALL_SECONDS", 0.5)
    monkeypatch.setattr("shared.bus.lag._EVERY_SECONDS", 0.1)
    monkeypatch.setattr(AIOKafkaConsumer, "getmany", silent)
    async with running(runner):
        await publisher.send(seen())
        await until(lambda: unhealthy(runner))


async def unhealthy(runner: Runner) -> bool:
    return not runner.healthy()
