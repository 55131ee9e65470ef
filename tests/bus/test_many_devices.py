"""An event about many devices: all of them are locked, and a transaction takes only so many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from shared.bus import apply
from shared.bus.handling import MOST_DEVICES, _portions
from shared.bus.testing import travelled
from shared.db.pool import Connection, Pool
from shared.events import uuid7
from shared.events.commands import CommandQueued, QueuedTarget
from tests.bus.small import SERVICE, seen


def _queued(*devices: UUID) -> CommandQueued:
    [event] = travelled(
        CommandQueued(
            command_id=uuid7(),
            kind="raw",
            queued_at=datetime.now(UTC),
            targets=[QueuedTarget(device_id=device, channel_id=uuid7()) for device in devices],
        ),
        service="command_queue",
    )
    return event


async def test_every_device_of_an_event_is_locked_before_it_is_handled(pool: Pool) -> None:
    first, second, third = uuid7(), uuid7(), uuid7()
    free: list[UUID] = []

    async def look(_tx: Connection, events: Sequence[CommandQueued]) -> None:
        assert len(events) == 2
        async with pool.acquire() as other:
            rows = await other.fetch("SELECT device_id FROM device FOR UPDATE SKIP LOCKED")
            free.extend(row["device_id"] for row in rows)

    idle = uuid7()
    await pool.execute("INSERT INTO device (device_id) VALUES ($1), ($2)", second, idle)
    await apply(pool, SERVICE, {CommandQueued: look}, [_queued(second, first), _queued(third)])
    assert free == [idle]
    assert await pool.fetchval("SELECT count(*) FROM device") == 4


def _sizes(counts: Sequence[int]) -> list[list[int]]:
    arrivals: list[Any] = [
        SimpleNamespace(event=SimpleNamespace(devices=range(count))) for count in counts
    ]
    return [[len(one.event.devices) for one in some] for some in _portions(arrivals)]


def test_a_transaction_takes_so_many_devices_and_every_event_once_and_in_order() -> None:
    most = MOST_DEVICES
    assert _sizes([]) == []
    assert _sizes([0, 0]) == [[0, 0]]
    assert _sizes([1] * most) == [[1] * most]
    assert _sizes([1] * most + [1]) == [[1] * most, [1]]
    assert _sizes([most * 3]) == [[most * 3]]
    assert _sizes([1, most, 0, 1]) == [[1], [most, 0], [1]]
    assert _sizes([most * 2, 1, 2]) == [[most * 2], [1, 2]]


def test_what_names_one_device_locks_it_and_what_names_none_locks_none() -> None:
    device = uuid7()
    assert seen(device).devices == (device,)
    assert _queued(device, device).devices == [device, device]
    assert _queued(device).subject == str(device)
