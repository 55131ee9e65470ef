from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.bus import Handlers, apply, outbox
from shared.bus.applying import newest, rounds
from shared.bus.testing import travelled
from shared.db.pool import Connection, Pool
from shared.events import Event, uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandDeferred, CommandEvent, DeviceSeen
from shared.events.device_state import DeviceState
from shared.events.devices import Ownership, Platform
from shared.events.inventory import SectionReported

SERVICE = "inventory"


def seen(device_id: UUID | None = None) -> DeviceSeen:
    return DeviceSeen(device_id=device_id or uuid7(), seen_at=datetime.now(UTC))


def deferred(device_id: UUID) -> CommandDeferred:
    return CommandDeferred(device_id=device_id, command_id=uuid7(), push_wanted=False)


def state(device_id: UUID, name: str) -> DeviceState:
    return DeviceState(
        device_id=device_id,
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        name=name,
        enrollments=[],
    )


async def note(tx: Connection, events: Sequence[Any]) -> None:
    await tx.executemany(
        "INSERT INTO effect (device_id, type) VALUES ($1, $2)",
        [(event.device_id, event.TYPE) for event in events],
    )
    await outbox.emit(
        tx,
        [
            SectionReported(
                device_id=event.device_id, observed_at=datetime.now(UTC), section="security"
            ).because(event)
            for event in events
        ],
    )


HANDLERS: Handlers = {DeviceSeen: note, CommandDeferred: note}


async def test_an_event_that_comes_again_has_no_second_effect(pool: Pool) -> None:
    events = travelled(seen(), seen(), service="command_queue")
    await apply(pool, SERVICE, HANDLERS, events)
    await apply(pool, SERVICE, HANDLERS, [*events, *events])
    assert await pool.fetchval("SELECT count(*) FROM effect") == 2
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 2


async def test_a_repeat_inside_one_batch_counts_once(pool: Pool) -> None:
    [event] = travelled(seen(), service="command_queue")
    await apply(pool, SERVICE, HANDLERS, [event, event])
    assert await pool.fetchval("SELECT count(*) FROM effect") == 1


async def test_a_failing_handler_leaves_nothing_behind(pool: Pool) -> None:
    async def fail(tx: Connection, events: Sequence[Any]) -> None:
        await note(tx, events)
        raise RuntimeError

    events = travelled(seen(), service="command_queue")
    with pytest.raises(RuntimeError):
        await apply(pool, SERVICE, {DeviceSeen: fail}, events)
    for table in ("inbox", "effect", "outbox", "device"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0
    await apply(pool, SERVICE, HANDLERS, events)
    assert await pool.fetchval("SELECT count(*) FROM effect") == 1


async def test_an_unknown_device_gets_a_shell_row_that_is_locked(pool: Pool) -> None:
    event = seen()

    async def check(tx: Connection, events: Sequence[Any]) -> None:
        async with pool.acquire() as other:
            free = await other.fetch("SELECT FROM device FOR NO KEY UPDATE SKIP LOCKED")
        assert free == []
        assert await tx.fetchval("SELECT device_id FROM device") == event.device_id

    await apply(pool, SERVICE, {DeviceSeen: check}, travelled(event, service="command_queue"))
    assert await pool.fetchval("SELECT count(*) FROM device") == 1


async def test_a_key_appears_once_in_each_call_and_in_order() -> None:
    one, two = uuid7(), uuid7()
    events: list[CommandEvent] = [seen(one), deferred(one), seen(two), seen(one), deferred(two)]
    calls = [(model.__name__, of_type) for model, of_type in rounds(events)]
    assert [name for name, _ in calls] == [
        "DeviceSeen",
        "CommandDeferred",
        "DeviceSeen",
    ]
    assert [event.subject for event in calls[0][1]] == [str(one), str(two)]
    assert [event.subject for event in calls[1][1]] == [str(one), str(two)]
    for _, of_type in calls:
        assert len({event.subject for event in of_type}) == len(of_type)


async def test_what_only_adds_is_handed_over_whole_and_in_order() -> None:
    one, two = (
        AuditRecorded(audit_id=uuid7(), actor="a", permission="p", action="x", target=target)
        for target in ("t", "u")
    )
    device = uuid7()
    events: list[Event] = [one, seen(device), one, two, seen(device), one]
    calls = [(model, of_type) for model, of_type in rounds(events)]
    assert [model for model, _ in calls] == [AuditRecorded, DeviceSeen, DeviceSeen]
    assert calls[0][1] == [one, one, two, one]


async def test_each_key_meets_its_events_in_order(pool: Pool) -> None:
    met: dict[str, list[int]] = {}

    async def remember(tx: Connection, events: Sequence[Event]) -> None:
        for event in events:
            met.setdefault(event.subject, []).append(event.meta.sequence)

    devices = [uuid7() for _ in range(5)]
    mixed: list[CommandEvent] = []
    for number in range(60):
        device = devices[number * number % 5]
        mixed.append(seen(device) if number % 3 else deferred(device))
    events = travelled(*mixed, service="command_queue")
    await apply(pool, SERVICE, {DeviceSeen: remember, CommandDeferred: remember}, events)
    assert sum(map(len, met.values())) == 60
    assert all(sequences == sorted(sequences) for sequences in met.values())


async def test_compacted_events_skip_the_inbox_and_can_be_read_again(pool: Pool) -> None:
    calls: list[str | None] = []

    async def replace(tx: Connection, events: Sequence[DeviceState]) -> None:
        calls.extend(event.name for event in events)

    events = travelled(state(uuid7(), "one"), service="enrollment")
    for _ in range(2):
        await apply(pool, SERVICE, {DeviceState: replace}, events)
    assert calls == ["one", "one"]
    assert await pool.fetchval("SELECT count(*) FROM inbox") == 0


async def test_the_inbox_finds_a_partition_for_every_event(pool: Pool) -> None:
    await apply(pool, SERVICE, HANDLERS, travelled(seen(), service="command_queue"))
    assert await pool.fetchval("SELECT count(*) FROM inbox_default") == 0
    assert await pool.fetchval("SELECT count(*) FROM inbox") == 1


def test_only_the_writer_of_a_topic_can_be_pretended() -> None:
    with pytest.raises(ValueError, match="written by command_queue"):
        travelled(seen(), service="inventory")


def test_of_states_in_one_batch_only_the_newest_counts() -> None:
    one, other = uuid7(), uuid7()
    first, second, third = travelled(
        state(one, "first"), state(other, "its own"), state(one, "second"), service="enrollment"
    )
    heard, again = travelled(seen(one), seen(one), service="command_queue")
    assert newest([first, heard, second, third, again]) == [heard, second, third, again]
    assert newest([third, second, first]) == [third, second]  # first came a second time


async def test_a_state_that_cannot_be_handled_does_not_hide_the_one_before(pool: Pool) -> None:
    """A batch that fails is split: so each state gets its turn."""
    device_id = uuid7()
    told: list[str | None] = []

    async def replace(tx: Connection, states: Sequence[DeviceState]) -> None:
        told.extend(one.name for one in states)

    both = travelled(state(device_id, "old"), state(device_id, "new"), service="enrollment")
    await apply(pool, SERVICE, {DeviceState: replace}, both)
    assert told == ["new"]
    await apply(pool, SERVICE, {DeviceState: replace}, both[:1])
    assert told == ["new", "old"]
